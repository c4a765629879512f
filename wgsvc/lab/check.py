"""What a check found, and what it shows for it."""

from __future__ import annotations

from typing import NamedTuple


class Shown(NamedTuple):
    """A command in a host and what it said, as evidence."""

    host: str
    command: str
    lines: tuple[str, ...]


class Check(NamedTuple):
    """What a check found."""

    name: str
    passed: bool
    measured: str
    shown: tuple[Shown, ...] = ()
