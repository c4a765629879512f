"""
A model of the FreeBSD kernel, as one process in one network stack sees it.

It takes the place of wgsvc.system.freebsd.kernel.Kernel: the same calls, the same bytes, the
errno of the same name. test_freebsd_kernel.py holds it to what was seen on real kernels.
Processes, directories and UNIX sockets are real: on Linux its own in FreeBSD's structures.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal as signals
import socket
import struct
import sys
from typing import TYPE_CHECKING

from tests.models import freebsd_routes as routes
from tests.models import freebsd_wire as wire
from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_routes import Ear, fail
from tests.models.freebsd_vnet import (
    IFF_BROADCAST,
    IFF_MULTICAST,
    IFF_NOARP,
    IFF_POINTOPOINT,
    IFF_UP,
    Interface,
    Machine,
    TunDevice,
    Vnet,
)
from wgsvc.system.freebsd.kernel import SO_RERROR, Kernel
from wgsvc.system.freebsd.system import FreeBSD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wgsvc.system.base import System

SO_RCVBUF = 0x1002
IN_MODIFY_NAMES = 0x100 | 0x200 | 0x40 | 0x80  # create, delete, moved from, moved to
PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG = 36, 1
ON_LINUX = sys.platform == "linux"
BOOT_TIME = (1_700_000_000, 250_000)


def make_system(flavour: str) -> System:
    """Return a System in a VNET jail of a freshly booted model, with an uplink as a lab has it."""
    machine = Machine(FLAVOURS[flavour])
    return FreeBSD(ModelKernel(machine.jail("jail")))


class ModelKernel(Kernel):
    """What a process of `vnet` can call; `hides_tun` is a devfs ruleset that hides tun*."""

    def __init__(
        self, vnet: Vnet, *, hides_tun: bool = False, pid: int | None = None, root: bool = True
    ) -> None:
        super().__init__()
        self.vnet = vnet
        self.machine = vnet.machine
        self.flavour = vnet.machine.flavour
        self.hides_tun = hides_tun
        self.pid = pid
        self.root = root
        self.calls: list[tuple[str, str]] = []  # interface requests and their names
        self._writers: dict[int, Ear] = {}

    # --- files

    def open(self, path: str, flags: int) -> int:
        """Open a tun device."""
        self.machine.settle()
        if path == "/dev/tun":
            interface = self.stat(path)
            path = f"/dev/{interface.unit_name}"
        device = self.machine.device(path)
        if device is None or self.hides_tun:
            raise fail(errno.ENOENT)
        assert flags & os.O_CLOEXEC, "a tun descriptor must not leak into hooks"
        pid = self.pid or os.getpid()
        if device.dying or device.is_open:
            shares = self.flavour.second_open_same_process and device.pid == pid
            if device.dying or not shares:
                raise fail(errno.EBUSY)
        return device.open(pid)

    def stat(self, path: str) -> Interface:
        """Look at /dev/tun, which makes an interface whatever the ruleset hides."""
        assert path == "/dev/tun"
        self.vnet.need_privilege()
        interface = self.machine.create_tun(self.vnet, None, self.vnet)
        if self.hides_tun:
            raise fail(errno.ENOENT)
        return interface

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """Send a request to a tun descriptor."""
        self.machine.settle()
        inode = os.fstat(descriptor).st_ino
        device = next(one for one in self.machine.devices.values() if one.inode == inode)
        interface = self.machine.interfaces_of[device.unit]
        self._tun_ioctl(device, interface, request, argument)

    def _tun_ioctl(
        self, device: TunDevice, interface: Interface, request: int, argument: bytearray
    ) -> None:
        if request == 0x2000745F:  # TUNSIFPID
            device.pid = self.pid or os.getpid()
        elif request == 0x80047460:  # TUNSIFHEAD
            assert struct.unpack("=i", argument)[0] == 1
        elif request == 0x8004745E:  # TUNSIFMODE
            if interface.flags & IFF_UP:
                raise fail(errno.EBUSY)
            both = IFF_BROADCAST | IFF_POINTOPOINT | IFF_MULTICAST
            interface.flags = interface.flags & ~both | struct.unpack("=i", argument)[0]
            self.vnet.tell_state(interface)
        elif request == 0x4020745D and self.flavour.knows_its_name:  # TUNGIFNAME
            argument[:16] = interface.name.encode().ljust(16, b"\0")
        elif request == 0x80047462 and self.flavour.transient:  # TUNSTRANSIENT
            device.transient = bool(struct.unpack("=i", argument)[0])
        elif request == 0x40047463 and self.flavour.transient:  # TUNGTRANSIENT
            argument[:4] = struct.pack("=i", device.transient)
        else:
            raise fail(errno.ENOTTY)

    # --- interfaces

    def interface_ioctl(self, family: int, request: int, argument: bytearray) -> None:
        """ioctl(2) on a datagram socket."""
        self.machine.settle()
        self.try_socket(family)
        name, wanted_family, size, handler = REQUESTS[request]
        assert family == wanted_family, f"{name} on the wrong kind of socket"
        assert len(argument) == size, f"{name} takes {size} bytes"
        subject = bytes(argument[:16]).split(b"\0", 1)[0].decode(errors="replace")
        self.calls.append((name, subject))
        if not name.startswith(("SIOCG", "SIOCIFG")):
            self.vnet.need_privilege()
            if not self.root:
                raise fail(errno.EPERM)
        handler(self, subject, argument)

    def _interface(self, name: str) -> Interface:
        found = self.vnet.by_name(name)
        if found is None:
            raise fail(errno.ENXIO)
        return found

    def _create(self, name: str, argument: bytearray) -> None:
        driver = name.rstrip("0123456789")
        number = name[len(driver) :]
        if driver not in ("tun", "wg") or (number.startswith("0") and number != "0"):
            raise fail(errno.EINVAL)
        if driver == "wg" and not self.flavour.kernel_wg:
            raise fail(errno.EINVAL)
        if self.vnet.by_name(name) is not None:
            raise fail(errno.EEXIST)
        unit = int(number) if number else None
        if driver == "tun":
            interface = self.machine.create_tun(self.vnet, unit, None)
        else:
            interface = self._create_wg(unit)
        argument[:16] = interface.name.encode().ljust(16, b"\0")

    def _create_wg(self, unit: int | None) -> Interface:
        units = [one.unit for one in self.vnet.interfaces.values() if one.driver == "wg"]
        if unit is None:
            unit = next(
                n for n in range(99) if n not in units and self.vnet.by_name(f"wg{n}") is None
            )
        interface = Interface(self.vnet, f"wg{unit}", "wg", unit, IFF_NOARP | IFF_MULTICAST)
        interface.mtu = 1420
        self.vnet.attach(interface)
        return interface

    def _cloners(self, name: str, argument: bytearray) -> None:
        del name
        names = ["lo", "epair", "tun", "tap", *(["wg"] if self.flavour.kernel_wg else [])]
        _total, room, pointer = struct.unpack("=iiQ", argument)
        packed = b"".join(one.encode().ljust(16, b"\0") for one in names[:room])
        ctypes.memmove(pointer, packed, len(packed))
        struct.pack_into("=i", argument, 0, len(names))

    def _destroy(self, name: str, argument: bytearray) -> None:
        del argument
        self.machine.destroy(self.vnet, name)

    def _rename(self, name: str, argument: bytearray) -> None:
        interface = self._interface(name)
        packed = ctypes.string_at(struct.unpack_from("=Q", argument, 16)[0], 16)
        if b"\0" not in packed:
            raise fail(errno.ENAMETOOLONG)
        new_name = packed.split(b"\0", 1)[0].decode()
        if not new_name:
            raise fail(errno.EINVAL)
        self.machine.rename(interface, new_name)

    def _describe(self, name: str, argument: bytearray) -> None:
        length, pointer = struct.unpack_from("=QQ", argument, 16)
        self._interface(name).description = ctypes.string_at(pointer, length)[:-1].decode()

    def _get_description(self, name: str, argument: bytearray) -> None:
        text = self._interface(name).description.encode() + b"\0"
        if text == b"\0":
            raise fail(errno.ENOMSG)
        room, pointer = struct.unpack_from("=QQ", argument, 16)
        if room >= len(text):
            ctypes.memmove(pointer, text, len(text))
        struct.pack_into("=Q", argument, 16, len(text))

    def _group(self, name: str, argument: bytearray) -> None:
        interface = self._interface(name)
        group = bytes(argument[24:40]).split(b"\0", 1)[0].decode()
        if group[-1:].isdigit():
            raise fail(errno.EINVAL)
        if group in interface.groups:
            raise fail(errno.EEXIST)
        interface.groups.add(group)

    def _index(self, name: str, argument: bytearray) -> None:
        struct.pack_into("=H", argument, 16, self._interface(name).ifindex)

    def _status(self, name: str, argument: bytearray) -> None:
        device = self._interface(name).tun
        if device is not None and device.pid:
            argument[16:] = f"\tOpened by PID {device.pid}\n".encode().ljust(801, b"\0")

    def _get_flags(self, name: str, argument: bytearray) -> None:
        struct.pack_into("=HH", argument, 16, self._interface(name).flags & 0xFFFF, 0)

    def _set_flags(self, name: str, argument: bytearray) -> None:
        interface = self._interface(name)
        wants_up = bool(struct.unpack_from("=H", argument, 16)[0] & IFF_UP)
        if wants_up == bool(interface.flags & IFF_UP):
            return  # no message: this is why wireguard-go did not bind in 2019
        interface.flags ^= IFF_UP
        self.vnet.tell_state(interface)

    def _get_mtu(self, name: str, argument: bytearray) -> None:
        struct.pack_into("=i", argument, 16, self._interface(name).mtu)

    def _set_mtu(self, name: str, argument: bytearray) -> None:
        interface = self._interface(name)
        mtu = struct.unpack_from("=i", argument, 16)[0]
        if not 72 <= mtu <= 65535:
            raise fail(errno.EINVAL)
        interface.mtu = mtu
        self.vnet.tell_state(interface)

    def _add_inet(self, name: str, argument: bytearray) -> None:
        interface = self._interface(name)
        own, destination, mask = argument[16:32], argument[32:48], argument[48:64]
        assert (own[0], own[1], mask[0], mask[1]) == (16, 2, 16, 2)
        if interface.flags & IFF_POINTOPOINT and not destination[0]:
            raise fail(errno.EDESTADDRREQ)
        length = wire.number_of(bytes(mask)).bit_count()
        self.vnet.add_address(interface, (wire.INET, wire.number_of(bytes(own)), length))

    def _delete_inet(self, name: str, argument: bytearray) -> None:
        self._delete_address(name, wire.INET, wire.number_of(bytes(argument[16:32])))

    def _add_inet6(self, name: str, argument: bytearray) -> None:
        interface = self._interface(name)
        own, mask = bytes(argument[16:44]), bytes(argument[72:100])
        assert (own[0], own[1], mask[0], mask[1]) == (28, 28, 28, 28)
        _expire, _preferred, valid, preferred = struct.unpack_from("=qqII", argument, 104)
        assert valid == preferred == 0xFFFFFFFF, "an address that expires"
        length = wire.number_of(mask).bit_count()
        self.vnet.add_address(interface, (wire.INET6, wire.number_of(own), length))

    def _delete_inet6(self, name: str, argument: bytearray) -> None:
        self._delete_address(name, wire.INET6, wire.number_of(bytes(argument[16:44])))

    def _delete_address(self, name: str, family: int, number: int) -> None:
        interface = self._interface(name)
        found = [one for one in interface.addresses if one[:2] == (family, number)]
        if not found:
            raise fail(errno.EADDRNOTAVAIL)
        self.vnet.delete_address(interface, found[0])

    def _get_nd6(self, name: str, argument: bytearray) -> None:
        struct.pack_into("=I", argument, 36, self._interface(name).nd6_flags)

    def _set_nd6(self, name: str, argument: bytearray) -> None:
        self._interface(name).nd6_flags = struct.unpack_from("=I", argument, 36)[0]

    def try_socket(self, family: int) -> None:
        """socket(2)."""
        if family == wire.INET6 and not self.machine.has_inet6:
            raise fail(errno.EAFNOSUPPORT)

    # --- routing sockets

    def route_socket(self, *, family: int, fib: int | None, listens: bool) -> socket.socket:
        """socket(2) and SO_SETFIB."""
        self.machine.settle()
        if fib is not None and not 0 <= fib < len(self.vnet.fibs):
            raise fail(errno.EINVAL)
        ear = Ear(fib or 0, family)
        if listens:
            self.vnet.ears.append(ear)
        else:
            self._writers[ear.inode] = ear
        return ear.take_user_end()

    def _ear(self, opened: socket.socket) -> Ear:
        inode = os.fstat(opened.fileno()).st_ino
        hearing = (ear for ear in self.vnet.ears if ear.inode == inode)
        return next(hearing, None) or self._writers[inode]

    def route_option(self, opened: socket.socket, option: int, value: int) -> None:
        """setsockopt(2)."""
        ear = self._ear(opened)
        if option == SO_RERROR:
            if not self.flavour.says_overflow:
                raise fail(errno.ENOPROTOOPT)
            ear.says_overflow = bool(value)
        elif option == SO_RCVBUF:
            ear.resize(value)
        else:
            raise fail(errno.ENOPROTOOPT)

    def route_send(self, opened: socket.socket, message: bytes) -> None:
        """send(2)."""
        self.machine.settle()
        routes.handle(self.vnet, self._ear(opened), message)

    def route_receive(self, opened: socket.socket) -> bytes:
        """recv(2)."""
        ear = self._ear(opened)
        if ear.lost and ear.says_overflow:
            ear.lost = False
            raise fail(errno.ENOBUFS)
        return opened.recv(65536)

    # --- sysctl

    def sysctl(self, mib: Sequence[int]) -> bytes:
        """Answer a numeric sysctl."""
        self.machine.settle()
        match tuple(mib):
            case (4, 17, 0, 0, 5, index):
                return self._iflistl(index)
            case (4, 17, 0, 0, 1, 0, fib):
                return routes.dump(self.vnet, fib)
            case (4, 18, 0, 2, index, what):
                found = self.vnet.by_index(index)
                if found is None:
                    raise fail(errno.ENOENT)
                text = {1: found.name, 3: found.unit_name}[what].encode()
                return text.ljust(16, b"\0") + bytes(168) if what == 1 else text + b"\0"
            case (1, 14, 1, pid):
                return _kinfo_proc(pid) if ON_LINUX else super().sysctl(mib)
        raise fail(errno.ENOENT)

    def _iflistl(self, index: int) -> bytes:
        parts = []
        for found in self.vnet.interfaces.values():
            if index in (0, found.ifindex):
                parts.append(wire.iflistl_link(found.ifindex, found.name, found.flags, found.mtu))
                parts += [wire.iflistl_address(found.ifindex, one) for one in found.addresses]
        return b"".join(parts)

    def sysctl_by_name(self, name: str) -> bytes:
        """Answer a named sysctl."""
        if name == "kern.boot_id" and self.flavour.boot_id:
            if not ON_LINUX:
                return super().sysctl_by_name(name)
            with open("/proc/sys/kernel/random/boot_id") as file:
                return bytes.fromhex(file.read().strip().replace("-", ""))
        numbers = {
            "kern.osreldate": self.flavour.osreldate,
            "net.fibs": len(self.vnet.fibs),
            "net.my_fibnum": 0,
        }
        if name == "kern.boottime":
            return struct.pack("=qq", *BOOT_TIME) if ON_LINUX else super().sysctl_by_name(name)
        if name not in numbers:
            raise fail(errno.ENOENT)
        return struct.pack("=i", numbers[name])

    # --- processes

    def procctl(self, command: int, argument: int | None) -> None:
        """Set reaper and death signal, as Linux has them."""
        if not ON_LINUX:
            super().procctl(command, argument)
            return
        libc = ctypes.CDLL(None, use_errno=True)
        if command == 2:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
        elif command == 11:
            libc.prctl(PR_SET_PDEATHSIG, argument)
        else:
            raise fail(errno.EINVAL)

    def kill(self, pid: int, signal: int) -> None:
        """Send a signal."""
        if pid not in self.machine.pids:
            os.kill(pid, signal)
        elif not self.machine.pids[pid]:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        elif signal == signals.SIGKILL:
            self.machine.pids[pid] = False

    def peer_credentials(self, connection: socket.socket) -> bytes:
        """LOCAL_PEERCRED."""
        if not ON_LINUX:
            answer = super().peer_credentials(connection)
            return answer if self.flavour.peer_pid else answer[:80] + bytes(8)
        answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        pid, uid, gid = struct.unpack("=3i", answer)
        groups = connection.getsockopt(socket.SOL_SOCKET, 59, 60)  # SO_PEERGROUPS
        count = 1 + len(groups) // 4
        listed = struct.pack("=I", gid) + groups.ljust(60, b"\0")
        told_pid = pid if self.flavour.peer_pid else 0
        return struct.pack("=IIh2x64s4xi4x", 0, uid, count, listed, told_pid)

    def watch_exit(self, pid: int) -> int:
        """EVFILT_PROC, NOTE_EXIT."""
        return os.pidfd_open(pid) if ON_LINUX else super().watch_exit(pid)

    def watch_directory(self, path: str) -> int:
        """EVFILT_VNODE."""
        if not ON_LINUX:
            return super().watch_directory(path)
        libc = ctypes.CDLL(None, use_errno=True)
        watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if libc.inotify_add_watch(watch, path.encode(), IN_MODIFY_NAMES) < 0:
            os.close(watch)
            raise fail(ctypes.get_errno())
        return int(watch)

    def drain(self, watch: int) -> None:
        """Read all events."""
        if not ON_LINUX:
            super().drain(watch)
            return
        try:
            while os.read(watch, 4096):
                pass
        except BlockingIOError:
            return


def _kinfo_proc(pid: int) -> bytes:
    """Put what Linux knows of a process into a kinfo_proc."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        raise fail(errno.ESRCH) from None
    started = int(fields[19]) * 1_000_000 // os.sysconf("SC_CLK_TCK")  # since the boot
    started += BOOT_TIME[0] * 1_000_000 + BOOT_TIME[1]
    data = bytearray(1088)
    struct.pack_into("=ii", data, 72, pid, int(fields[1]))
    struct.pack_into("=qq", data, 336, started // 1_000_000, started % 1_000_000)
    return bytes(data)


# code: name, family of the socket, bytes of the argument; numbers are those of real kernels
REQUESTS: dict[int, tuple[str, int, int, Callable[[ModelKernel, str, bytearray], None]]] = {
    0xC020697C: ("SIOCIFCREATE2", 2, 32, ModelKernel._create),
    0xC0106978: ("SIOCIFGCLONERS", 2, 16, ModelKernel._cloners),
    0x80206979: ("SIOCIFDESTROY", 2, 32, ModelKernel._destroy),
    0x80206928: ("SIOCSIFNAME", 2, 32, ModelKernel._rename),
    0x80206929: ("SIOCSIFDESCR", 2, 32, ModelKernel._describe),
    0xC020692A: ("SIOCGIFDESCR", 2, 32, ModelKernel._get_description),
    0x80286987: ("SIOCAIFGROUP", 2, 40, ModelKernel._group),
    0xC0206920: ("SIOCGIFINDEX", 2, 32, ModelKernel._index),
    0xC331693B: ("SIOCGIFSTATUS", 2, 817, ModelKernel._status),
    0xC0206911: ("SIOCGIFFLAGS", 2, 32, ModelKernel._get_flags),
    0x80206910: ("SIOCSIFFLAGS", 2, 32, ModelKernel._set_flags),
    0xC0206933: ("SIOCGIFMTU", 2, 32, ModelKernel._get_mtu),
    0x80206934: ("SIOCSIFMTU", 2, 32, ModelKernel._set_mtu),
    0x8044692B: ("SIOCAIFADDR", 2, 68, ModelKernel._add_inet),
    0x80206919: ("SIOCDIFADDR", 2, 32, ModelKernel._delete_inet),
    0x8088691B: ("SIOCAIFADDR_IN6", 28, 136, ModelKernel._add_inet6),
    0x81206919: ("SIOCDIFADDR_IN6", 28, 288, ModelKernel._delete_inet6),
    0xC048696C: ("SIOCGIFINFO_IN6", 28, 72, ModelKernel._get_nd6),
    0xC048696D: ("SIOCSIFINFO_IN6", 28, 72, ModelKernel._set_nd6),
}
