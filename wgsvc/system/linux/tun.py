"""
Tun interfaces: linux/if_tun.h, Documentation/networking/tuntap.rst.

What wireguard-go expects of the descriptor in WG_TUN_FD changed, and it does not ask the
kernel: before March 2023 every packet has a 4-byte packet information header; since then
it has none, and with IFF_VNET_HDR one that carries segmentation offloads
(wireguard-go tun/tun_linux.go; `initFromFlags` came with the change). A wrong guess shows
only as a tunnel through which nothing passes, so the program itself is asked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from wgsvc.errors import NotPermittedError, OSFailureError, UnavailableError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.programs import find_program
from wgsvc.system.base import Tun
from wgsvc.system.linux import link
from wgsvc.system.linux.netlink import GETLINK, Connection, failure

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICE = "/dev/net/tun"
TUNSETIFF = 0x400454CA
IFREQ = struct.Struct("=16sH22x")

IFF_TUN, IFF_NO_PI, IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
IFF_TUN_EXCL = 0x8000  # fail if the name exists, even for a persistent tun that could be joined

PROGRAM_LIMIT_BYTES = 64 << 20
PIECE_BYTES = 1 << 17


def flags_for(program: str) -> int:
    """
    Return the IFF_ flags that a WireGuard program expects its descriptor to have.

    `program` is a path, or a name that the PATH of every child finds, so that it is the
    program that will run. A Go program's symbols tell the two kinds
    of wireguard-go apart; anything else (another program, a script around one) gets plain
    packets without any header, which newer wireguard-go and boringtun understand.
    """
    newer, older = b".(*NativeTun).initFromFlags", b".(*NativeTun).routineHackListener"
    flags = IFF_TUN | IFF_NO_PI
    for piece in _pieces(program, overlap_bytes=len(older)):
        if newer in piece:
            return IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
        if flags == IFF_TUN:
            break  # names of one package are neighbours: this piece was the last that could say so
        if older in piece:
            flags = IFF_TUN
    return flags


def _pieces(program: str, overlap_bytes: int) -> Iterator[bytearray]:
    """
    Yield the bytes of a program piece by piece, none if it can't be read.

    Always in the same buffer: a new one for each piece is 1.5 ms more.
    """
    buffer = bytearray(overlap_bytes + PIECE_BYTES)
    try:
        with open(find_program(program), "rb", buffering=0) as file:
            for _ in range(0, PROGRAM_LIMIT_BYTES, PIECE_BYTES):
                with memoryview(buffer) as view:
                    count = file.readinto(view[overlap_bytes:])
                if not count:
                    return
                yield buffer  # behind the end stands what was yielded before
                buffer[:overlap_bytes] = buffer[count : count + overlap_bytes]
    except (OSError, UnavailableError):
        return


def create(name: str, program: str) -> Tun:
    """
    Make a tun for a WireGuard program. Nothing is left behind on failure.

    Raises: NameTakenError, UnavailableError, NotPermittedError, OSFailureError.
    """
    encoded = name.encode()
    if not 0 < len(encoded) <= link.NAME_BYTES or "%" in name:  # the kernel fills in wg%d
        raise OSFailureError("TUNSETIFF", name, errno.EINVAL)
    flags = flags_for(program) | IFF_TUN_EXCL
    try:
        tun = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise _no_device(error.errno or 0) from None
    try:
        try:
            fcntl.ioctl(tun, TUNSETIFF, IFREQ.pack(encoded, flags))
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EEXIST):
                raise link.name_taken(name) from None
            raise failure("TUNSETIFF", name, error.errno or 0) from None
        with Connection() as connection:
            ifindex = link.index_of(connection, name, GETLINK)
            link.no_link_local(connection, ifindex, name)
    except BaseException:
        os.close(tun)  # takes the interface with it
        raise
    return Tun(tun, name, ifindex, name)


def _no_device(number: int) -> WgsvcError:
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return UnavailableError(
            f"{DEVICE}: there is no tun device here",
            cure=f"modprobe tun; in a container: mknod {DEVICE} c 10 200",
        )
    if number in (errno.EPERM, errno.EACCES):
        return NotPermittedError(
            f"{DEVICE}: not permitted",
            cure="run as root; in a container, allow the device c 10:200",
        )
    return OSFailureError("open", DEVICE, number)
