"""Addresses of interfaces through rtnetlink."""

from __future__ import annotations

import errno
import struct

from wgsvc.errors import OSFailureError
from wgsvc.light import TYPE_CHECKING
from wgsvc.system.linux import link, netlink
from wgsvc.values import Prefix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wgsvc.system.linux.netlink import Connection

IFADDRMSG = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
ADDRESS, LOCAL = 1, 2
NODAD = 0x02  # duplicate address detection has no meaning in a tunnel and delays the address
FAMILY = {4: 2, 6: 10}
VERSION = {2: 4, 10: 6}


def dump(connection: Connection, ifindex: int = 0) -> dict[int, list[Prefix]]:
    """Return the addresses by interface index, of one interface if given."""
    found: dict[int, list[Prefix]] = {}
    request = IFADDRMSG.pack(0, 0, 0, 0, ifindex)
    try:
        bodies = connection.dump(netlink.GETADDR, request, "all addresses")
    except OSFailureError as error:
        if error.errno == errno.ENODEV:  # it went away just now
            return found
        raise
    for body in bodies:
        family, length, _flags, _scope, index = IFADDRMSG.unpack_from(body)
        version = VERSION.get(family)
        if version is None or (ifindex and index != ifindex):
            continue
        values = netlink.attributes(body, IFADDRMSG.size)
        packed = values.get(LOCAL) or values.get(ADDRESS, b"")
        found.setdefault(index, []).append(Prefix(version, int.from_bytes(packed, "big"), length))
    return found


def _message(ifindex: int, address: Prefix) -> bytes:
    flags = NODAD if address.version == 6 else 0
    header = IFADDRMSG.pack(FAMILY[address.version], address.length, flags, 0, ifindex)
    packed = address.packed
    return header + netlink.attribute(LOCAL, packed) + netlink.attribute(ADDRESS, packed)


def add(connection: Connection, name: str, addresses: Iterable[Prefix]) -> None:
    """
    Add addresses; one that is there already is success.

    Raises: OSFailureError; EEXIST if IPv6 has the address with another prefix length.
    """
    ifindex = link.index_of(connection, name, netlink.NEWADDR)
    for address in addresses:
        _add_one(connection, name, ifindex, address)


def _add_one(connection: Connection, name: str, ifindex: int, address: Prefix) -> None:
    flags = netlink.CREATE | netlink.EXCLUSIVE
    try:
        connection.request(netlink.NEWADDR, flags, _message(ifindex, address), f"{name} {address}")
    except OSFailureError as error:
        if error.errno != errno.EEXIST or address not in dump(connection, ifindex).get(ifindex, ()):
            raise


def delete(connection: Connection, name: str, ifindex: int, addresses: Iterable[Prefix]) -> None:
    """
    Remove addresses; one that is not there is success.

    The kernel removes an IPv4 address's secondaries with it (promote_secondaries=0, its
    default); those that nobody asked to remove are put back.
    """
    unwanted = list(addresses)
    before = dump(connection, ifindex).get(ifindex, [])
    for address in unwanted:
        if address not in before:
            continue
        try:
            connection.request(netlink.DELADDR, 0, _message(ifindex, address), f"{name} {address}")
        except OSFailureError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.ENODEV):
                raise
    after = dump(connection, ifindex).get(ifindex, [])
    for address in before:
        if address.version == 4 and address not in unwanted and address not in after:
            _add_one(connection, name, ifindex, address)
