"""Where a parse collects what it finds, bounded, so that a hostile file can't fill memory."""

from __future__ import annotations

from wgsvc.config.model import Diagnostic

SHOWN_MAX = 1000  # of each severity; the rest is counted


class Findings:
    """Errors and warnings in the order they were found."""

    __slots__ = ("_counts", "_items")

    def __init__(self) -> None:
        self._items: list[Diagnostic] = []
        self._counts = {"error": 0, "warning": 0}

    def error(self, file: str, line: int, column: int, key: str, message: str) -> None:
        """Note what keeps the file from being used."""
        self._add(Diagnostic("error", file, line, column, key, message))

    def warning(self, file: str, line: int, column: int, key: str, message: str) -> None:
        """Note what is allowed but hardly meant."""
        self._add(Diagnostic("warning", file, line, column, key, message))

    def full(self, severity: str) -> bool:
        """Whether more of this severity would only be counted: no need to work out a text."""
        return self._counts[severity] >= SHOWN_MAX

    @property
    def has_errors(self) -> bool:
        """Whether there was any error."""
        return self._counts["error"] > 0

    def diagnostics(self, file: str) -> tuple[Diagnostic, ...]:
        """Return them all, by place; a last one says how many were only counted."""
        found = sorted(self._items, key=_place)
        for severity, count in self._counts.items():
            if count > SHOWN_MAX:
                more = f"{count - SHOWN_MAX} more {severity}s are not shown"
                found.append(Diagnostic(severity, file, 0, 0, "", more))
        return tuple(found)

    def _add(self, found: Diagnostic) -> None:
        self._counts[found.severity] += 1
        if self._counts[found.severity] <= SHOWN_MAX:
            self._items.append(found)


def _place(found: Diagnostic) -> tuple[str, int, int]:
    return found.file, found.line, found.column


def column(raw: bytes, offset: int) -> int:
    """Return the column, in characters from 1, of a byte of a line."""
    if raw.isascii() or len(raw) > 1 << 16:
        return offset + 1
    return len(raw[:offset].decode("utf-8", "replace")) + 1
