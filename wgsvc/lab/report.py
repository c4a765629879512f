"""What the laboratory shows: a drawing, what was done and seen, a table of checks; or JSON."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from wgsvc.lab.check import Check

_COLOURS = {
    "host": "1",
    "tunnel": "36",
    "command": "1",
    "quiet": "2",
    "good": "32",
    "bad": "1;31",
    "pattern": "1;33",
}
_NAME_WIDTH = 27


class Report:
    """Writes results to `out`; what is being done now, to `progress` if that is a terminal."""

    def __init__(self, out: TextIO = sys.stdout, progress: TextIO = sys.stderr) -> None:
        self._out = out
        self._progress = progress
        self._colour = out.isatty() and not os.environ.get("NO_COLOR")
        encoding = (out.encoding or "ascii").lower().replace("-", "")
        self.unicode = encoding == "utf8"
        self._transient = progress.isatty()

    def paint(self, text: str, role: str) -> str:
        """Colour a piece of text if there is colour."""
        return f"\x1b[{_COLOURS[role]}m{text}\x1b[0m" if self._colour else text

    def doing(self, what: str) -> None:
        """Say what is being done now; on a terminal the line goes when the next one comes."""
        if self._transient:
            self._progress.write(f"\r\x1b[K  {what} ...")
        else:
            self._progress.write(f"{what}\n")
        self._progress.flush()

    def settle(self) -> None:
        """Take the line of what is being done away: it is done."""
        if self._transient:
            self._progress.write("\r\x1b[K")
            self._progress.flush()

    def line(self, text: str = "") -> None:
        """Write a line."""
        self.settle()
        if not self.unicode:
            text = text.encode("ascii", "replace").decode()
        self._out.write(text + "\n")
        self._out.flush()

    def check(self, check: Check) -> None:
        """Show what a check did and saw."""
        for index, shown in enumerate(check.shown):
            # A row of one-line answers reads as one thing.
            if index == 0 or len(shown.lines) > 1 or len(check.shown[index - 1].lines) > 1:
                self.line()
            self.line(f"  {self.paint(shown.host, 'host')}# {self.paint(shown.command, 'command')}")
            for text in shown.lines:
                self.line(f"    {self._evidence(text)}" if text.strip() else "")

    def _evidence(self, text: str) -> str:
        if not self._colour:
            return text
        # tcpdump's own columns: the text at the right is where the pattern can be seen.
        head, gap, tail = text.rpartition("  ")
        if text.lstrip().startswith("0x") and "PLAIN" in tail:
            return self.paint(head + gap, "quiet") + self.paint(tail, "pattern")
        return self.paint(text, "quiet")

    def table(self, checks: Sequence[Check]) -> None:
        """Show all checks, one line each where the terminal is wide enough."""
        self.line()
        width = max(shutil.get_terminal_size((100, 24)).columns, 60) if self._out.isatty() else 160
        for check in checks:
            mark = "ok" if check.passed else "FAILED"
            if self.unicode:
                mark = "✓" if check.passed else "✗"
            painted = self.paint(mark, "good" if check.passed else "bad")
            room = width - _NAME_WIDTH - len(mark) - 5
            first, *more = _clauses(check.measured, max(room, 20)) or [""]
            self.line(f"  {painted} {check.name:<{_NAME_WIDTH}} {first}")
            for rest in more:
                self.line(" " * (_NAME_WIDTH + len(mark) + 4) + rest)
        failed = sum(not check.passed for check in checks)
        verdict = f"{len(checks) - failed} of {len(checks)} checks passed"
        self.line()
        self.line(f"  {self.paint(verdict, 'bad' if failed else 'good')}")


def _clauses(text: str, width: int) -> list[str]:
    """Wrap, but only after a comma or semicolon."""
    glue = "\N{NO-BREAK SPACE}"
    glued = text.replace(" ", glue).replace(f",{glue}", ", ").replace(f";{glue}", "; ")
    return [line.replace(glue, " ") for line in textwrap.wrap(glued, width)]


def as_json(
    platform: str,
    addresses: dict[tuple[str, str], str],
    checks: Sequence[Check],
    *,
    captures: Sequence[str],
    entering: dict[str, str],
) -> dict[str, Any]:
    """Return the report as JSON has it. `entering` is empty unless the lab was kept."""
    hosts: dict[str, dict[str, str]] = {}
    for (host, interface), address in addresses.items():
        hosts.setdefault(host, {})[interface] = address
    return {
        "schema": 1,
        "platform": platform,
        "passed": all(check.passed for check in checks),
        "hosts": hosts,
        "checks": [
            {
                "name": check.name,
                "passed": check.passed,
                "measured": check.measured,
                "shown": [shown._asdict() for shown in check.shown],
            }
            for check in checks
        ],
        "captures": list(captures),
        "kept": bool(entering),
        "enter": entering,
    }
