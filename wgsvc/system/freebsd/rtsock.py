"""
The messages of the routing socket, packed and parsed: pure.

Sources: route(4), net/route.h, net/if.h, net/if_dl.h; layouts of LP64 kernels, the same from
12 to 15. A sockaddr takes its length rounded up to 8; a length of 0 takes 8.
"""

from __future__ import annotations

import struct
import sys
from functools import cache

from wgsvc.errors import ProtocolError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.system.freebsd.ioctl import netmask, sockaddr, unpacked_name
from wgsvc.system.freebsd.kernel import AF_INET, AF_INET6
from wgsvc.values import BITS, Prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

RTM_VERSION = 5
RTM_ADD, RTM_DELETE, RTM_CHANGE, RTM_GET = 1, 2, 3, 4
RTM_NEWADDR, RTM_DELADDR, RTM_IFINFO, RTM_IFANNOUNCE = 0xC, 0xD, 0xE, 0x11

RTF_UP, RTF_GATEWAY, RTF_HOST, RTF_REJECT = 0x1, 0x2, 0x4, 0x8
RTF_DONE, RTF_STATIC, RTF_BLACKHOLE = 0x40, 0x800, 0x1000

RTA_DST, RTA_GATEWAY, RTA_NETMASK, RTA_IFP, RTA_IFA = 0x1, 0x2, 0x4, 0x10, 0x20
RTV_MTU = 0x1

AF_LINK = 18

HEADER = struct.Struct("=HBB")  # msglen, version, type: of every message
# rt_msghdr: msglen version type index spare flags addrs pid seq errno fmask inits;
# of rt_metrics only locks and mtu.
RT_MSGHDR = struct.Struct("=HBBHHiiiiiiQQQ96x")
IF_MSGHDR = struct.Struct("=4xiIH2x")  # addrs flags index; if_data follows
IFA_MSGHDR = struct.Struct("=4xiIH2xi")  # addrs flags index metric
IF_MSGHDRL = struct.Struct("=4xiIH2xHH")  # the same, then len and data_off
IF_ANNOUNCEMSGHDR = struct.Struct("=4xH16sH")  # index name what
SOCKADDR_DL = struct.Struct("=BBHBBBB46x")  # len family index type nlen alen slen
SOCKADDR_HEAD = {4: bytes([16, AF_INET, 0, 0]), 6: bytes([28, AF_INET6]) + bytes(6)}
SOCKADDR_TAIL = {4: bytes(8), 6: bytes(8)}  # zeros; the scope; padding
IF_DATA_MTU = 8  # offset of ifi_mtu in if_data

ARRIVAL = 0  # ifan_what

SIZES = ((RT_MSGHDR, 152), (IFA_MSGHDR, 20), (IF_ANNOUNCEMSGHDR, 24), (SOCKADDR_DL, 54))
for _layout, _size in SIZES:
    if _layout.size != _size:
        raise ProtocolError(f"a routing message's header is {_layout.size} bytes, not {_size}")


class InterfaceEntry(NamedTuple):
    """An interface as NET_RT_IFLISTL tells of it."""

    name: str
    ifindex: int
    flags: int
    mtu: int
    addresses: tuple[Prefix, ...]


class RouteMessage(NamedTuple):
    """An RTM_ADD, DELETE, CHANGE or GET, from the socket or a dump."""

    type: int
    ifindex: int
    flags: int
    pid: int
    seq: int
    errno: int
    mtu: int  # of the next hop; 0 where the kernel does not say
    prefix: Prefix | None
    gateway: Prefix | None  # None: straight to an interface
    gateway_ifindex: int | None  # where the gateway is a link#N


class LinkMessage(NamedTuple):
    """An interface changed, came or went; `name` is "" where the message has none."""

    ifindex: int
    name: str


class AddressMessage(NamedTuple):
    """An address of an interface came or went."""

    ifindex: int


# --- pack


def padded(address: bytes) -> bytes:
    """Return a sockaddr as it stands in a message."""
    return address.ljust((len(address) + 7) & ~7, b"\0")


def link_sockaddr(ifindex: int) -> bytes:
    """Return the gateway that means "straight to this interface"; the kernel wants no more."""
    return SOCKADDR_DL.pack(SOCKADDR_DL.size, AF_LINK, ifindex, 0, 0, 0, 0)


def route_message(
    type_: int, prefix: Prefix, gateway: bytes, *, flags: int, seq: int, mtu: int = 0
) -> bytes:
    """
    Return an RTM_ADD or RTM_DELETE as route(8) sends it.

    A host goes without a mask, flags without RTF_PINNED: a route of the kernel's own is
    never ours to remove. `mtu` 0 leaves the interface's.
    """
    # Written out because it runs once a route: through Prefix and sockaddr() it costs
    # more than the system call.
    version, address, length = prefix
    bits = BITS[version]
    packed = (address >> bits - length << bits - length).to_bytes(bits // 8, "big")
    destination = SOCKADDR_HEAD[version] + packed + SOCKADDR_TAIL[version]
    if length == bits:
        flags |= RTF_HOST
        addresses = RTA_DST | RTA_GATEWAY
        tail = destination + padded(gateway)
    else:
        addresses = RTA_DST | RTA_GATEWAY | RTA_NETMASK
        tail = destination + padded(gateway) + _padded_mask(version, length)
    return _message(type_, flags, addresses, seq, tail, mtu=mtu)


@cache
def _padded_mask(version: int, length: int) -> bytes:
    return padded(netmask(Prefix(version, 0, length)))


def get_message(prefix: Prefix, seq: int, *, exact: bool) -> bytes:
    """
    Return an RTM_GET: for this very prefix, or for the best way to a host.

    With a mask the kernel looks for the prefix, without one for the way (rtsock.c,
    handle_rtm_get). The empty RTA_IFP asks it to name the interface.
    """
    tail = padded(sockaddr(prefix.network))
    addresses, flags = RTA_DST | RTA_IFP, RTF_UP
    if exact:
        addresses |= RTA_NETMASK
        tail += padded(netmask(prefix))
    else:
        flags |= RTF_HOST
    tail += padded(link_sockaddr(0))
    return _message(RTM_GET, flags, addresses, seq, tail)


def _message(
    type_: int, flags: int, addresses: int, seq: int, tail: bytes, *, mtu: int = 0
) -> bytes:
    length = RT_MSGHDR.size + len(tail)
    inits = RTV_MTU if mtu else 0
    head = RT_MSGHDR.pack(
        length, RTM_VERSION, type_, 0, 0, flags, addresses, 0, seq, 0, 0, inits, 0, mtu
    )
    return head + tail


# --- parse


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Yield the type and the bytes of each message in a datagram or a dump.

    Messages of another version are passed over, as route(4) says. Raises: ProtocolError
    for lengths that do not fit.
    """
    offset = 0
    while offset < len(data):
        if len(data) - offset < HEADER.size:
            raise ProtocolError("a routing message is cut short")
        length, version, type_ = HEADER.unpack_from(data, offset)
        if not HEADER.size <= length <= len(data) - offset:
            raise ProtocolError("the length of a routing message is wrong")
        if version == RTM_VERSION:
            yield type_, data[offset : offset + length]
        offset += length


def parse_route(message: bytes) -> RouteMessage:
    """
    Parse an RTM_ADD, DELETE, CHANGE or GET. Raises: ProtocolError if it is cut short.

    `prefix` is None for families other than IPv4 and IPv6.
    """
    if len(message) < RT_MSGHDR.size:
        raise ProtocolError("a routing message is cut short")
    _, _, type_, ifindex, _, flags, addresses, pid, seq, errno, _, _, _, mtu = (
        RT_MSGHDR.unpack_from(message)
    )
    found = _sockaddrs(message, RT_MSGHDR.size, addresses)
    gateway = found.get(RTA_GATEWAY, b"")
    is_link = len(gateway) >= 4 and gateway[1] == AF_LINK
    return RouteMessage(
        type_,
        ifindex,
        flags,
        pid,
        seq,
        errno,
        mtu,
        _prefix(found.get(RTA_DST, b""), found.get(RTA_NETMASK), host=bool(flags & RTF_HOST)),
        None if is_link else _prefix(gateway, None, host=True),
        int.from_bytes(gateway[2:4], sys.byteorder) if is_link else None,
    )


def parse_link(type_: int, message: bytes) -> LinkMessage:
    """Parse an RTM_IFINFO or RTM_IFANNOUNCE. Raises: ProtocolError if it is cut short."""
    layout = IF_ANNOUNCEMSGHDR if type_ == RTM_IFANNOUNCE else IF_MSGHDR
    if len(message) < layout.size:
        raise ProtocolError("a routing message is cut short")
    if type_ == RTM_IFANNOUNCE:
        index, name, _what = layout.unpack_from(message)
        return LinkMessage(index, unpacked_name(name))
    return LinkMessage(layout.unpack_from(message)[2], "")


def parse_address(message: bytes) -> AddressMessage:
    """Parse an RTM_NEWADDR or RTM_DELADDR. Raises: ProtocolError if it is cut short."""
    if len(message) < IFA_MSGHDR.size:
        raise ProtocolError("a routing message is cut short")
    return AddressMessage(IFA_MSGHDR.unpack_from(message)[2])


def interface_entries(dump: bytes) -> list[InterfaceEntry]:
    """Parse a NET_RT_IFLISTL dump: every interface with the addresses that follow it."""
    found: list[InterfaceEntry] = []
    for type_, message in messages(dump):
        if type_ not in (RTM_IFINFO, RTM_NEWADDR) or len(message) < IF_MSGHDRL.size:
            continue
        addresses, flags, ifindex, header, data_offset = IF_MSGHDRL.unpack_from(message)
        sockaddrs = _sockaddrs(message, header, addresses)
        if type_ == RTM_IFINFO:
            at = data_offset + IF_DATA_MTU
            mtu = int.from_bytes(message[at : at + 4], sys.byteorder)
            name = _link_name(sockaddrs.get(RTA_IFP, b""))
            found.append(InterfaceEntry(name, ifindex, flags, mtu, ()))
            continue
        prefix = _prefix(sockaddrs.get(RTA_IFA, b""), sockaddrs.get(RTA_NETMASK), host=False)
        if prefix is not None and found and found[-1].ifindex == ifindex:
            found[-1] = found[-1]._replace(addresses=(*found[-1].addresses, prefix))
    return found


def _sockaddrs(message: bytes, offset: int, addresses: int) -> dict[int, bytes]:
    found = {}
    for bit in range(8):
        if addresses >> bit & 1 and offset < len(message):
            length = message[offset]
            found[1 << bit] = message[offset : offset + length]
            offset += (length + 7) & ~7 or 8
    return found


def _prefix(address: bytes, mask: bytes | None, *, host: bool) -> Prefix | None:
    """Masks may be cut after their last byte that counts, and their family may be 0."""
    if len(address) < 2:
        return None
    if address[1] == AF_INET:
        version, start, end = 4, 4, 8
    elif address[1] == AF_INET6:
        version, start, end = 6, 8, 24
    else:
        return None
    packed = address[start:end].ljust(end - start, b"\0")
    if version == 6 and packed[0] == 0xFE and packed[1] & 0xC0 == 0x80:
        packed = packed[:2] + b"\0\0" + packed[4:]  # kernels may keep the scope in there
    number = int.from_bytes(packed, "big")
    if host:
        length = BITS[version]
    elif mask is None:
        length = BITS[version] if number else 0
    else:
        length = int.from_bytes(mask[start:end].ljust(end - start, b"\0"), "big").bit_count()
    return Prefix(version, number, length)


def _link_name(address: bytes) -> str:
    if len(address) < 8 or address[1] != AF_LINK:
        return ""
    return address[8 : 8 + address[5]].decode(errors="replace")
