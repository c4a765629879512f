"""Interfaces: what there is, by which names, and the small settings of each."""

from __future__ import annotations

import array
import errno

from wgsvc.errors import NameTakenError, OSFailureError
from wgsvc.light import TYPE_CHECKING
from wgsvc.system.base import Interface
from wgsvc.system.freebsd import ioctl, rtsock

if TYPE_CHECKING:
    from wgsvc.system.freebsd.kernel import Kernel

IFF_UP = 0x1

# sysctl(3) names: CTL_NET.PF_ROUTE.0.0.NET_RT_IFLISTL.index, which carries the lengths of its
# structures, and net.link.generic.ifdata (if_mib.h).
IFLIST = (4, 17, 0, 0, 5)
IFDATA = (4, 18, 0, 2)
IFDATA_GENERAL = 1
IFDATA_DRIVERNAME = 3

MOST_DRIVERS = 256
OPENED_BY = b"Opened by PID "
STATUS_SAFE_SINCE = 1201000  # __FreeBSD_version of 12.1


def index_of(kernel: Kernel, name: str) -> int | None:
    """Return the index of an interface, None if there is none of this name."""
    try:
        argument = ioctl.IFREQ_INDEX.pack(ioctl.packed_name(name), 0)
        answer = ioctl.call(kernel, ioctl.SIOCGIFINDEX, name, argument)
    except OSFailureError as error:
        if error.errno in (errno.ENXIO, errno.ENAMETOOLONG):
            return None
        raise
    index: int = ioctl.IFREQ_INDEX.unpack(answer)[1]
    return index


def name_of(kernel: Kernel, ifindex: int) -> str | None:
    """Return the name of an interface, None if it is gone."""
    try:
        data = kernel.sysctl((*IFDATA, ifindex, IFDATA_GENERAL))
    except OSError:
        return None
    return ioctl.unpacked_name(data[: ioctl.NAME_LENGTH])


def driver_unit(kernel: Kernel, ifindex: int) -> str:
    """
    Return what the driver calls an interface: `tun3`, whatever its name is now.

    This, not a group, tells a tun from a kernel `wg`: anybody may add groups.
    "" if the interface is gone.
    """
    try:
        return ioctl.unpacked_name(kernel.sysctl((*IFDATA, ifindex, IFDATA_DRIVERNAME)))
    except OSError:
        return ""


def has_driver(kernel: Kernel, driver: str) -> bool:
    """Whether this network stack can make interfaces of a driver."""
    names = array.array("B", bytes(MOST_DRIVERS * ioctl.NAME_LENGTH))
    argument = ioctl.IF_CLONEREQ.pack(0, MOST_DRIVERS, names.buffer_info()[0])
    ioctl.call(kernel, ioctl.SIOCIFGCLONERS, driver, argument)
    packed = names.tobytes()
    size = ioctl.NAME_LENGTH
    return any(
        ioctl.unpacked_name(packed[at : at + size]) == driver for at in range(0, len(packed), size)
    )


def status_is_safe(kernel: Kernel) -> bool:
    """
    Whether SIOCGIFSTATUS may be asked while an interface goes away.

    On 12.0 it races with the destruction of a tun and the kernel panics (PR 233955, fixed in
    12.1). A panic can't be tried out, so this one thing goes by the version.
    """
    version = int.from_bytes(kernel.sysctl_by_name("kern.osreldate")[:4], "little")
    return version >= STATUS_SAFE_SINCE


def opener(kernel: Kernel, name: str) -> int | None:
    """
    Return the PID that has a tun open, 0 if nobody has, None if the kernel does not tell.

    It is the process that opened it or called TUNSIFPID; others may hold copies of the
    descriptor. It becomes 0 when the last of them is closed.
    """
    if not status_is_safe(kernel):
        return None
    try:
        argument = ioctl.IFSTAT.pack(ioctl.packed_name(name), b"")
        answer = ioctl.call(kernel, ioctl.SIOCGIFSTATUS, name, argument)
    except OSFailureError as error:
        if error.errno == errno.ENXIO:  # gone
            return None
        raise
    text: bytes = ioctl.IFSTAT.unpack(answer)[1].split(b"\0", 1)[0]
    _before, found, after = text.partition(OPENED_BY)
    return int(after.split()[0]) if found else 0


def entries(kernel: Kernel, ifindex: int = 0) -> list[rtsock.InterfaceEntry]:
    """Return what the dump says of all interfaces, or of one; empty if that is gone."""
    try:
        return rtsock.interface_entries(kernel.sysctl((*IFLIST, ifindex)))
    except OSError as error:
        raise OSFailureError("sysctl", "NET_RT_IFLISTL", error.errno or 0) from error


def interfaces(kernel: Kernel, ifindex: int = 0) -> list[Interface]:
    """Return all interfaces, or the one of `ifindex`; empty if that is gone."""
    found = []
    for entry in entries(kernel, ifindex):
        unit = driver_unit(kernel, entry.ifindex)
        kind = _kind(unit)
        found.append(
            Interface(
                name=entry.name,
                ifindex=entry.ifindex,
                kind=kind,
                up=bool(entry.flags & IFF_UP),
                mtu=entry.mtu,
                addresses=entry.addresses,
                opener_pid=opener(kernel, entry.name) if kind == "tun" else None,
            )
        )
    return found


def _kind(unit: str) -> str:
    driver = unit.rstrip("0123456789")
    return "wireguard" if driver == "wg" else driver


def set_up(kernel: Kernel, name: str) -> None:
    """Set IFF_UP."""
    argument = ioctl.IFREQ_FLAGS.pack(ioctl.packed_name(name), 0, 0)
    answer = ioctl.call(kernel, ioctl.SIOCGIFFLAGS, name, argument)
    packed, low, high = ioctl.IFREQ_FLAGS.unpack(answer)
    argument = ioctl.IFREQ_FLAGS.pack(packed, low | IFF_UP, high)
    ioctl.call(kernel, ioctl.SIOCSIFFLAGS, name, argument)


def set_mtu(kernel: Kernel, name: str, mtu: int) -> None:
    """Set the MTU; the kernel sends RTM_IFINFO also if it is the same."""
    argument = ioctl.IFREQ_INT.pack(ioctl.packed_name(name), mtu)
    ioctl.call(kernel, ioctl.SIOCSIFMTU, name, argument)


def rename(kernel: Kernel, name: str, new_name: str) -> None:
    """
    Rename an interface.

    Raises: NameTakenError if there is one of the new name.
    """
    text = array.array("B", ioctl.packed_name(new_name).ljust(ioctl.NAME_LENGTH, b"\0"))
    argument = ioctl.IFREQ_POINTER.pack(ioctl.packed_name(name), text.buffer_info()[0])
    try:
        ioctl.call(kernel, ioctl.SIOCSIFNAME, f"{name} -> {new_name}", argument)
    except OSFailureError as error:
        if error.errno == errno.EEXIST:
            raise name_taken(new_name) from error
        raise


def describe(kernel: Kernel, name: str, description: str) -> None:
    """Set the description that ifconfig(8) shows."""
    text = array.array("B", description.encode() + b"\0")
    argument = ioctl.IFREQ_BUFFER.pack(ioctl.packed_name(name), len(text), text.buffer_info()[0])
    ioctl.call(kernel, ioctl.SIOCSIFDESCR, name, argument)


def description(kernel: Kernel, name: str) -> str:
    """Return the description of an interface, "" if it has none, a long one, or is gone."""
    text = array.array("B", bytes(128))
    argument = ioctl.IFREQ_BUFFER.pack(ioctl.packed_name(name), len(text), text.buffer_info()[0])
    try:
        ioctl.call(kernel, ioctl.SIOCGIFDESCR, name, argument)
    except OSFailureError as error:
        if error.errno in (errno.ENOMSG, errno.ENXIO):
            return ""
        raise
    return text.tobytes().split(b"\0", 1)[0].decode(errors="replace")


def add_group(kernel: Kernel, name: str, group: str) -> None:
    """Put an interface into a group, so that pf rules can name it."""
    packed = group.encode()
    argument = ioctl.IFGROUPREQ.pack(ioctl.packed_name(name), ioctl.NAME_LENGTH, packed)
    try:
        ioctl.call(kernel, ioctl.SIOCAIFGROUP, name, argument)
    except OSFailureError as error:
        if error.errno != errno.EEXIST:  # it is in there
            raise


def name_taken(name: str) -> NameTakenError:
    """Return the error for a name that somebody else's interface has."""
    return NameTakenError(
        f"there is an interface {name} already",
        cure=f"if nobody needs it: ifconfig {name} destroy",
    )
