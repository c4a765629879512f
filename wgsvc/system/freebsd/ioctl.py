"""
ioctl(2) requests: their codes and the layout of their arguments.

A request's code holds the size of its argument, so a wrong size is a wrong code.
Sources: sys/ioccom.h, sys/sockio.h, net/if.h, netinet/in_var.h, netinet6/in6_var.h,
netinet6/nd6.h and net/if_tun.h, the same from FreeBSD 12 to 15; every one of them was
accepted by a 13.2 kernel. ifconfig(8) could do most of this, at a fork each and with
texts that change between releases.
"""

from __future__ import annotations

import errno
import struct
import sys

from wgsvc.errors import OSFailureError, UnavailableError
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.system.freebsd.kernel import AF_INET, AF_INET6

if TYPE_CHECKING:
    from wgsvc.system.freebsd.kernel import Kernel
    from wgsvc.values import Prefix

BYTE_ORDER = sys.byteorder
NAME_LENGTH = 16  # IFNAMSIZ, with the NUL

# Standard sizes, native byte order: the layouts of LP64 kernels (amd64, arm64, ...).
INT = struct.Struct("=i")
IFREQ = struct.Struct("=16s16x")
IFREQ_INT = struct.Struct("=16si12x")
IFREQ_FLAGS = struct.Struct("=16sHH12x")
IFREQ_INDEX = struct.Struct("=16sH14x")
IFREQ_POINTER = struct.Struct("=16sQ8x")
IFREQ_BUFFER = struct.Struct("=16sQQ")
IFREQ_SOCKADDR = struct.Struct("=16s16s")
SOCKADDR_IN = struct.Struct("=BBH4s8x")
SOCKADDR_IN6 = struct.Struct("=BBHI16sI")
IN_ALIASREQ = struct.Struct("=16s16s16x16si")
IN6_ALIASREQ = struct.Struct("=16s28s28x28siqqIIi4x")
IN6_IFREQ = struct.Struct("=16s28s244x")
IN6_NDIREQ = struct.Struct("=16s20xI32x")
IFGROUPREQ = struct.Struct("=16sI4x16s")
IFSTAT = struct.Struct("=16s801s")
IF_CLONEREQ = struct.Struct("=iiQ")

SIZES = {
    "ifreq": (IFREQ, 32),
    "ifreq int": (IFREQ_INT, 32),
    "ifreq flags": (IFREQ_FLAGS, 32),
    "ifreq index": (IFREQ_INDEX, 32),
    "ifreq pointer": (IFREQ_POINTER, 32),
    "ifreq_buffer": (IFREQ_BUFFER, 32),
    "ifreq sockaddr": (IFREQ_SOCKADDR, 32),
    "sockaddr_in": (SOCKADDR_IN, 16),
    "sockaddr_in6": (SOCKADDR_IN6, 28),
    "in_aliasreq": (IN_ALIASREQ, 68),
    "in6_aliasreq": (IN6_ALIASREQ, 136),
    "in6_ifreq": (IN6_IFREQ, 288),
    "in6_ndireq": (IN6_NDIREQ, 72),
    "ifgroupreq": (IFGROUPREQ, 40),
    "ifstat": (IFSTAT, 817),
    "if_clonereq": (IF_CLONEREQ, 16),
}


def check_platform(pointer_bytes: int = struct.calcsize("P")) -> None:
    """
    Refuse a machine whose structures these are not.

    Raises: UnavailableError where pointers are not 8 bytes, or a layout is not as the kernel's.
    """
    wrong = [name for name, (layout, size) in SIZES.items() if layout.size != size]
    if pointer_bytes != 8:
        raise UnavailableError(
            f"wgsvc knows the structures of 64-bit kernels; this one has {pointer_bytes * 8} bits",
            cure="run it on amd64 or arm64",
        )
    if wrong:
        raise UnavailableError(f"structures of another size than the kernel's: {', '.join(wrong)}")


check_platform()


class Request(NamedTuple):
    """A request, with the name a bug report needs."""

    name: str
    code: int


def _request(name: str, direction: int, group: str, number: int, size: int) -> Request:
    return Request(name, direction << 29 | size << 16 | ord(group) << 8 | number)


_VOID, _OUT, _IN, _INOUT = 1, 2, 4, 6

SIOCSIFFLAGS = _request("SIOCSIFFLAGS", _IN, "i", 16, IFREQ.size)
SIOCGIFFLAGS = _request("SIOCGIFFLAGS", _INOUT, "i", 17, IFREQ.size)
SIOCDIFADDR = _request("SIOCDIFADDR", _IN, "i", 25, IFREQ.size)
SIOCDIFADDR_IN6 = _request("SIOCDIFADDR_IN6", _IN, "i", 25, IN6_IFREQ.size)
SIOCAIFADDR_IN6 = _request("SIOCAIFADDR_IN6", _IN, "i", 27, IN6_ALIASREQ.size)
SIOCGIFINDEX = _request("SIOCGIFINDEX", _INOUT, "i", 32, IFREQ.size)
SIOCSIFNAME = _request("SIOCSIFNAME", _IN, "i", 40, IFREQ.size)
SIOCSIFDESCR = _request("SIOCSIFDESCR", _IN, "i", 41, IFREQ.size)
SIOCGIFDESCR = _request("SIOCGIFDESCR", _INOUT, "i", 42, IFREQ.size)
SIOCAIFADDR = _request("SIOCAIFADDR", _IN, "i", 43, IN_ALIASREQ.size)
SIOCSIFMTU = _request("SIOCSIFMTU", _IN, "i", 52, IFREQ.size)
SIOCGIFSTATUS = _request("SIOCGIFSTATUS", _INOUT, "i", 59, IFSTAT.size)
SIOCGIFINFO_IN6 = _request("SIOCGIFINFO_IN6", _INOUT, "i", 108, IN6_NDIREQ.size)
SIOCSIFINFO_IN6 = _request("SIOCSIFINFO_IN6", _INOUT, "i", 109, IN6_NDIREQ.size)
SIOCIFGCLONERS = _request("SIOCIFGCLONERS", _INOUT, "i", 120, IF_CLONEREQ.size)
SIOCIFDESTROY = _request("SIOCIFDESTROY", _IN, "i", 121, IFREQ.size)
SIOCIFCREATE2 = _request("SIOCIFCREATE2", _INOUT, "i", 124, IFREQ.size)
SIOCAIFGROUP = _request("SIOCAIFGROUP", _IN, "i", 135, IFGROUPREQ.size)
TUNSIFMODE = _request("TUNSIFMODE", _IN, "t", 94, INT.size)
TUNSIFHEAD = _request("TUNSIFHEAD", _IN, "t", 96, INT.size)
TUNSTRANSIENT = _request("TUNSTRANSIENT", _IN, "t", 98, INT.size)

IN6_IFF_NODAD = 0x20
ND6_INFINITE_LIFETIME = 0xFFFFFFFF


def packed_name(name: str) -> bytes:
    """
    Return an interface's name as the kernel takes it.

    Raises: OSFailureError (ENAMETOOLONG) for more than 15 bytes or a NUL.
    """
    packed = name.encode()
    if not 0 < len(packed) < NAME_LENGTH or b"\0" in packed:
        raise OSFailureError("ifreq", name, errno.ENAMETOOLONG)
    return packed


def unpacked_name(packed: bytes) -> str:
    """Return the name in a field that is padded with NUL."""
    return packed.split(b"\0", 1)[0].decode(errors="replace")


def call(
    kernel: Kernel, request: Request, subject: str, argument: bytes, family: int = AF_INET
) -> bytearray:
    """
    Send an interface request; return the argument as the kernel left it.

    Raises: OSFailureError with the request's name.
    """
    buffer = bytearray(argument)
    try:
        kernel.interface_ioctl(family, request.code, buffer)
    except OSError as error:
        raise OSFailureError(request.name, subject, error.errno or 0) from error
    return buffer


def sockaddr(prefix: Prefix, scope: int = 0) -> bytes:
    """Return the address (not the mask) as a `sockaddr_in` or `sockaddr_in6`."""
    if prefix.version == 4:
        return SOCKADDR_IN.pack(SOCKADDR_IN.size, AF_INET, 0, prefix.packed)
    return SOCKADDR_IN6.pack(SOCKADDR_IN6.size, AF_INET6, 0, 0, prefix.packed, scope)


def netmask(prefix: Prefix) -> bytes:
    """Return the mask as a `sockaddr_in` or `sockaddr_in6`."""
    return sockaddr(prefix._replace(address=prefix.netmask))


def alias_request(name: str, prefix: Prefix) -> bytes:
    """
    Return the argument of SIOCAIFADDR or SIOCAIFADDR_IN6.

    The kernel fills the IPv4 broadcast address in. IPv6 goes without duplicate address
    detection: nobody answers on a tunnel, and a tentative address can't be bound.
    """
    if prefix.version == 4:
        return IN_ALIASREQ.pack(packed_name(name), sockaddr(prefix), netmask(prefix), 0)
    return IN6_ALIASREQ.pack(
        packed_name(name),
        sockaddr(prefix),
        netmask(prefix),
        IN6_IFF_NODAD,
        0,
        0,
        ND6_INFINITE_LIFETIME,
        ND6_INFINITE_LIFETIME,
        0,
    )


def delete_address_request(name: str, prefix: Prefix) -> bytes:
    """Return the argument of SIOCDIFADDR or SIOCDIFADDR_IN6."""
    layout = IFREQ_SOCKADDR if prefix.version == 4 else IN6_IFREQ
    return layout.pack(packed_name(name), sockaddr(prefix))
