"""
Before and after, compared: what is more, what is less. Pure.

A snapshot is sets of lines that a person understands. Equal sets are what "nothing is
left" means here.
"""

from __future__ import annotations

from typing import NamedTuple


class Snapshot(NamedTuple):
    """What there is at one moment, one line for each thing."""

    processes: frozenset[str] = frozenset()
    interfaces: frozenset[str] = frozenset()
    routes: frozenset[str] = frozenset()
    sockets: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()  # FreeBSD: jails, dying ones too
    mounts: frozenset[str] = frozenset()


_SINGULAR = {"processes": "process"}


class Difference(NamedTuple):
    """One thing that is there in only one of two snapshots."""

    subject: str  # a field of Snapshot
    thing: str
    more: bool  # there afterwards, not before

    def __str__(self) -> str:
        return f"{self.subject}: {self.thing} {'is left' if self.more else 'is missing'}"


def differences(before: Snapshot, after: Snapshot) -> list[Difference]:
    """Return all that differs, in the order of the fields."""
    found = []
    for subject, old, new in zip(Snapshot._fields, before, after, strict=True):
        found += [Difference(subject, thing, more=True) for thing in sorted(new - old)]
        found += [Difference(subject, thing, more=False) for thing in sorted(old - new)]
    return found


def counts(snapshot: Snapshot) -> str:
    """Say how much was compared: `0 processes, 4 interfaces, 1 route, ...`."""
    amounts = zip(Snapshot._fields, map(len, snapshot), strict=True)
    return ", ".join(
        f"{amount} {_SINGULAR.get(subject, subject[:-1]) if amount == 1 else subject}"
        for subject, amount in amounts
    )
