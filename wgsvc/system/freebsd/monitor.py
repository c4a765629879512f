"""The route monitor's ear: a routing socket, its messages as words."""

from __future__ import annotations

import errno

from wgsvc.errors import OSFailureError, ProtocolError
from wgsvc.light import TYPE_CHECKING
from wgsvc.system.freebsd import link, route, rtsock
from wgsvc.system.freebsd.kernel import SO_RERROR

if TYPE_CHECKING:
    import socket

    from wgsvc.system.freebsd.kernel import Kernel

# The default of 8 KB holds 40 messages. kern.ipc.maxsockbuf caps what can be had.
RECEIVE_BUFFERS = (1 << 20, 1 << 18, 1 << 16)
SO_RCVBUF = 0x1002
ROUTE_CHANGES = (rtsock.RTM_ADD, rtsock.RTM_DELETE, rtsock.RTM_CHANGE)


def open_listener(kernel: Kernel, table: int | None) -> socket.socket:
    """
    Return a routing socket that says so when it has lost messages, where the kernel can.

    It hears of routes and addresses in its own FIB only, of links in all.
    """
    listener = route.open_socket(kernel, table, family=0, listens=True)
    # 12.0 to 12.2 have no SO_RERROR: they lose silently, so look again from time to time.
    _try_option(kernel, listener, SO_RERROR, 1)
    for size in RECEIVE_BUFFERS:
        if _try_option(kernel, listener, SO_RCVBUF, size):
            break
    return listener


def _try_option(kernel: Kernel, listener: socket.socket, option: int, value: int) -> bool:
    try:
        kernel.route_option(listener, option, value)
    except OSError:
        return False
    return True


def read(kernel: Kernel, listener: socket.socket) -> list[str]:
    """Read one datagram; return the words for what changed (see `System.monitor_read`)."""
    try:
        datagram = kernel.route_receive(listener)
    except OSError as error:
        if error.errno == errno.ENOBUFS:
            return ["overflow"]
        raise OSFailureError("recv", "PF_ROUTE", error.errno or 0) from error
    try:
        return [
            word
            for type_, message in rtsock.messages(datagram)
            for word in _words(kernel, type_, message)
        ]
    except ProtocolError:
        return ["overflow"]  # something changed and can't be told: read everything again


def _words(kernel: Kernel, type_: int, message: bytes) -> list[str]:
    if type_ in (rtsock.RTM_IFINFO, rtsock.RTM_IFANNOUNCE):
        changed = rtsock.parse_link(type_, message)
        name = changed.name or link.name_of(kernel, changed.ifindex)
        return [f"link {name} {changed.ifindex}"] if name else []  # gone: a word came before
    if type_ in (rtsock.RTM_NEWADDR, rtsock.RTM_DELADDR):
        return [f"address {rtsock.parse_address(message).ifindex}"]
    if type_ in ROUTE_CHANGES:
        return _route_words(rtsock.parse_route(message))
    return []


def _route_words(changed: rtsock.RouteMessage) -> list[str]:
    # What somebody tried in vain is broadcast too, with the errno.
    if changed.errno or changed.prefix is None:
        return []
    if changed.prefix.length == 0:
        return [f"default {changed.prefix.version}"]
    return [f"route {changed.prefix} {changed.ifindex}"]
