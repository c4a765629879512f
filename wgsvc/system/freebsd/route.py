"""
Routes: thousands through one socket, one message a write, the verdict is its errno.

Reading goes through sysctl(3), not through the socket: a dump can't be cut short by a
full receive buffer.
"""

from __future__ import annotations

import errno
import os

from wgsvc.errors import OSFailureError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.system.base import DefaultRoute, RouteFailure
from wgsvc.system.freebsd import link, rtsock
from wgsvc.system.freebsd.ioctl import packed_name, sockaddr
from wgsvc.system.freebsd.kernel import AF_INET, AF_INET6
from wgsvc.values import BITS, Prefix, Route

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from wgsvc.system.freebsd.kernel import Kernel

NET_RT_DUMP = (4, 17, 0, 0, 1, 0)  # CTL_NET.PF_ROUTE.0.any family.NET_RT_DUMP.0, then the FIB
ANSWER_TIMEOUT_S = 2.0
LOOPBACK = {4: Prefix(4, 127 << 24 | 1, 32), 6: Prefix(6, 1, 128)}
NO_ROUTE = rtsock.RTF_BLACKHOLE | rtsock.RTF_REJECT


class Wanted(NamedTuple):
    """A route to add or delete and its message's parts."""

    route: Route
    gateway: bytes
    flags: int


def add(kernel: Kernel, routes: Sequence[Route]) -> list[RouteFailure]:
    """
    Add routes; return those refused.

    A second route through a gateway would not be refused but become a multipath
    route (net.route.multipath, 13 and later), so those are compared with the table first.
    """
    failures = []
    routes = [route._replace(pin=False) for route in routes]  # there is no metric to tell them by
    for table, group in _by_table(routes).items():
        compares = any(_through_gateway(route) for route in group)
        present = _present(kernel, table) if compares else {}
        refused = []
        with _writer(kernel, table) as writer:
            for seq, route in enumerate(group, 1):
                if _through_gateway(route) and route.prefix.network in present:
                    refused.append(RouteFailure(route, errno.EEXIST))
                    continue
                code = _send(kernel, writer, rtsock.RTM_ADD, _wanted(kernel, route), seq)
                if code:
                    refused.append(RouteFailure(route, code))
        if any(failure.errno == errno.EEXIST for failure in refused):
            present = present or _present(kernel, table)
            refused = [
                failure
                for failure in refused
                if failure.errno != errno.EEXIST or not _is_there(failure.route, present)
            ]
        failures += refused
    return failures


def delete(kernel: Kernel, routes: Sequence[Route]) -> list[RouteFailure]:
    """Remove routes; return those refused. One that is not there is not refused."""
    failures = []
    routes = [route._replace(pin=False) for route in routes]
    for table, group in _by_table(routes).items():
        with _writer(kernel, table) as writer:
            for seq, route in enumerate(group, 1):
                code = _send(kernel, writer, rtsock.RTM_DELETE, _wanted(kernel, route), seq)
                if code in (0, errno.ESRCH):
                    continue
                if route.blackhole and not _is_there(route, _present(kernel, table)):
                    continue  # EOPNOTSUPP without lo0, also for what is not there
                failures.append(RouteFailure(route, code))
    return failures


def routes(kernel: Kernel, ifindex: int | None, table: int | None) -> list[Route]:
    """Return the unicast and blackhole routes of one interface or table, or of all."""
    mtus = {entry.ifindex: entry.mtu for entry in link.entries(kernel)}
    tables = [table] if table is not None else range(fib_count(kernel))
    found = []
    for fib in tables:
        for message in _dump(kernel, fib):
            route = _route(message, fib, mtus)
            if route is not None and ifindex in (None, route.ifindex):
                found.append(route)
    return found


def added(kernel: Kernel, ifindex: int) -> list[Route]:
    """Return the IPv4 routes by an interface that somebody added; those of the kernel are not."""
    mtus = {entry.ifindex: entry.mtu for entry in link.entries(kernel, ifindex)}
    return [
        route
        for fib in range(fib_count(kernel))
        for message in _dump(kernel, fib)
        if message.flags & rtsock.RTF_STATIC and message.ifindex == ifindex
        if (route := _route(message, fib, mtus)) is not None and route.prefix.version == 4
    ]


def restore(kernel: Kernel, ifindex: int, before: Sequence[Route]) -> None:
    """
    Put back which of these are gone.

    An IPv4 address takes all routes along that were added while it was the nearest (in_ifadown
    in netinet/in.c; run: 13.2), also where another address is there or takes its place.
    """
    there = set(added(kernel, ifindex))
    lost = [route for route in before if route not in there]
    # Those through a gateway need the others.
    add(kernel, sorted(lost, key=lambda route: route.gateway is not None))


def default_route(
    kernel: Kernel, version: int, table: int | None, exclude_ifindex: int | None
) -> DefaultRoute | None:
    """Return the default route that does not leave by `exclude_ifindex`."""
    prefix = Prefix(version, 0, 0)
    message = _get(kernel, prefix, table, exact=True)
    if message is not None and message.ifindex == exclude_ifindex:
        # A multipath default can have another way out; only the dump lists them all.
        message = next(
            (
                other
                for other in _dump(kernel, default_table(kernel) if table is None else table)
                if other.prefix == prefix and other.ifindex != exclude_ifindex
            ),
            None,
        )
    if message is None or message.flags & NO_ROUTE:
        return None
    gateway = message.gateway.host if message.gateway is not None else None
    return DefaultRoute(gateway, message.ifindex, _mtu(kernel, message))


def path_mtu(kernel: Kernel, address: Prefix, table: int | None, not_by: int = 0) -> int | None:
    """Return the MTU of the way to a host, None if there is none but by interface `not_by`."""
    host = address._replace(length=BITS[address.version])
    message = _get(kernel, host, table, exact=False)
    if message is None or message.flags & NO_ROUTE or message.ifindex == not_by:
        return None
    return _mtu(kernel, message) or None


def fib_count(kernel: Kernel) -> int:
    """Return how many FIBs this network stack has."""
    return int.from_bytes(kernel.sysctl_by_name("net.fibs")[:4], "little")


def default_table(kernel: Kernel) -> int:
    """Return the FIB of this process (setfib(1))."""
    return int.from_bytes(kernel.sysctl_by_name("net.my_fibnum")[:4], "little")


def open_socket(kernel: Kernel, table: int | None, *, family: int, listens: bool) -> socket.socket:
    """
    Return a routing socket of a FIB.

    Raises: OSFailureError (EINVAL) if there is no such FIB.
    """
    try:
        return kernel.route_socket(family=family, fib=table, listens=listens)
    except OSError as error:
        if table is None:
            raise OSFailureError("socket", "PF_ROUTE", error.errno or 0) from error
        cure = f"sysctl net.fibs={table + 1}" if error.errno == errno.EINVAL else ""
        raise OSFailureError("SO_SETFIB", f"FIB {table}", error.errno or 0, cure=cure) from error


def _writer(kernel: Kernel, table: int | None) -> socket.socket:
    return open_socket(kernel, table, family=0, listens=False)


def _send(kernel: Kernel, writer: socket.socket, type_: int, wanted: Wanted, seq: int) -> int:
    route, gateway, flags = wanted
    message = rtsock.route_message(
        type_, route.prefix, gateway, flags=flags, seq=seq, mtu=route.mtu or 0
    )
    try:
        kernel.route_send(writer, message)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _wanted(kernel: Kernel, route: Route) -> Wanted:
    flags = rtsock.RTF_UP | rtsock.RTF_STATIC
    if route.blackhole:
        # As route(8) -blackhole. From 13 on the kernel puts this gateway in by itself, and
        # refuses (EOPNOTSUPP) unless lo0 has an address of the family.
        gateway = sockaddr(LOOPBACK[route.prefix.version])
        return Wanted(route, gateway, flags | rtsock.RTF_GATEWAY | rtsock.RTF_BLACKHOLE)
    if route.gateway is not None:
        gateway = _gateway(kernel, route.gateway, route.ifindex)
        return Wanted(route, gateway, flags | rtsock.RTF_GATEWAY)
    return Wanted(route, rtsock.link_sockaddr(route.ifindex or 0), flags)


def _gateway(kernel: Kernel, text: str, ifindex: int | None) -> bytes:
    """Pack a gateway; a link-local one gets the scope it names, else its interface's."""
    address, _percent, scope = text.partition("%")
    number = _address(address)
    if scope:
        packed_name(scope)
        ifindex = link.index_of(kernel, scope)
    return sockaddr(number, (ifindex or 0) if _is_link_local(number) else 0)


def _address(text: str) -> Prefix:
    import socket

    if ":" in text:
        return Prefix(6, int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big"), 128)
    return Prefix(4, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"), 32)


def _is_link_local(prefix: Prefix) -> bool:
    return prefix.version == 6 and prefix.address >> 118 == 0xFE80 >> 6


def _through_gateway(route: Route) -> bool:
    return route.gateway is not None or route.blackhole


def _by_table(routes: Sequence[Route]) -> dict[int | None, list[Route]]:
    tables: dict[int | None, list[Route]] = {}
    for route in routes:
        tables.setdefault(route.table, []).append(route)
    return tables


def _present(kernel: Kernel, table: int | None) -> dict[Prefix, list[Route]]:
    found: dict[Prefix, list[Route]] = {}
    for route in routes(kernel, None, default_table(kernel) if table is None else table):
        found.setdefault(route.prefix, []).append(route)
    return found


def _is_there(asked: Route, present: dict[Prefix, list[Route]]) -> bool:
    """Whether the table has this very route; what was not asked for does not count."""
    for route in present.get(asked.prefix.network, ()):
        if asked.blackhole or route.blackhole:
            same = asked.blackhole and route.blackhole
        elif asked.gateway is None:
            same = route.gateway is None and route.ifindex == asked.ifindex
        else:
            same = (
                route.gateway is not None
                and _address(route.gateway) == _address(asked.gateway.partition("%")[0])
                and asked.ifindex in (None, route.ifindex)
            )
        if same and asked.mtu in (None, route.mtu):
            return True
    return False


def _dump(kernel: Kernel, fib: int) -> list[rtsock.RouteMessage]:
    try:
        dump = kernel.sysctl((*NET_RT_DUMP, fib))
    except OSError as error:
        if error.errno == errno.EINVAL:  # there is no such FIB, so it has no routes
            return []
        raise OSFailureError("sysctl", f"NET_RT_DUMP FIB {fib}", error.errno or 0) from error
    return [rtsock.parse_route(message) for _type, message in rtsock.messages(dump)]


def _route(message: rtsock.RouteMessage, fib: int, mtus: dict[int, int]) -> Route | None:
    """Return a route worth listing: no multicast, none that only says "unreachable"."""
    prefix = message.prefix
    if prefix is None or message.flags & rtsock.RTF_REJECT or _is_multicast(prefix):
        return None
    if message.gateway_ifindex not in (None, message.ifindex):
        return None  # an address of this host: link#N of its interface, reached through lo0
    if message.flags & rtsock.RTF_BLACKHOLE:
        return Route(prefix, table=fib, blackhole=True)
    mtu = message.mtu if message.mtu and message.mtu != mtus.get(message.ifindex) else None
    gateway = message.gateway.host if message.gateway is not None else None
    return Route(prefix, ifindex=message.ifindex, gateway=gateway, table=fib, mtu=mtu)


def _is_multicast(prefix: Prefix) -> bool:
    top = prefix.address >> (prefix.bits - 8)
    return prefix.length >= 4 and (top == 0xFF if prefix.version == 6 else 224 <= top < 240)


def _mtu(kernel: Kernel, message: rtsock.RouteMessage) -> int:
    if message.mtu:
        return message.mtu
    found = link.entries(kernel, message.ifindex)
    return found[0].mtu if found else 0


def _get(
    kernel: Kernel, prefix: Prefix, table: int | None, *, exact: bool
) -> rtsock.RouteMessage | None:
    family = AF_INET if prefix.version == 4 else AF_INET6
    seq = int.from_bytes(os.urandom(3), "little")
    with open_socket(kernel, table, family=family, listens=True) as asking:
        asking.settimeout(ANSWER_TIMEOUT_S)
        try:
            kernel.route_send(asking, rtsock.get_message(prefix, seq, exact=exact))
            while True:  # other messages come by here too
                for type_, message in rtsock.messages(kernel.route_receive(asking)):
                    if type_ != rtsock.RTM_GET:
                        continue
                    answer = rtsock.parse_route(message)
                    if (answer.pid, answer.seq) == (os.getpid(), seq):
                        return answer
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.EAFNOSUPPORT):  # no route; no such family here
                return None
            number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or 0
            raise OSFailureError("RTM_GET", str(prefix), number) from error
