"""The addresses of an interface."""

from __future__ import annotations

import errno

from wgsvc.errors import OSFailureError, UnavailableError
from wgsvc.light import TYPE_CHECKING
from wgsvc.system.freebsd import ioctl, link, route
from wgsvc.system.freebsd.kernel import AF_INET, AF_INET6

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wgsvc.system.freebsd.kernel import Kernel
    from wgsvc.values import Prefix


def add(kernel: Kernel, name: str, addresses: Iterable[Prefix]) -> None:
    """
    Add addresses that are not there yet.

    One that is there is left alone: the kernel would delete and add it again, and its
    routes with it. The length of an IPv6 prefix can't be changed, so the old one goes first.
    """
    ifindex = link.index_of(kernel, name)
    present = _present(kernel, ifindex)
    if ifindex is None or present is None:
        raise OSFailureError("SIOCAIFADDR", name, errno.ENXIO)
    for address in addresses:
        if address in present:
            continue
        other = next((old for old in present if old[:2] == address[:2]), None)
        if other is not None and other.version == 6:
            _delete(kernel, name, other)
        version4 = address.version == 4
        request = ioctl.SIOCAIFADDR if version4 else ioctl.SIOCAIFADDR_IN6
        family = AF_INET if version4 else AF_INET6
        argument = ioctl.alias_request(name, address)
        replaces = other is not None and version4
        routes = route.added(kernel, ifindex) if replaces else []
        ioctl.call(kernel, request, f"{name} {address}", argument, family)
        if replaces:
            route.restore(kernel, ifindex, routes)
        present = (*present, address)


def without_ipv6(kernel: Kernel) -> UnavailableError | None:
    """Return why there is no IPv6 here, None if there is."""
    try:
        kernel.try_socket(AF_INET6)
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):
            return UnavailableError(
                "there is no IPv6 here (a kernel without INET6, or ip6 = disable in jail.conf)",
                cure="take IPv6 out of Address and AllowedIPs, or give this host or jail IPv6",
            )
    return None


def delete(kernel: Kernel, name: str, addresses: Iterable[Prefix]) -> None:
    """Remove addresses that are there, with exactly this prefix length; other routes stay."""
    ifindex = link.index_of(kernel, name)
    present = _present(kernel, ifindex) or ()
    unwanted = [address for address in addresses if address in present]
    if ifindex is None or not unwanted:
        return
    routes = route.added(kernel, ifindex)
    for address in unwanted:
        _delete(kernel, name, address)
    route.restore(kernel, ifindex, routes)


def _delete(kernel: Kernel, name: str, address: Prefix) -> None:
    argument = ioctl.delete_address_request(name, address)
    version4 = address.version == 4
    request = ioctl.SIOCDIFADDR if version4 else ioctl.SIOCDIFADDR_IN6
    family = AF_INET if version4 else AF_INET6
    try:
        ioctl.call(kernel, request, f"{name} {address}", argument, family)
    except OSFailureError as error:
        if error.errno != errno.EADDRNOTAVAIL:  # gone in the meantime
            raise


def _present(kernel: Kernel, ifindex: int | None) -> tuple[Prefix, ...] | None:
    """Return the addresses an interface has, None if there is no such interface."""
    if ifindex is None:
        return None
    found = link.entries(kernel, ifindex)
    return found[0].addresses if found else None
