"""What a test of the fault catalogue says of itself, for the table that conftest.py writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])


class Text(NamedTuple):
    """What a row does, and what holds nevertheless."""

    does: str
    holds: str


def row(does: str, holds: str) -> Callable[[Test], Test]:
    """Give a test the text of its row; the row's number is in the test's name."""

    def mark(test: Test) -> Test:
        test.row = Text(does, holds)  # type: ignore[attr-defined]  # read by conftest.py
        return test

    return mark
