"""Where a parse collects what it finds, bounded, so that a hostile file can't fill memory."""

from __future__ import annotations

from wgsvc.config.model import Diagnostic

SHOWN_MAX = 20  # of a kind; the rest is counted

Kind = tuple[str, str, str]
"""Severity, key, and the rule that was broken: a text of the program's own, {} for values."""


class Findings:
    """Errors and warnings in the order they were found."""

    __slots__ = ("_counts", "_items", "has_errors")

    def __init__(self) -> None:
        self._items: list[tuple[Diagnostic, Kind]] = []
        self._counts: dict[Kind, int] = {}
        self.has_errors = False

    def error(
        self, file: str, line: int, column: int, key: str, message: str, *, rule: str = ""
    ) -> None:
        """Note what keeps the file from being used. `rule` is the message without its values."""
        if self.wants("error", key, rule or message):
            self.add(Diagnostic("error", file, line, column, key, message), rule or message)

    def warning(
        self, file: str, line: int, column: int, key: str, message: str, *, rule: str = ""
    ) -> None:
        """Note what is allowed but hardly meant. `rule` is the message without its values."""
        if self.wants("warning", key, rule or message):
            self.add(Diagnostic("warning", file, line, column, key, message), rule or message)

    def wants(self, severity: str, key: str, rule: str) -> bool:
        """
        Count one more of a kind; return whether to `add` it.

        If not, its text and its column need not be worked out: this is what keeps the time for
        a line with a million mistakes linear.
        """
        kind = (severity, key, rule)
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        self.has_errors = self.has_errors or severity == "error"
        return count <= SHOWN_MAX

    def add(self, found: Diagnostic, rule: str, *, key: str | None = None) -> None:
        """Keep a finding that was counted; `key` as it was counted, if it is shown otherwise."""
        counted_key = found.key if key is None else key
        self._items.append((found, (found.severity, counted_key, rule)))

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Return them all, by place; after the last of a kind stands how many more there are."""
        found: list[Diagnostic] = []
        left: dict[Kind, int] = {}
        for item, kind in sorted(self._items, key=_place):
            found.append(item)
            left[kind] = left.get(kind, min(self._counts[kind], SHOWN_MAX)) - 1
            more = self._counts[kind] - SHOWN_MAX
            if left[kind] == 0 and more > 0:
                severity, key, rule = kind
                message = f"and {more} more ({rule.replace('{}', '...')})"
                found.append(Diagnostic(severity, item.file, 0, 0, key, message))
        return tuple(found)


def _place(item: tuple[Diagnostic, Kind]) -> tuple[str, int, int]:
    found, _ = item
    return found.file, found.line, found.column


def column(raw: bytes, offset: int) -> int:
    """Return the column, in characters from 1, of a byte of a line."""
    if len(raw) > 1 << 16 or raw.isascii():
        return offset + 1
    return len(raw[:offset].decode("utf-8", "replace")) + 1
