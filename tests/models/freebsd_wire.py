"""
Routing messages as the model kernel packs and unpacks them.

Written apart from wgsvc.system.freebsd.rtsock on purpose: a mistake shared by both
sides of a test shows nowhere.
"""

from __future__ import annotations

import struct

ADD, DELETE, GET, NEWADDR, DELADDR, IFINFO, NEWMADDR, IFANNOUNCE = 1, 2, 4, 12, 13, 14, 15, 17
UP, GATEWAY, HOST, REJECT, DONE, STATIC, BLACKHOLE, PINNED = (
    0x1,
    0x2,
    0x4,
    0x8,
    0x40,
    0x800,
    0x1000,
    0x100000,
)
INET, LINK, INET6 = 2, 18, 28
BITS = {INET: 32, INET6: 128}


def pad(address: bytes) -> bytes:
    """Round a sockaddr up, as SA_SIZE does."""
    return address + bytes(-len(address) % 8)


def inet(family: int, number: int, scope: int = 0) -> bytes:
    """Pack a sockaddr_in or sockaddr_in6."""
    if family == INET:
        return bytes([16, INET, 0, 0]) + number.to_bytes(4, "big") + bytes(8)
    tail = number.to_bytes(16, "big") + struct.pack("=I", scope)
    return bytes([28, INET6]) + bytes(6) + tail


def mask(family: int, length: int) -> bytes:
    """Pack a mask."""
    bits = BITS[family]
    return inet(family, (1 << bits) - (1 << (bits - length)))


def link(ifindex: int, name: str = "", kind: int = 23) -> bytes:
    """Pack a sockaddr_dl: the short one of a gateway, or the long one with a name."""
    if not name:
        return bytes([16, LINK]) + struct.pack("=H", ifindex) + bytes([kind]) + bytes(11)
    head = bytes([56, LINK]) + struct.pack("=HBB", ifindex, kind, len(name))
    return (head + bytes(2) + name.encode()).ljust(56, b"\0")


def rtm(
    kind: int,
    ifindex: int,
    flags: int,
    addresses: dict[int, bytes],
    *,
    who: tuple[int, int, int] = (0, 0, 0),
    mtu: int = 0,
) -> bytes:
    """Pack an rt_msghdr with its sockaddrs; `who` is pid, seq, errno."""
    tail = b"".join(pad(addresses[bit]) for bit in sorted(addresses))
    head = struct.pack("=HBBHH", 152 + len(tail), 5, kind, ifindex, 0)
    head += struct.pack("=iiiii", flags, sum(addresses), *who) + struct.pack("=i", 0)
    head += struct.pack("=QQQ", 0, 0, mtu) + bytes(96)
    return head + tail


def ifinfo(ifindex: int, flags: int, mtu: int) -> bytes:
    """Pack an if_msghdr."""
    data = struct.pack("=BBBBBBH", 23, 0, 0, 0, 2, 0, 152) + struct.pack("=I", mtu)
    return struct.pack("=HBBiiHH", 168, 5, IFINFO, 0, flags, ifindex, 0) + data.ljust(152, b"\0")


def announce(ifindex: int, name: str, *, gone: bool) -> bytes:
    """Pack an if_announcemsghdr."""
    return struct.pack("=HBBH16sH", 24, 5, IFANNOUNCE, ifindex, name.encode(), int(gone))


def ifa(kind: int, ifindex: int, name: str, address: tuple[int, int, int]) -> bytes:
    """Pack an ifa_msghdr; the address is family, number, prefix length."""
    family, number, length = address
    tail = pad(mask(family, length)) + pad(link(ifindex, name)) + pad(inet(family, number))
    return struct.pack("=HBBiiHHi", 20 + len(tail), 5, kind, 0x34, 0, ifindex, 0, 0) + tail


def iflistl_link(ifindex: int, name: str, flags: int, mtu: int) -> bytes:
    """Pack an if_msghdrl with its name."""
    tail = pad(link(ifindex, name))
    head = struct.pack("=HBBiiHH", 176 + len(tail), 5, IFINFO, 0x10, flags, ifindex, 0)
    data = struct.pack("=BBBBBBH", 23, 0, 0, 0, 2, 0, 152) + struct.pack("=I", mtu)
    return head + struct.pack("=HHI", 176, 24, 0) + data.ljust(152, b"\0") + tail


def iflistl_address(ifindex: int, address: tuple[int, int, int]) -> bytes:
    """Pack an ifa_msghdrl."""
    family, number, length = address
    tail = pad(mask(family, length)) + pad(inet(family, number))
    head = struct.pack("=HBBiiHH", 176 + len(tail), 5, NEWADDR, 0x24, 0, ifindex, 0)
    return head + struct.pack("=HHi", 176, 24, 0) + bytes(152) + tail


def sockaddrs(message: bytes) -> dict[int, bytes]:
    """Unpack what follows an rt_msghdr, bit by bit, as rt_xaddrs does."""
    wanted = struct.unpack_from("=i", message, 12)[0]
    offset, found = 152, {}
    for bit in range(8):
        if not wanted >> bit & 1 or offset >= len(message):
            continue
        length = message[offset]
        if length == 0:
            break
        found[1 << bit] = message[offset : offset + length]
        offset += length + -length % 8
    return found


def number_of(address: bytes) -> int:
    """Return the address in a sockaddr as a number."""
    start, end = (4, 8) if address[1] == INET else (8, 24)
    return int.from_bytes(address[start:end], "big")
