"""
The names of Linux's routing tables, as ip(8) looks them up (iproute2, lib/rt_names.c).

/etc/iproute2/rt_tables, or the distribution's if there is none, then every *.conf of
rt_tables.d; one of /etc replaces the distribution's of the same name. A line is a number and a
name. iproute2 6.1 and older know only /etc, newer ones /usr too.
"""

from __future__ import annotations

import os

from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDERS = ("/etc/iproute2", "/usr/share/iproute2", "/usr/lib/iproute2")
_BUILT_IN = ((253, "default"), (254, "main"), (255, "local"))
_SIZE_MAX_BYTES = 1 << 20
_DIGITS = "0123456789abcdefABCDEF"


def number_of(name: str) -> int | None:
    """Return the number of the routing table with this name, None if there is none."""
    found = None
    for order, (number, each) in enumerate((*_BUILT_IN, *_from_files())):
        # Of two tables with one name ip takes the lower number modulo 256, then the later line.
        if each == name and (found is None or (number & 255, -order) < found[:2]):
            found = number & 255, -order, number
    return found and found[2]


def _from_files() -> Iterator[tuple[int, str]]:
    for folder in FOLDERS:
        path = os.path.join(folder, "rt_tables")
        if os.path.exists(path):
            yield from _entries(path)
            break
    files: dict[str, str] = {}
    for folder in FOLDERS:
        folder = os.path.join(folder, "rt_tables.d")  # noqa: PLW2901
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            if name.endswith(".conf") and name[0] != "." and len(name) > len(".conf"):
                files.setdefault(name, os.path.join(folder, name))
    for path in files.values():
        yield from _entries(path)


def _entries(path: str) -> Iterator[tuple[int, str]]:
    """Yield the tables of one file, up to a line that is none: there ip stops reading."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_SIZE_MAX_BYTES)
    except OSError:
        return
    for line in text.split("\n"):
        entry = line.strip()
        if not entry or entry[0] in "#-":
            continue
        base, rest = (16, entry[2:]) if entry.startswith("0x") else (10, entry)
        name = rest.lstrip(_DIGITS[: 22 if base == 16 else 10])
        digits, words = rest[: len(rest) - len(name)], name.split()
        if not digits or not words or len(digits) > 10:
            return
        yield int(digits, base), words[0]
