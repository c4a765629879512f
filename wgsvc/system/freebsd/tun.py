"""
Making interfaces: tun(4) for wireguard-go, wg(4) for the kernel's own WireGuard.

/dev/tun is never opened and never even looked at: a look creates an interface (observed-13.2:
section 1, row 12), and in a jail that hides it each look leaks one (row 13). The wildcard
`tun` gives a unit that no jail of the host has.
"""

from __future__ import annotations

import errno
import os

from wgsvc.errors import (
    BusyError,
    NameTakenError,
    NotPermittedError,
    OSFailureError,
    UnavailableError,
    WgsvcError,
)
from wgsvc.light import TYPE_CHECKING
from wgsvc.system.base import Interface, Tun
from wgsvc.system.freebsd import destroy, ioctl, link
from wgsvc.system.freebsd.kernel import AF_INET6

if TYPE_CHECKING:
    from wgsvc.system.freebsd.kernel import Kernel

IFF_BROADCAST, IFF_MULTICAST = 0x2, 0x8000
ND6_AUTO_LINKLOCAL, ND6_NO_DAD = 0x20, 0x100
KERNEL_NAMES = ("tun", "tap", "vmnet")  # units of these are shared by all jails

DEVFS_CURE = (
    "on the host, put into /etc/devfs.rules: [devfsrules_jail_wg=10] / "
    "add include $devfsrules_jail_vnet / add path 'tun*' unhide; then: service devfs restart, "
    "and devfs_ruleset = 10 in jail.conf"
)
CREATE_CURE = "run as root; a jail needs a network stack of its own (vnet in jail.conf)"


def create(kernel: Kernel, name: str, group: str = "") -> Tun:
    """
    Make a tun called `name`, open and ready for wireguard-go. On failure nothing is left.

    `group` must not be `wg`, if wg(8) is to list each tunnel once: for it that group is the
    kernel's own WireGuard, which if_wg puts into it.

    Raises: NameTakenError, UnavailableError, NotPermittedError, BusyError, OSFailureError.
    """
    _check_name(kernel, name)
    if _is_kernel_name(name) and not name.startswith("tun"):
        raise _reserved(name)
    unit = _create(kernel, "tun", "if_tuntap")
    descriptor = -1
    ifindex = 0
    try:
        # At once: if we are killed before it has its name, this tells whose it is.
        link.describe(kernel, unit, _mark(name))
        if _is_kernel_name(name) and name != unit:
            raise _reserved(name)
        found = link.index_of(kernel, unit)
        if found is None:
            raise OSFailureError("SIOCGIFINDEX", unit, errno.ENXIO)
        ifindex = found
        descriptor = _open(kernel, unit)
        _prepare(kernel, descriptor, unit)
        if group:
            link.add_group(kernel, unit, group)
        if name != unit:
            link.rename(kernel, unit, name)
    except BusyError:
        raise  # whoever opened it first keeps it: destroying it now would wait for them
    except BaseException:
        if descriptor >= 0:
            kernel.close(descriptor)
        _undo(kernel, unit)
        raise
    return Tun(descriptor, name, ifindex, unit)


def create_kernel(kernel: Kernel, name: str) -> int:
    """
    Make an interface of the kernel's own WireGuard; return its index.

    Raises: NameTakenError, UnavailableError (no such driver), NotPermittedError.
    """
    _check_name(kernel, name)
    if _is_kernel_name(name):
        raise _reserved(name)
    unit = _create(kernel, "wg", "if_wg")
    try:
        link.describe(kernel, unit, _mark(name))
        if name != unit:
            link.rename(kernel, unit, name)
        ifindex = link.index_of(kernel, name)
        if ifindex is None:
            raise OSFailureError("SIOCGIFINDEX", name, errno.ENXIO)
    except BaseException:
        _undo(kernel, unit)
        raise
    return ifindex


def abandoned(kernel: Kernel, name: str) -> list[Interface]:
    """
    Return what bears our mark for `name`, under whatever name, and nobody has open.

    A supervisor that was killed half-way through a creation or a removal leaves such.
    """
    return [
        found
        for found in link.interfaces(kernel)
        if link.description(kernel, found.name) == _mark(name) and _unused(kernel, found, name)
    ]


def _unused(kernel: Kernel, found: Interface, name: str) -> bool:
    if found.kind == "wireguard":  # nobody ever has one open; under its own name it is in use
        return found.name != name
    seen = destroy.look(kernel, found.name, found.ifindex)
    return seen is not None and seen.driver == "tun" and seen.opener == destroy.NOBODY


def _mark(name: str) -> str:
    return f"WireGuard tunnel {name}"


def _create(kernel: Kernel, driver: str, module: str) -> str:
    """Make an interface of a driver under the name the kernel chooses; return that."""
    argument = ioctl.IFREQ.pack(driver.encode())
    try:
        answer = ioctl.call(kernel, ioctl.SIOCIFCREATE2, driver, argument)
    except OSFailureError as error:
        if error.errno == errno.EPERM:
            raise NotPermittedError(
                f"SIOCIFCREATE2 {driver}: not permitted", cure=CREATE_CURE
            ) from error
        if error.errno == errno.EINVAL:
            raise UnavailableError(
                f"the kernel has no {driver} driver", cure=f"on the host: kldload {module}"
            ) from error
        raise
    return ioctl.unpacked_name(ioctl.IFREQ.unpack(answer)[0])


def _open(kernel: Kernel, unit: str) -> int:
    path = f"/dev/{unit}"
    try:
        return kernel.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise UnavailableError(f"{path} is hidden from this jail", cure=DEVFS_CURE) from error
        if error.errno == errno.EBUSY:
            raise BusyError(f"{path} was opened by somebody else just now") from error
        raise OSFailureError("open", path, error.errno or 0) from error


def _prepare(kernel: Kernel, descriptor: int, unit: str) -> None:
    """Set what wireguard-go expects, what its own creation of a tun does, and TUNSTRANSIENT."""
    _tun_ioctl(kernel, descriptor, ioctl.TUNSIFHEAD, unit, 1)
    # Broadcast mode: as point-to-point, IPv4 addresses need a destination.
    _tun_ioctl(kernel, descriptor, ioctl.TUNSIFMODE, unit, IFF_BROADCAST | IFF_MULTICAST)
    try:
        _tun_ioctl(kernel, descriptor, ioctl.TUNSTRANSIENT, unit, 1)
    except OSFailureError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL):  # before 15 there is none
            raise
    _no_link_local(kernel, unit)


def _tun_ioctl(
    kernel: Kernel, descriptor: int, request: ioctl.Request, unit: str, value: int
) -> None:
    try:
        kernel.ioctl(descriptor, request.code, bytearray(ioctl.INT.pack(value)))
    except OSError as error:
        raise OSFailureError(request.name, unit, error.errno or 0) from error


def _no_link_local(kernel: Kernel, unit: str) -> None:
    """
    Keep the kernel from making an fe80:: address of its own.

    No file asks for it, and on 12.0 its coming and going with the interface is a panic.
    """
    argument = ioctl.IN6_NDIREQ.pack(ioctl.packed_name(unit), 0)
    try:
        answer = ioctl.call(kernel, ioctl.SIOCGIFINFO_IN6, unit, argument, AF_INET6)
    except OSFailureError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT):  # no IPv6 in this kernel
            return
        raise
    flags = ioctl.IN6_NDIREQ.unpack(answer)[1]
    # The rest of the answer goes back as it came.
    flags = flags & ~ND6_AUTO_LINKLOCAL | ND6_NO_DAD
    answer[36:40] = flags.to_bytes(4, ioctl.BYTE_ORDER)
    ioctl.call(kernel, ioctl.SIOCSIFINFO_IN6, unit, bytes(answer), AF_INET6)


def _undo(kernel: Kernel, unit: str) -> None:
    """
    Remove what was just made, unless somebody has opened it meanwhile.

    It has its first name still, so 12.0 destroys it in a jail, too.
    """
    try:
        if not link.opener(kernel, unit):
            destroy.destroy_now(kernel, unit)
    except WgsvcError:
        return  # gone already (transient), or not permitted; the first error says more


def _check_name(kernel: Kernel, name: str) -> None:
    """Refuse a name that is taken, or that no file in /dev or socket could have."""
    ioctl.packed_name(name)
    if any(character in name for character in " /%") or not name.isprintable():
        raise OSFailureError("SIOCSIFNAME", name, errno.EINVAL)
    if link.index_of(kernel, name) is not None:
        raise link.name_taken(name)


def _is_kernel_name(name: str) -> bool:
    return name.rstrip("0123456789") in KERNEL_NAMES


def _reserved(name: str) -> NameTakenError:
    return NameTakenError(
        f"{name} is a name that the kernel gives, to any jail of this host",
        cure="call the interface something else, such as wg0",
    )
