"""wireguard-go as it behaves on FreeBSD, over the model kernel (wireguard-go 0.0.20220316)."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
from typing import TYPE_CHECKING

from tests.models import freebsd_wire as wire
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_routes import fail
from tests.models.freebsd_vnet import IFF_UP, Interface, WouldBlockForever

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.models.freebsd_vnet import Vnet

TUNSIFPID, TUNSIFHEAD, TUNSIFMODE, TUNGIFNAME = 0x2000745F, 0x80047460, 0x8004745E, 0x4020745D
SIOCSIFMTU, SIOCSIFNAME, SIOCIFDESTROY = 0x80206934, 0x80206928, 0x80206979
DEFAULT_MTU = 1420
BROADCAST_MULTICAST = 0x8002


class ExitedError(Exception):
    """It printed this and exited 1."""


class WireguardGo:
    """
    One process.

    `descriptor` is what WG_TUN_FD names: it is inherited, so this process has a copy.
    `sockets` is /var/run/wireguard.
    """

    def __init__(
        self,
        vnet: Vnet,
        name: str,
        sockets: Path,
        *,
        descriptor: int | None = None,
        hides_tun: bool = False,
        root: bool = True,
    ) -> None:
        machine = vnet.machine
        self.pid = machine.new_pid()
        self.kernel = ModelKernel(vnet, hides_tun=hides_tun, pid=self.pid, root=root)
        self.name = name
        self.state = "running"
        self.wchan = ""
        self.bound = False  # its UDP sockets are there
        self.configured = False
        self.socket = sockets / f"{name}.sock"
        self.tun = -1
        try:
            self.tun = os.dup(descriptor) if descriptor is not None else self._create_tun()
            self._take_tun()
        except ExitedError:
            self._end(close=self.tun >= 0)
            raise
        self.ear = self.kernel.route_socket(family=0, fib=None, listens=True)
        self.socket.touch()

    def _create_tun(self) -> int:
        if self.kernel.vnet.by_name(self.name) is not None:
            raise ExitedError(f"Failed to create TUN device: interface {self.name} already exists")
        try:
            tun = self.kernel.open("/dev/tun", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise ExitedError(f"Failed to create TUN device: open /dev/tun: {text}") from error
        self.kernel.ioctl(tun, TUNSIFHEAD, bytearray(struct.pack("=i", 1)))
        self.kernel.ioctl(tun, TUNSIFMODE, bytearray(struct.pack("=i", BROADCAST_MULTICAST)))
        machine = self.kernel.machine
        inode = os.fstat(tun).st_ino
        unit = next(unit for unit, one in machine.devices.items() if one.inode == inode)
        interface = machine.interfaces_of[unit]
        interface.nd6_flags = 0x109
        try:
            machine.rename(interface, self.name)
        except OSError as error:
            os.close(tun)
            machine.settle()
            machine.destroy(self.kernel.vnet, interface.name)
            raise ExitedError(
                f"Failed to create TUN device: failed to rename {interface.name} to {self.name}: "
                f"{os.strerror(error.errno or 0).lower()}"
            ) from error
        return tun

    def _take_tun(self) -> None:
        """CreateTUNFromFile: becomes the controlling process and resets the MTU."""
        self.kernel.ioctl(self.tun, TUNSIFPID, bytearray(4))
        try:
            argument = bytearray(struct.pack("=16si12x", self.name.encode(), DEFAULT_MTU))
            self.kernel.interface_ioctl(2, SIOCSIFMTU, argument)
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise ExitedError(f"failed to set MTU on {self.name}: {text}") from error

    @property
    def interface(self) -> Interface | None:
        """The interface of its name."""
        return self.kernel.vnet.by_name(self.name)

    def answers(self) -> bool:
        """Whether its UAPI socket is there and somebody listens."""
        return self.state == "running" and self.socket.exists()

    def configure(self) -> None:
        """`wg setconf`: keys, peers and port."""
        self.configured = True

    def read_events(self) -> None:
        """Routine of its routing socket: an IFINFO of an interface that is UP makes it bind."""
        while select.select([self.ear], [], [], 0)[0]:
            message = self.ear.recv(65536)
            if message[3] == wire.IFINFO:
                _addresses, flags, index = struct.unpack_from("=iiH", message, 4)
                found = self.interface
                if found is not None and found.ifindex == index:
                    self.bound = bool(flags & IFF_UP)

    def send(self, number: int) -> None:
        """Deliver a signal."""
        if number == signal.SIGKILL and self.state == "running":
            self._end(close=True)  # one in state D survives even this
        elif number == signal.SIGTERM:
            self.terminate()

    def terminate(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """
        SIGTERM, or its socket is gone: unlink, close the tun, destroy its name.

        `meanwhile` is what others do in the milliseconds after the first of these.
        """
        self.socket.unlink(missing_ok=True)
        meanwhile()
        os.close(self.tun)
        machine = self.kernel.machine
        machine.settle()
        try:
            machine.destroy(self.kernel.vnet, self.name, self._unstuck)
        except WouldBlockForever:
            self.state, self.wchan = "D", "tun_condvar"
            return
        except OSError:
            pass  # it ignores whatever the kernel says
        self._end(close=False)

    def _unstuck(self) -> None:
        self._end(close=False)

    def _end(self, *, close: bool) -> None:
        if close:
            os.close(self.tun)
        ear: socket.socket | None = getattr(self, "ear", None)
        if ear is not None:
            ear.close()
        self.state, self.wchan = "exited", ""
        self.kernel.machine.pids[self.pid] = False
        self.kernel.machine.settle()


def wg_quick_up(vnet: Vnet, name: str, sockets: Path) -> WireguardGo:
    """Do what of `wg-quick up` matters here."""
    if vnet.by_name(name) is not None:
        raise ExitedError(f"`{name}' already exists")
    return WireguardGo(vnet, name, sockets)


def wg_quick_down(daemon: WireguardGo) -> None:
    """Do what of `wg-quick down` matters here: it asks wg, which asks the socket."""
    if not daemon.answers():
        raise ExitedError(f"`{daemon.name}' is not a WireGuard interface")
    daemon.terminate()


def ifconfig_name(vnet: Vnet, name: str, new_name: str) -> None:
    """`ifconfig NAME name NEW`, by anybody."""
    interface = vnet.by_name(name)
    if interface is None:
        raise fail(errno.ENXIO)
    vnet.machine.rename(interface, new_name)
