"""The route monitor's ear: rtnetlink's multicast groups."""

from __future__ import annotations

import errno
import socket

from wgsvc.system.linux import link, netlink, route
from wgsvc.system.linux.address import IFADDRMSG

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # link; IPv4 address, route; IPv6 address, route
BUFFER_BYTES = 4 << 20  # a full-table routing daemon that restarts says a lot at once
SO_RCVBUFFORCE = 33


class Listener(socket.socket):
    """A socket that knows which table it listens for."""

    table: int


def monitor_open(table: int) -> Listener:
    """Open a socket that hears of links, addresses and the routes of one table."""
    try:
        listener = Listener(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
    except OSError as error:
        raise netlink.failure("socket", "AF_NETLINK", error.errno or 0) from None
    listener.table = table
    try:
        try:
            listener.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        listener.bind((0, GROUPS))
    except OSError as error:
        listener.close()
        raise netlink.failure("bind", "AF_NETLINK", error.errno or 0) from None
    return listener


def monitor_read(listener: socket.socket) -> list[str]:
    """Read one datagram; return what changed, in the words of `System.monitor_read`."""
    try:
        datagram, (port, _groups) = listener.recvfrom(netlink.RECEIVE_BYTES)
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            return ["overflow"]
        raise netlink.failure("recvfrom", "AF_NETLINK", error.errno or 0) from None
    if port != 0:
        return []
    table = listener.table if isinstance(listener, Listener) else route.MAIN
    words: list[str] = []
    for kind, _flags, _sequence, body in netlink.messages(datagram):
        word = _word(kind, body, table)
        if word and word not in words:
            words.append(word)
    return words


def _word(kind: int, body: bytes, table: int) -> str:
    if kind in (netlink.NEWLINK, netlink.DELLINK):
        found = link.parse(body)
        return f"link {found.name} {found.ifindex}"
    if kind in (netlink.NEWADDR, netlink.DELADDR):
        return f"address {IFADDRMSG.unpack_from(body)[4]}"
    if kind in (netlink.NEWROUTE, netlink.DELROUTE):
        seen = route.parse(body)
        if seen is None or seen.route.table != table:
            return ""
        if seen.route.prefix.length == 0:
            return f"default {seen.route.prefix.version}"
        return f"route {seen.route.prefix} {seen.route.ifindex or 0}"
    return ""
