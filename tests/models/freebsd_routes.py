"""The model kernel's routing tables and the sockets that listen to them."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

from tests.models import freebsd_wire as wire

if TYPE_CHECKING:
    from tests.models.freebsd_vnet import Vnet

DEFAULT_BUFFER = 8192

Key = tuple[int, int, int]  # family, network, prefix length


class Entry(NamedTuple):
    """One next hop of a route."""

    flags: int
    gateway: bytes
    ifindex: int
    mtu: int = 0
    source: int | None = None  # the IPv4 address that the route goes away with


class Ear:
    """A routing socket: ours is the end that the kernel writes to."""

    def __init__(self, fib: int, family: int) -> None:
        self.fib = fib
        self.family = family
        self.says_overflow = False
        self.lost = False
        kernel_end, user_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.inode = os.fstat(user_end.fileno()).st_ino
        kernel_end.setblocking(False)
        self._kernel_end = kernel_end.detach()  # a kernel does not warn of what is left open
        self._user_end = user_end.detach()
        self.resize(DEFAULT_BUFFER)

    def __del__(self) -> None:
        os.close(self._kernel_end)

    def take_user_end(self) -> socket.socket:
        """Return the end that the process has."""
        return socket.socket(fileno=self._user_end)

    def resize(self, size: int) -> None:
        """Make room for about `size` bytes."""
        with socket.socket(fileno=os.dup(self._kernel_end)) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)

    def hear(self, message: bytes) -> bool:
        """Queue a message; False if nobody is there any more."""
        try:
            os.write(self._kernel_end, message)
        except BlockingIOError:
            self.lost = True
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                return False
            self.lost = True
        return True


def fail(number: int) -> OSError:
    """Return the error a system call gives."""
    return OSError(number, os.strerror(number))


def add(vnet: Vnet, fib: int, key: Key, entry: Entry) -> None:
    """Add a route, or another next hop where the kernel does multipath."""
    table = vnet.fibs[fib]
    present = table.setdefault(key, [])
    if present:
        both_gateways = entry.flags & present[0].flags & wire.GATEWAY
        if not (vnet.machine.flavour.multipath and both_gateways) or any(
            hop.gateway == entry.gateway for hop in present
        ):
            raise fail(errno.EEXIST)
    present.append(entry)


def lookup(vnet: Vnet, fib: int, family: int, number: int) -> tuple[Key, Entry] | None:
    """Return the best route to an address."""
    bits = wire.BITS[family]
    for length in range(bits, -1, -1):
        key = (family, number >> (bits - length) << (bits - length), length)
        hops = vnet.fibs[fib].get(key)
        if hops:
            return key, hops[0]
    return None


def message_of(vnet: Vnet, kind: int, key: Key, entry: Entry, who: tuple[int, int, int]) -> bytes:
    """Pack what the kernel says of a route."""
    family, network, length = key
    interface = vnet.by_index(entry.ifindex)
    addresses = {1: wire.inet(family, network), 2: entry.gateway}
    if not entry.flags & wire.HOST:
        addresses[4] = wire.mask(family, length)
    if kind == wire.GET and interface is not None:
        addresses[0x10] = wire.link(entry.ifindex, interface.name)
    mtu = entry.mtu or (interface.mtu if interface is not None else 0)
    return wire.rtm(kind, entry.ifindex, entry.flags, addresses, who=who, mtu=mtu)


def dump(vnet: Vnet, fib: int) -> bytes:
    """Return NET_RT_DUMP."""
    if fib >= len(vnet.fibs):
        raise fail(errno.EINVAL)
    return b"".join(
        message_of(vnet, wire.GET, key, hop, (0, 0, 0))
        for key, hops in sorted(vnet.fibs[fib].items())
        for hop in hops
    )


def handle(vnet: Vnet, ear: Ear, message: bytes) -> None:
    """Do what a message written to a routing socket asks; the verdict is an OSError."""
    if len(message) < 152 or struct.unpack_from("=H", message)[0] != len(message):
        raise fail(errno.EINVAL)
    if message[2] != 5:
        raise fail(errno.EPROTONOSUPPORT)
    kind = message[3]
    seq = struct.unpack_from("=i", message, 20)[0]
    who = (os.getpid(), seq, 0)
    try:
        if kind == wire.GET:
            key, hop = _get(vnet, ear.fib, message)
            vnet.tell(message_of(vnet, kind, key, _done(hop), who), ear.fib)
            return
        key, hop = _change(vnet, ear.fib, message)
    except OSError as error:
        # What failed is broadcast as it came, with the errno.
        failed = bytearray(message)
        struct.pack_into("=iii", failed, 16, os.getpid(), seq, error.errno)
        vnet.tell(bytes(failed), ear.fib)
        raise
    vnet.tell(message_of(vnet, kind, key, _done(hop), who), ear.fib)


def _done(hop: Entry) -> Entry:
    return hop._replace(flags=hop.flags | wire.DONE)


def _key(vnet: Vnet, found: dict[int, bytes], *, host: bool) -> Key:
    address = found.get(1)
    if address is None or address[1] not in wire.BITS:
        raise fail(errno.EINVAL if address is None else errno.EAFNOSUPPORT)
    family = address[1]
    if family == wire.INET6 and not vnet.machine.has_inet6:
        raise fail(errno.EAFNOSUPPORT)
    bits = wire.BITS[family]
    if 4 in found and not host:
        length = wire.number_of(found[4]).bit_count()
    elif host:
        length = bits
    else:
        raise fail(errno.EINVAL)
    return family, wire.number_of(address) >> (bits - length) << (bits - length), length


def _get(vnet: Vnet, fib: int, message: bytes) -> tuple[Key, Entry]:
    found = wire.sockaddrs(message)
    if 4 in found:  # with a mask it is this very prefix
        key = _key(vnet, found, host=False)
        hops = vnet.fibs[fib].get(key)
        if not hops:
            raise fail(errno.ESRCH)
        return key, hops[0]
    key = _key(vnet, found, host=True)
    best = lookup(vnet, fib, key[0], key[1])
    if best is None:
        raise fail(errno.ESRCH)
    return best


def _change(vnet: Vnet, fib: int, message: bytes) -> tuple[Key, Entry]:
    vnet.need_privilege()
    found = wire.sockaddrs(message)
    flags = struct.unpack_from("=i", message, 8)[0]
    key = _key(vnet, found, host=bool(flags & wire.HOST))
    if key[2] == wire.BITS[key[0]]:
        flags |= wire.HOST
    if 2 not in found or (flags & wire.BLACKHOLE and flags & wire.REJECT):
        raise fail(errno.EINVAL)
    gateway = found[2]
    if flags & (wire.BLACKHOLE | wire.REJECT) and vnet.machine.flavour.blackhole_by_loopback:
        gateway = _loopback_gateway(vnet, key[0])
        flags |= wire.GATEWAY
    if message[3] == wire.DELETE:
        return key, _delete(vnet, fib, key, gateway)
    if gateway[1] == wire.LINK:
        interface = vnet.by_index(struct.unpack_from("=H", gateway, 2)[0])
        if interface is None:
            raise fail(errno.ENETUNREACH)
        ifindex, gateway = interface.ifindex, wire.link(interface.ifindex)
    else:
        way = lookup(vnet, fib, gateway[1], wire.number_of(gateway))
        if way is None or way[1].flags & wire.GATEWAY:
            raise fail(errno.ENETUNREACH)
        ifindex = way[1].ifindex
    inits, _locks, mtu = struct.unpack_from("=QQQ", message, 32)
    source = _source(vnet, ifindex, key)
    hop = Entry(flags | wire.UP, gateway, ifindex, mtu if inits & 1 else 0, source)
    add(vnet, fib, key, hop)
    return key, hop


def _source(vnet: Vnet, ifindex: int, key: Key) -> int | None:
    """ifaof_ifpforaddr: the address whose network it is in, else the first."""
    own = [one for one in vnet.interfaces[ifindex].addresses if one[0] == key[0] == wire.INET]
    near = [one for one in own if one[1] >> 32 - one[2] == key[1] >> 32 - one[2]]
    return next((number for _family, number, _length in near + own), None)


def _loopback_gateway(vnet: Vnet, family: int) -> bytes:
    """fill_blackholeinfo, from 13 on."""
    loopback = vnet.interfaces[vnet.loopback_index]
    if not any(address[0] == family for address in loopback.addresses):
        raise fail(errno.EOPNOTSUPP)
    return wire.inet(family, 0x7F000001 if family == wire.INET else 1)


def _delete(vnet: Vnet, fib: int, key: Key, gateway: bytes) -> Entry:
    hops = vnet.fibs[fib].get(key, [])
    for hop in hops:
        if _same_gateway(hop.gateway, gateway):
            if hop.flags & wire.PINNED:
                raise fail(errno.EADDRINUSE)
            hops.remove(hop)
            if not hops:
                del vnet.fibs[fib][key]
            return hop
    raise fail(errno.ESRCH)


def _same_gateway(present: bytes, asked: bytes) -> bool:
    if present[1] != asked[1]:
        return False
    if asked[1] == wire.LINK:
        return present[2:4] == asked[2:4]
    return wire.number_of(present) == wire.number_of(asked)
