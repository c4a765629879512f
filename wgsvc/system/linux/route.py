"""Routes through rtnetlink: thousands through one socket, no forks."""

from __future__ import annotations

import errno
import os
import socket
import struct

from wgsvc.errors import OSFailureError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.system.base import DefaultRoute, RouteFailure
from wgsvc.system.linux import link, netlink
from wgsvc.system.linux.address import FAMILY, VERSION
from wgsvc.system.linux.netlink import attribute, attribute_u32, attributes
from wgsvc.values import Prefix, Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wgsvc.system.linux.netlink import Connection

MAIN, LOCAL_TABLE = 254, 255

# family, destination length, source length, tos, table, protocol, scope, type, flags
RTMSG = struct.Struct("=BBBBBBBBI")
NEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, index
INDEX = struct.Struct("=I")

DST, OIF, GATEWAY, PRIORITY, METRICS, MULTIPATH, TABLE, MARK, VIA = 1, 4, 5, 6, 8, 9, 15, 16, 18
METRIC_MTU = 2
PIN_METRIC = 51820
"""
The metric of an endpoint's host route of ours. Any other route to that host, as a hook or an
administrator adds it, has a smaller one: both can be there, theirs is used, and ours is known.
"""
PROTOCOL_BOOT = 3  # what `ip route add` says too
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_NOWHERE = 0, 253, 255
UNICAST, BLACKHOLE = 1, 6
DEAD, LINK_DOWN, CLONED = 0x1, 0x10, 0x200
LOOPBACK_INDEX = 1  # in every network namespace

GONE = (errno.ESRCH, errno.ENODEV)
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES, errno.ENODEV)


class Seen(NamedTuple):
    """A route of the kernel and what of it `Route` has no field for."""

    route: Route
    metric: int
    flags: int
    protocol: int


# --- packing


def message(route: Route, *, deleting: bool = False) -> bytes:
    """
    Return the body of RTM_NEWROUTE or RTM_DELROUTE for a route.

    A deletion names interface and gateway too, so that it can't hit a route of somebody else.
    One gap is left: IPv6 can't say "without a gateway" when it deletes.
    """
    version, address, length = route.prefix
    table = MAIN if route.table is None else route.table
    bits = 32 if version == 4 else 128
    kind, scope = UNICAST, SCOPE_UNIVERSE
    ifindex = route.ifindex
    if route.blackhole:
        kind = BLACKHOLE
        # IPv6 hangs blackholes on lo and does not compare the type when it deletes.
        ifindex = LOOPBACK_INDEX if deleting and version == 6 else None
    elif route.gateway is None and version == 4:
        scope = SCOPE_LINK  # also what keeps a deletion off a route through a gateway there
    elif deleting:
        scope = SCOPE_NOWHERE  # any
    parts = [
        RTMSG.pack(
            FAMILY[version],
            length,
            0,
            0,
            table if table < 256 else 0,
            0 if deleting else PROTOCOL_BOOT,
            scope,
            kind,
            0,
        ),
        attribute(DST, (address >> bits - length << bits - length).to_bytes(bits // 8, "big")),
    ]
    if route.gateway is not None:
        host, _, scope_name = route.gateway.partition("%")
        if scope_name and ifindex is None:
            ifindex = _scope_index(scope_name)
        parts.append(_gateway(version, host))
    if ifindex is not None:
        parts.append(attribute_u32(OIF, ifindex))
    if table >= 256:
        parts.append(attribute_u32(TABLE, table))
    if route.pin:
        parts.append(attribute_u32(PRIORITY, PIN_METRIC))
    if route.mtu is not None and not deleting:
        parts.append(attribute(METRICS | netlink.NESTED, attribute_u32(METRIC_MTU, route.mtu)))
    return b"".join(parts)


def _scope_index(scope: str) -> int:
    if scope.isdigit():
        return int(scope)
    try:
        return socket.if_nametoindex(scope)
    except OSError:  # without an errno
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


def _gateway(version: int, host: str) -> bytes:
    if ":" not in host:
        return attribute(GATEWAY, socket.inet_pton(socket.AF_INET, host))
    packed = socket.inet_pton(socket.AF_INET6, host)
    if version == 6:
        return attribute(GATEWAY, packed)
    return attribute(VIA, struct.pack("=H", FAMILY[6]) + packed)


# --- parsing


def parse(body: bytes) -> Seen | None:
    """Return the route a message speaks of, None if it is neither unicast nor blackhole."""
    family, length, _, _, table, protocol, _, kind, flags = RTMSG.unpack_from(body)
    version = VERSION.get(family)
    if version is None or kind not in (UNICAST, BLACKHOLE) or flags & CLONED:
        return None
    found = attributes(body, RTMSG.size)
    prefix = Prefix(version, int.from_bytes(found.get(DST, b""), "big"), length)
    if TABLE in found:
        table = INDEX.unpack(found[TABLE])[0]
    metric = INDEX.unpack(found[PRIORITY])[0] if PRIORITY in found else 0
    mtu = None
    if METRICS in found:
        metrics = attributes(found[METRICS])
        mtu = INDEX.unpack(metrics[METRIC_MTU])[0] if METRIC_MTU in metrics else None
    pin = metric == PIN_METRIC and prefix.is_host
    if kind == BLACKHOLE:
        route = Route(prefix, None, None, table, blackhole=True, mtu=mtu, pin=pin)
        return Seen(route, metric, flags, protocol)
    if MULTIPATH in found and OIF not in found:
        flags |= _first_nexthop(found)
    ifindex = INDEX.unpack(found[OIF])[0] if OIF in found else None
    gateway = _gateway_text(found)
    route = Route(prefix, ifindex, gateway, table, blackhole=False, mtu=mtu, pin=pin)
    return Seen(route, metric, flags, protocol)


def _first_nexthop(found: dict[int, bytes]) -> int:
    """Put the first usable nexthop's attributes into `found`; return its flags."""
    hops = found[MULTIPATH]
    offset = 0
    flags = 0
    while len(hops) - offset >= NEXTHOP.size:
        length, flags, _hops, ifindex = NEXTHOP.unpack_from(hops, offset)
        if length < NEXTHOP.size:
            break
        if not flags & (DEAD | LINK_DOWN) or offset + length >= len(hops):
            found.update(attributes(hops[offset + NEXTHOP.size : offset + length]))
            found[OIF] = INDEX.pack(ifindex)
            break
        offset += length + 3 & ~3
    return int(flags) & (DEAD | LINK_DOWN)


def _gateway_text(found: dict[int, bytes]) -> str | None:
    packed = found.get(GATEWAY) or found.get(VIA, b"")[2:]
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if len(packed) == 16:
        return socket.inet_ntop(socket.AF_INET6, packed)
    return None


# --- what System asks


def add(connection: Connection, routes: Sequence[Route]) -> list[RouteFailure]:
    """Add routes; one that is there already, the same in every respect, is success."""
    failures = _send(connection, netlink.NEWROUTE, routes)
    if not any(failure.errno == errno.EEXIST for failure in failures):
        return failures
    there: dict[int, set[Route]] = {}
    kept = []
    for failure in failures:
        if failure.errno == errno.EEXIST:
            wanted = failure.route
            table = MAIN if wanted.table is None else wanted.table
            if table not in there:
                there[table] = _comparable(connection, table)
            if wanted._replace(prefix=wanted.prefix.network, table=table) in there[table]:
                continue
        kept.append(failure)
    return kept


def _comparable(connection: Connection, table: int) -> set[Route]:
    """Return a table's routes, those through a gateway also as if no interface were named."""
    found = set(dump(connection, table=table))
    return found | {route._replace(ifindex=None) for route in found if route.gateway}


def delete(connection: Connection, routes: Sequence[Route]) -> list[RouteFailure]:
    """Remove routes; one that is not there is success."""
    failures = _send(connection, netlink.DELROUTE, routes)
    return [failure for failure in failures if failure.errno not in GONE]


def added(connection: Connection, ifindex: int) -> list[Route]:
    """Return the IPv4 routes by an interface that somebody added, as `ip route add` does."""
    return [
        seen.route
        for seen in _dump(connection, 4, ifindex=ifindex)
        if seen.protocol == PROTOCOL_BOOT and seen.metric == 0
    ]


def restore(connection: Connection, ifindex: int, before: Sequence[Route]) -> None:
    """Put back which of these are gone: the kernel takes all along with the last address."""
    there = set(added(connection, ifindex))
    lost = [route for route in before if route not in there]
    # Those through a gateway need the others.
    add(connection, sorted(lost, key=lambda route: route.gateway is not None))


def _send(connection: Connection, kind: int, routes: Sequence[Route]) -> list[RouteFailure]:
    deleting = kind == netlink.DELROUTE
    flags = 0 if deleting else netlink.CREATE | netlink.EXCLUSIVE
    failures = []
    good = []
    bodies = []
    for route in routes:
        try:
            bodies.append(message(route, deleting=deleting))
        except OSError as error:  # the gateway's text or its scope
            failures.append(RouteFailure(route, error.errno or errno.EINVAL))
        else:
            good.append(route)
    errors = connection.bulk(kind, flags, bodies, f"{len(bodies)} routes")
    if any(errors):
        failures += [
            RouteFailure(route, number)
            for route, number in zip(good, errors, strict=True)
            if number
        ]
    return failures


def dump(
    connection: Connection, *, ifindex: int | None = None, table: int | None = None
) -> list[Route]:
    """Return routes of one interface or one table if given; else of all tables but local."""
    return [
        seen.route
        for version in (4, 6)
        for seen in _dump(connection, version, ifindex=ifindex, table=table)
    ]


def _dump(
    connection: Connection, version: int, *, ifindex: int | None = None, table: int | None = None
) -> Iterator[Seen]:
    short = table if table is not None and table < 256 else 0
    request = RTMSG.pack(FAMILY[version], 0, 0, 0, short, 0, 0, 0, 0)
    if table is not None:
        request += attribute_u32(TABLE, table)
    if ifindex is not None:
        request += attribute_u32(OIF, ifindex)
    try:
        bodies = connection.dump(netlink.GETROUTE, request, f"IPv{version}")
    except OSFailureError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.EAFNOSUPPORT):
            return  # no such table, no such interface, no IPv6
        raise
    for body in bodies:
        seen = parse(body)
        if (
            seen is not None
            and (ifindex is None or seen.route.ifindex == ifindex)
            and (
                seen.route.table == table if table is not None else seen.route.table != LOCAL_TABLE
            )
        ):
            yield seen


def default_route(
    connection: Connection, version: int, table: int, exclude_ifindex: int | None
) -> DefaultRoute | None:
    """Return the usable default route of the lowest metric."""
    usable = [
        seen
        for seen in _dump(connection, version, table=table)
        if seen.route.prefix.length == 0
        and not seen.route.blackhole
        and seen.route.ifindex not in (None, exclude_ifindex)
        and not seen.flags & DEAD
    ]
    usable.sort(key=lambda seen: (bool(seen.flags & LINK_DOWN), seen.metric))
    for seen in usable:
        route = seen.route
        ifindex = route.ifindex or 0
        mtu = route.mtu or _interface_mtu(connection, ifindex)
        if mtu is not None:  # None: the interface went away just now
            return DefaultRoute(route.gateway, ifindex, mtu)
    return None


def path_mtu(
    connection: Connection, address: Prefix, table: int | None, mark: int = 0, not_by: int = 0
) -> int | None:
    """Return the MTU of the way to a host, None if there is none but by interface `not_by`."""
    route = (
        _lookup(connection, address, mark)
        if table is None
        else _longest_match(connection, address, table)
    )
    if route is None or route.ifindex in (None, not_by):
        return None
    return route.mtu or _interface_mtu(connection, route.ifindex)


def _lookup(connection: Connection, address: Prefix, mark: int) -> Route | None:
    """Ask the kernel, which also knows rules and what path MTU discovery found."""
    bits = address.bits
    header = RTMSG.pack(FAMILY[address.version], bits, 0, 0, 0, 0, 0, 0, 0)
    request = header + attribute(DST, address.packed)
    if mark:
        request += attribute_u32(MARK, mark)
    try:
        bodies = connection.request(netlink.GETROUTE, 0, request, address.host)
    except OSFailureError as error:
        if error.errno in NO_WAY:
            return None
        raise
    for body in bodies:
        family, length, source, tos, short, protocol, scope, _kind, _flags = RTMSG.unpack_from(body)
        plain = RTMSG.pack(family, length, source, tos, short, protocol, scope, UNICAST, 0)
        seen = parse(plain + body[RTMSG.size :])  # a host of our own (RTN_LOCAL) counts too
        if seen is not None:
            return seen.route
    return None


def _longest_match(connection: Connection, address: Prefix, table: int) -> Route | None:
    best = None
    for seen in _dump(connection, address.version, table=table):
        rank = (seen.route.prefix.length, -seen.metric)
        if seen.route.prefix.covers(address) and (best is None or rank > best[0]):
            best = (rank, seen.route)
    return best[1] if best else None


def _interface_mtu(connection: Connection, ifindex: int) -> int | None:
    found = link.find_by_index(connection, ifindex)
    return found.mtu if found else None
