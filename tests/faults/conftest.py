"""
The fault catalogue: what is done to it, and what holds nevertheless.

Each test is a row and named after its number; `@row` says what it does and what holds,
beside the seven invariants, which hold after every one. With `--write-reliability` a
run writes docs/reliability.md from what it saw.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.rows import Text
from tests.tunnels import ROOT, host_fixture, pytest_runtest_makereport

__all__ = ["host_fixture", "pytest_runtest_makereport"]

REPORT = Path(ROOT, "docs", "reliability.md")
GROUPS = {
    "C": "Crashes of the supervisor and of its children",
    "K": "Concurrency",
    "T": "Time and identity",
    "B": "Boot and stale state",
    "D": "Resources",
    "S": "Stop",
}
HEAD = """\
# Reliability

What is done to a running wgsvc, and what holds nevertheless. The table is written by the tests
themselves: `python -m pytest tests/faults --write-reliability`, as root, on {system}.

After every single case seven more things are checked by one function
(`seven_invariants` in tests/tunnels.py): at most one wireguard-go an interface; no interface,
address, route or rule that no file explains; nothing foreign touched; the next start and the next
stop succeed without cleaning by hand; no key in any argument, environment, log, output or state
file; no process, tun descriptor or zombie left over; `status` and its exit code tell the truth.

{rows} rows, {cases} cases: {passed} passed, {failed} failed, {skipped} skipped.
"""


class Row(NamedTuple):
    """One test function: its text, and how each of its cases ended."""

    text: Text
    outcomes: dict[str, str]


ROWS: dict[tuple[str, str], Row] = {}
KEYS: dict[str, tuple[str, str]] = {}
"""Which row a node ID belongs to."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option."""
    parser.addoption("--write-reliability", action="store_true", help="write docs/reliability.md")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take the number of each row from its test's name, its text from the test's `@row`."""
    for item in items:
        if not isinstance(item, pytest.Function) or Path(__file__).parent not in item.path.parents:
            continue
        text = getattr(item.function, "row", None)
        if text is None:
            raise pytest.UsageError(f"{item.nodeid} has no @row to say what it does")
        KEYS[item.nodeid] = (item.originalname.split("_")[1].upper(), item.originalname)
        ROWS.setdefault(KEYS[item.nodeid], Row(text, {}))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a case ended; a failed teardown is a failed case."""
    key = KEYS.get(report.nodeid)
    if key is not None and (report.when == "call" or report.outcome != "passed"):
        ROWS[key].outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the table, if that was asked for."""
    if session.config.getoption("--write-reliability", default=False):
        REPORT.write_text(table())


def table() -> str:
    """Return docs/reliability.md."""
    ends = Counter(end for row in ROWS.values() for end in row.outcomes.values())
    release = os.uname().release.partition("-")[0]
    system = f"{os.uname().sysname} {release}"
    text = HEAD.format(
        system=system,
        rows=len(ROWS),
        cases=ends.total(),
        **{end: ends[end] for end in ("passed", "failed", "skipped")},
    )
    for letter, title in GROUPS.items():
        rows = sorted(key for key in ROWS if key[0].startswith(letter))
        if not rows:
            continue
        text += f"\n## {title}\n\n| row | what is done | what holds | result |\n|---|---|---|---|\n"
        for key in rows:
            row = ROWS[key]
            text += f"| {key[0]} | {row.text.does} | {row.text.holds} | {told(row)} |\n"
    return text


def told(row: Row) -> str:
    """Return the result of a row in words."""
    ends = Counter(row.outcomes.values())
    return ", ".join(f"{ends[end]} {end}" for end in ("passed", "failed", "skipped") if ends[end])
