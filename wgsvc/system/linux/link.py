"""Interfaces through rtnetlink: look, make, change, remove."""

from __future__ import annotations

import errno
import os
import struct

from wgsvc.errors import NameTakenError, OSFailureError, UnavailableError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.system.linux import netlink
from wgsvc.system.linux.netlink import Connection, attribute, attribute_u32, attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

IFINFOMSG = struct.Struct("=BxHiII")  # family, ARPHRD type, index, flags, change mask

IFNAME, MTU, LINKINFO, AF_SPEC, EXT_MASK = 3, 4, 18, 26, 29
INFO_KIND = 1
INET6_ADDR_GEN_MODE, ADDR_GEN_NONE = 8, 1
AF_INET6 = 10
SKIP_STATISTICS = 1 << 3  # RTEXT_FILTER_SKIP_STATS

IFF_UP, IFF_LOOPBACK = 0x1, 0x8
ARPHRD_NONE = 0xFFFE  # what a tun has and a tap has not
NAME_BYTES = 15  # IFNAMSIZ without its NUL
MODULES_LIMIT_BYTES = 16 << 20


class Link(NamedTuple):
    """An interface without its addresses."""

    name: str
    ifindex: int
    kind: str
    up: bool
    mtu: int


def _header(ifindex: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return IFINFOMSG.pack(0, 0, ifindex, flags, change)


def _name(name: str) -> bytes:
    return attribute(IFNAME, name.encode() + b"\0")


def parse(body: bytes) -> Link:
    """Return the interface an RTM_NEWLINK or RTM_DELLINK speaks of."""
    _family, hardware, ifindex, flags, _change = IFINFOMSG.unpack_from(body)
    found = attributes(body, IFINFOMSG.size)
    info = attributes(found.get(LINKINFO, b""))
    kind = info.get(INFO_KIND, b"").rstrip(b"\0").decode(errors="replace")
    if kind == "tun" and hardware != ARPHRD_NONE:
        kind = "tap"
    if not kind:
        kind = "loopback" if flags & IFF_LOOPBACK else "ether"
    name = found.get(IFNAME, b"").rstrip(b"\0").decode(errors="replace")
    mtu = struct.unpack("=I", found.get(MTU, bytes(4)))[0]
    return Link(name, ifindex, kind, bool(flags & IFF_UP), mtu)


def find(connection: Connection, name: str) -> Link | None:
    """Return the interface of this name, None if there is none."""
    if not 0 < len(name.encode()) <= NAME_BYTES:
        return None
    return _get(connection, _header() + _name(name), name)


def find_by_index(connection: Connection, ifindex: int) -> Link | None:
    """Return the interface of this index, None if there is none."""
    return _get(connection, _header(ifindex), f"interface {ifindex}")


def _get(connection: Connection, request: bytes, subject: str) -> Link | None:
    request += attribute_u32(EXT_MASK, SKIP_STATISTICS)
    try:
        bodies = connection.request(netlink.GETLINK, 0, request, subject)
    except OSFailureError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return parse(bodies[0]) if bodies else None


def dump(connection: Connection) -> Iterable[Link]:
    """Return all interfaces of this network namespace."""
    request = _header() + attribute_u32(EXT_MASK, SKIP_STATISTICS)
    return map(parse, connection.dump(netlink.GETLINK, request, "all interfaces"))


def index_of(connection: Connection, name: str, call: int) -> int:
    """
    Return the index of an interface that must be there for the request `call`.

    Raises: OSFailureError, ENODEV.
    """
    link = find(connection, name)
    if link is None:
        raise OSFailureError(netlink.NAMES[call], name, errno.ENODEV)
    return link.ifindex


def set_mtu(connection: Connection, name: str, mtu: int) -> None:
    """Set the MTU in bytes. Raises: OSFailureError."""
    ifindex = index_of(connection, name, netlink.SETLINK)
    body = _header(ifindex) + attribute_u32(MTU, mtu)
    connection.request(netlink.SETLINK, 0, body, f"{name} mtu {mtu}")


def set_up(connection: Connection, name: str) -> None:
    """Bring an interface up. Raises: OSFailureError."""
    ifindex = index_of(connection, name, netlink.SETLINK)
    connection.request(netlink.SETLINK, 0, _header(ifindex, IFF_UP, IFF_UP), f"{name} up")


def no_link_local(connection: Connection, ifindex: int, name: str) -> None:
    """
    Keep the kernel from giving an interface an address of its own, as its own WireGuard does.

    Without this a tun that comes up gets an fe80:: address that no file asks for, and sends
    router solicitations into the tunnel.
    """
    mode = attribute(INET6_ADDR_GEN_MODE, bytes([ADDR_GEN_NONE]))
    spec = attribute(AF_SPEC | netlink.NESTED, attribute(AF_INET6 | netlink.NESTED, mode))
    try:
        connection.request(netlink.SETLINK, 0, _header(ifindex) + spec, name)
    except OSFailureError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EINVAL):  # no IPv6 in this kernel
            raise


def create(connection: Connection, name: str, kind: str) -> int:
    """
    Make an interface by its driver's name; return its index.

    Raises: NameTakenError, UnavailableError, NotPermittedError, OSFailureError.
    """
    info = attribute(LINKINFO | netlink.NESTED, attribute(INFO_KIND, kind.encode()))
    flags = netlink.CREATE | netlink.EXCLUSIVE
    try:
        connection.request(netlink.NEWLINK, flags, _header() + _name(name) + info, name)
    except OSFailureError as error:
        if error.errno == errno.EEXIST:
            raise name_taken(name) from None
        if error.errno == errno.EOPNOTSUPP:
            raise UnavailableError(
                f"the kernel has no {kind} driver", cure=f"modprobe {kind}"
            ) from None
        raise
    return index_of(connection, name, netlink.NEWLINK)


def has_driver(kind: str) -> bool:
    """Return whether the kernel has a driver, or finds it as a module to load."""
    if os.path.exists(f"/sys/module/{kind}"):
        return True
    try:
        with open(f"/lib/modules/{os.uname().release}/modules.dep", "rb") as file:
            return f"/{kind}.ko".encode() in file.read(MODULES_LIMIT_BYTES)
    except OSError:
        return False


def destroy(connection: Connection, name: str, ifindex: int) -> None:
    """Remove an interface if `name` still is `ifindex`; gone already is success."""
    link = find(connection, name)
    if link is None or link.ifindex != ifindex:
        return
    try:
        connection.request(netlink.DELLINK, 0, _header(ifindex), name)
    except OSFailureError as error:
        if error.errno != errno.ENODEV:
            raise


def name_taken(name: str) -> NameTakenError:
    """Return the error for a name that another interface has."""
    return NameTakenError(
        f"{name}: there is an interface of this name already, not ours",
        cure=f"see `ip -details link show {name}`; rename the tunnel or remove that interface",
    )
