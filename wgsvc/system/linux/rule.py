"""
Routing rules of a full tunnel, through rtnetlink: two for each IP version.

`not fwmark N lookup N` leads every packet that WireGuard has not marked itself into the
tunnel's table; `lookup main suppress_prefixlength 0`, tried before it, leaves every route of the
main table in force but the default one. wg-quick(8) does the same with ip-rule(8).
"""

from __future__ import annotations

import errno
import os
import struct

from wgsvc.errors import OSFailureError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.system.base import RulePair
from wgsvc.system.linux import netlink
from wgsvc.system.linux.address import FAMILY
from wgsvc.system.linux.netlink import attribute_u32, attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wgsvc.system.linux.netlink import Connection

# linux/fib_rules.h: family, destination length, source length, tos, table, two unused bytes,
# action, flags
HEADER = struct.Struct("=BBBBBBBBI")
PRIORITY, FWMARK, SUPPRESS_PREFIXLEN, TABLE, FWMASK = 6, 10, 14, 15, 16
TO_TABLE = 1  # FR_ACT_TO_TBL
INVERT = 0x2  # FIB_RULE_INVERT
MAIN = 254
U32 = struct.Struct("=I")
SELECTORS = (1, 2, 3, 4, 11, 13, 17, 20, 22, 23, 24)
"""FRA_DST, SRC, IIFNAME, GOTO, FLOW, SUPPRESS_IFGROUP, OIFNAME, UID_RANGE, IP_PROTO, two ports."""
WHOLE = 0xFFFFFFFF
VALID_MARK = "/proc/sys/net/ipv4/conf/all/src_valid_mark"


class Rule(NamedTuple):
    """What a rule that selects by nothing but a mark says."""

    table: int
    mark: int = 0
    inverted: bool = False
    suppress: int = -1  # routes with a prefix of at most this length are passed over; -1: none


def of_tunnel(table: int) -> tuple[Rule, Rule]:
    """Return the two rules of a tunnel whose mark and table are `table`, the first to add first."""
    return Rule(table, mark=table, inverted=True), Rule(MAIN, suppress=0)


def add(connection: Connection, table: int, versions: Iterable[int]) -> None:
    """
    Add the rules of a tunnel. Each goes before all that there are but that for `local`.

    The kernel chooses that place for a rule without a priority. Both rules of a version go in one
    send, so that a process that is killed has added both or none.
    Raises: OSFailureError, NotPermittedError.
    """
    for version in versions:
        bodies = [_message(version, rule) for rule in of_tunnel(table)]
        for number in connection.bulk(netlink.NEWRULE, netlink.CREATE, bodies, f"{table}"):
            if number:
                raise netlink.failure("RTM_NEWRULE", f"IPv{version}, table {table}", number)


def find(connection: Connection, table: int) -> tuple[RulePair, ...]:
    """
    Return where the rules of a tunnel are, for each IP version that has both.

    Every tunnel's second rule looks the same: the nearest one before the first rule is taken for
    its own, which is so right after `add`.
    """
    first, second = of_tunnel(table)
    pairs = []
    for version in (4, 6):
        found = _dump(connection, version)
        at = next((priority for priority, rule in found if rule == first), 0)
        before = [priority for priority, rule in found if rule == second and priority < at]
        if before:
            pairs.append(RulePair(version, at, max(before)))
    return tuple(pairs)


def delete(connection: Connection, table: int, pairs: Iterable[RulePair]) -> None:
    """
    Remove rules; ones that are not there are fine.

    Each is named by its priority too: the kernel takes another tunnel's rule, or one that also
    has a source address, for the same one otherwise.
    Raises: OSFailureError, NotPermittedError.
    """
    for version, *places in pairs:
        there = _dump(connection, version)
        for rule, priority in zip(of_tunnel(table), places, strict=True):
            if (priority, rule) not in there:
                continue
            body = _message(version, rule) + attribute_u32(PRIORITY, priority)
            (error,) = connection.bulk(netlink.DELRULE, 0, [body], f"table {table}")
            if error and error != errno.ENOENT:
                raise netlink.failure("RTM_DELRULE", f"IPv{version}, table {table}", error)


def in_force(connection: Connection, table: int, pairs: Iterable[RulePair]) -> tuple[int, ...]:
    """Return the IP versions whose two rules are where they were put."""
    return tuple(
        version
        for version, *places in pairs
        if set(zip(places, of_tunnel(table), strict=True)) <= set(_dump(connection, version))
    )


def set_passing(connection: Connection, marks: Iterable[int], *, wanted: bool) -> None:
    """
    Have packets with these marks go by the main table before any tunnel's rules, or not any more.

    With several full tunnels the rule of each one catches the encrypted packets of the others.
    Raises: OSFailureError, NotPermittedError.
    """
    for version in (4, 6):
        there = [rule for _, rule in _dump(connection, version)]
        for mark in marks:
            rule = Rule(MAIN, mark=mark)
            body = _message(version, rule)
            if rule in there:  # those of a tunnel that came later stand before it
                connection.bulk(netlink.DELRULE, 0, [body], "")
            if wanted and there:
                for number in connection.bulk(netlink.NEWRULE, netlink.CREATE, [body], ""):
                    if number:
                        raise netlink.failure("RTM_NEWRULE", f"IPv{version}, mark {mark}", number)


def marked(connection: Connection) -> bool:
    """Return whether any rule for IPv4 looks at marks the way that a full tunnel does."""
    return any(rule.inverted and rule.mark for rule in dump(connection, 4))


def dump(connection: Connection, version: int) -> list[Rule]:
    """Return the rules that select by nothing but a mark; without IPv6 there are none of it."""
    return [rule for _, rule in _dump(connection, version)]


def _dump(connection: Connection, version: int) -> list[tuple[int, Rule]]:
    """Return such rules with their priorities."""
    request = HEADER.pack(FAMILY[version], 0, 0, 0, 0, 0, 0, 0, 0)
    try:
        bodies = connection.dump(netlink.GETRULE, request, f"IPv{version}")
    except OSFailureError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            return []
        raise
    return [found for body in bodies if (found := _parse(body)) is not None]


def _message(version: int, rule: Rule) -> bytes:
    flags = INVERT if rule.inverted else 0
    parts = [
        HEADER.pack(FAMILY[version], 0, 0, 0, 0, 0, 0, TO_TABLE, flags),
        attribute_u32(TABLE, rule.table),
    ]
    if rule.mark:
        parts.append(attribute_u32(FWMARK, rule.mark))
    if rule.suppress >= 0:
        parts.append(attribute_u32(SUPPRESS_PREFIXLEN, rule.suppress))
    return b"".join(parts)


def _parse(body: bytes) -> tuple[int, Rule] | None:
    _family, to_bits, from_bits, _tos, table, _, _, action, flags = HEADER.unpack_from(body)
    found = attributes(body, HEADER.size)
    if action != TO_TABLE or to_bits or from_bits or any(kind in found for kind in SELECTORS):
        return None

    def number(kind: int, missing: int) -> int:
        return int(U32.unpack(found[kind])[0]) if kind in found else missing

    if number(FWMASK, WHOLE) != WHOLE:
        return None
    suppress = number(SUPPRESS_PREFIXLEN, WHOLE)
    return number(PRIORITY, 0), Rule(
        number(TABLE, table),
        number(FWMARK, 0),
        bool(flags & INVERT),
        -1 if suppress == WHOLE else suppress,
    )


def set_valid_mark(value: str) -> str:
    """
    Set net.ipv4.conf.all.src_valid_mark to "0" or "1"; return what it was.

    With it the kernel's check of the way back (rp_filter) goes by marks as well.
    Raises: OSFailureError.
    """
    try:
        with open(VALID_MARK, "r+b", buffering=0) as file:
            before = file.read(16).strip().decode("ascii", "replace")
            if before != value:
                file.seek(0)
                file.write(value.encode())
    except OSError as error:
        raise OSFailureError(
            "write",
            VALID_MARK,
            error.errno or 0,
            cure='full_tunnel = "halves" in wgsvc.toml does without it',
        ) from None
    return before


def mark_socket(descriptor: int, mark: int) -> None:
    """
    Have what a socket sends bear a mark, as WireGuard's own packets do.

    Raises: OSFailureError.
    """
    import socket

    with socket.socket(fileno=os.dup(descriptor)) as copy:
        try:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        except OSError as error:
            raise OSFailureError("SO_MARK", str(mark), error.errno or 0) from None
