"""
The supervisor's own procedures over the model kernel, in one process that can be "killed".

bring_up, take_down, respawn, adopt and the leftovers are the real ones, on the real FreeBSD
system. Three things are modelled: wireguard-go, the kernel, and that a killed process does
nothing more: from some call on, every call raises Killed, and its descriptors are closed.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_programs import WireguardGo
from tests.models.freebsd_vnet import KernelPanic, Machine, WouldBlockForever
from wgsvc.config.model import Peer, Tunnel
from wgsvc.errors import OSFailureError
from wgsvc.loop import Loop
from wgsvc.settings import Settings
from wgsvc.supervise import adopt, journal, leftovers, wireguard_go
from wgsvc.supervise.context import Timings
from wgsvc.supervise.down import take_down
from wgsvc.supervise.live import Live
from wgsvc.supervise.respawn import Deaths, respawn
from wgsvc.supervise.up import bring_up
from wgsvc.supervise.wireguard_go import Daemon
from wgsvc.system.freebsd.system import FreeBSD
from wgsvc.uapi.parse import DeviceState
from wgsvc.values import Prefix, SecretKey

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.models.freebsd_vnet import Vnet
    from wgsvc.loop import Coro, Future
    from wgsvc.supervise.context import Context
    from wgsvc.system.base import Tun

NAME = "wg0"
BOOT = "this boot"
PORT = 51820
FOREVER = 1 << 30
ALLOWED = (Prefix(4, 10 << 24, 8), Prefix(6, 0xFD << 120, 64))
TUNNEL = Tunnel(
    NAME,
    private_key=SecretKey(b"k" * 32),
    addresses=(Prefix(4, 192 << 24 | 168 << 16 | 222 << 8 | 1, 32),),
    mtu=1400,
    peers=(Peer(b"p" * 32, allowed_ips=ALLOWED),),
    digest="the file",
)


class Killed(BaseException):
    """The supervisor does nothing more."""


class MortalKernel(ModelKernel):
    """Raises Killed at its `lives`-th call, and at every one after that."""

    CALLS = frozenset(
        ("open", "close", "ioctl", "interface_ioctl", "sysctl", "route_socket", "route_send")
    )

    def __init__(self, vnet: Vnet, pid: int) -> None:
        super().__init__(vnet, pid=pid)
        self.lives = FOREVER
        self.opened: dict[int, int] = {}  # descriptor -> inode
        self.unmarked = False  # killed between a creation and the mark that says whose it is

    def __getattribute__(self, name: str) -> Any:
        if name in MortalKernel.CALLS:
            self.lives -= 1
            if self.lives < 0:
                last = self.calls[-1:] if self.lives == -1 else []
                self.unmarked = self.unmarked or last == [("SIOCIFCREATE2", "tun")]
                raise Killed
        return super().__getattribute__(name)

    def open(self, path: str, flags: int) -> int:
        descriptor = super().open(path, flags)
        self.opened[descriptor] = os.fstat(descriptor).st_ino
        return descriptor

    def bury(self) -> None:
        """Close what a dead process had open."""
        for descriptor, inode in self.opened.items():
            try:
                if os.fstat(descriptor).st_ino == inode:
                    os.close(descriptor)
            except OSError:
                continue


class WatchedMachine(Machine):
    """Notes what must never happen, also where somebody swallows the exception."""

    def __init__(self, flavour: str) -> None:
        super().__init__(FLAVOURS[flavour])
        self.disasters: list[str] = []

    def destroy(self, vnet: Vnet, name: str, on_unstuck: Callable[[], None] | None = None) -> None:
        try:
            super().destroy(vnet, name, on_unstuck)
        except WouldBlockForever as blocked:
            self.disasters.append(str(blocked))
            raise

    def create_tun(self, vnet: Vnet, unit: int | None, credential: Vnet | None) -> Any:
        try:
            return super().create_tun(vnet, unit, credential)
        except KernelPanic as panic:
            self.disasters.append(f"panic: {panic}")
            raise

    def rename(self, interface: Any, new_name: str) -> None:
        if new_name.startswith("tun") and new_name != interface.unit_name:
            self.disasters.append(f"{interface.unit_name} was called {new_name}")
        super().rename(interface, new_name)


class World:
    """A host with a jail, the programs in the jail, the files of the jail."""

    def __init__(self, flavour: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.machine = WatchedMachine(flavour)
        self.jail = self.machine.jail("jail")
        self.other = self.machine.jail("other")
        self.settings = Settings(
            run_dir=f"{folder}/wgsvc",
            uapi_dir=f"{folder}/wireguard",
            wireguard_go="/bin/sh",  # somewhere; nobody runs it
            step_timeout_s=0.1,
            ready_timeout_s=0.1,
        )
        for path in (self.settings.run_dir, self.settings.uapi_dir):
            os.makedirs(path)
        self.daemons: dict[int, WireguardGo] = {}
        self.exits: dict[int, list[Future[int]]] = {}
        self.supervisor: Supervisor | None = None
        self.unmarked = 0
        self._model(monkeypatch)

    def _model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wireguard_go, "start", self._start)
        monkeypatch.setattr(wireguard_go, "end", self._end)
        monkeypatch.setattr(wireguard_go, "bound", self._bound)
        monkeypatch.setattr(wireguard_go, "get", self._get)
        monkeypatch.setattr(wireguard_go, "configure", self._configure)
        monkeypatch.setattr(adopt, "alive", self._alive)
        monkeypatch.setattr(adopt, "proven", self._proven)
        monkeypatch.setattr(leftovers, "_stale", self._stale)
        monkeypatch.setattr(os, "fsync", lambda _descriptor: None)

    @property
    def sockets(self) -> Path:
        return Path(self.settings.uapi_dir)

    def running(self) -> list[WireguardGo]:
        """Return every wireguard-go that runs."""
        return [one for one in self.daemons.values() if one.state != "exited"]

    # --- what stands in for wgsvc/supervise/wireguard_go.py and for what asks sockets

    async def _start(self, context: Context, tun: Tun) -> Daemon:
        socket = self.sockets / f"{tun.name}.sock"
        socket.unlink(missing_ok=True)
        started = WireguardGo(self.jail, tun.name, self.sockets, descriptor=tun.fd)
        self.daemons[started.pid] = started
        return self._handle(context, started.pid)

    def _handle(self, context: Context, pid: int) -> Daemon:
        exited: Future[int] = context.loop.future()
        self.exits.setdefault(pid, []).append(exited)
        return Daemon(pid, f"start of {pid}", exited)

    async def _end(self, _context: Context, daemon: Daemon) -> None:
        process = self.daemons[daemon.pid]
        if process.state == "running":
            process.terminate()
        self.told()

    async def _bound(self, _context: Context, name: str) -> int:
        (process,) = [one for one in self.running() if one.name == name]
        process.read_events()
        if not process.bound:
            raise OSFailureError("bind", name, 22)
        return PORT

    async def _get(self, _context: Context, name: str, **_more: object) -> DeviceState:
        if self._alive(_context, name) is None:
            raise OSFailureError("connect", name, 61)
        return DeviceState(SecretKey(b"k" * 32), PORT, 0, ())

    async def _configure(self, _context: Context, name: str, _change: object) -> None:
        (process,) = [one for one in self.running() if one.name == name]
        process.configure()

    def _alive(self, _context: Context, name: str) -> int | None:
        answering = [pid for pid, one in self.daemons.items() if one.name == name and one.answers()]
        return answering[0] if answering else None

    def _proven(self, context: Context, pid: int, start_id: str) -> Daemon | None:
        process = self.daemons.get(pid)
        if process is None or process.state == "exited" or start_id != f"start of {pid}":
            return None
        return self._handle(context, pid)

    def _stale(self, path: str) -> bool:
        return os.path.exists(path) and not any(
            str(one.socket) == path and one.answers() for one in self.daemons.values()
        )

    def told(self) -> None:
        """Let everybody who waits for the end of a process have it."""
        for pid, process in self.daemons.items():
            if process.state == "exited":
                for exited in self.exits.get(pid, ()):
                    exited.set(0)


class Supervisor:
    """One process: it starts when somebody wants something, and ends when it is killed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.kernel = MortalKernel(world.jail, world.machine.new_pid())
        self.live: Live | None = None
        loop = Loop()
        self.context = cast(
            "Context",
            SimpleNamespace(
                loop=loop,
                system=FreeBSD(self.kernel),
                settings=world.settings,
                boot_id=BOOT,
                children=SimpleNamespace(fork=self._fork),
                may_hold=True,
                hold_watch=None,
                minus_form=None,
                full_tables={},
                valid_mark="",
            ),
        )

    def _fork(self, run: Callable[[], None], **_more: object) -> object:
        """Run what a disposable child does here: the model is in this process."""
        run()
        exited: Future[int] = self.context.loop.future()
        exited.set(0)
        return SimpleNamespace(pid=0, exited=exited, signal=lambda _number: None)

    def do(self, procedure: Coro[Any]) -> Any:
        """Run a procedure to its end, or to ours."""
        try:
            return self.context.loop.run(procedure)
        except Killed:
            self.die()
            return None

    def die(self) -> None:
        """Be killed: all that is ours is closed, nothing is said."""
        self.kernel.lives = 0
        self.kernel.bury()
        self.world.unmarked += self.kernel.unmarked
        self.world.machine.settle()
        self.world.supervisor = None

    async def adopt(self) -> None:
        """Take over what an earlier one left running."""
        for entry in journal.read_all(self.world.settings.run_dir, BOOT):
            self.live = await adopt.adopt(self.context, entry, TUNNEL)

    async def start(self) -> None:
        """Do what `wgsvc start` asks for."""
        if self.live is None:
            live = Live(TUNNEL)
            await bring_up(self.context, live, _nobody, Timings())
            self.live = live

    async def stop(self) -> list[Any]:
        """Do what `wgsvc stop` asks for; return what failed."""
        found = self.live or leftovers.find(self.context, NAME)
        self.live = None
        return await take_down(self.context, found, _nobody, Timings()) if found else []

    async def notice(self) -> None:
        """Do what is due after the end of a wireguard-go."""
        live = self.live
        if live is not None and live.daemon is not None and live.daemon.exited.done:
            await respawn(self.context, live, Deaths())

    def watch_fires(self) -> None:
        """See that a socket is gone: let go of the tun."""
        if self.live is not None and self.live.holds:
            self.live.let_go()
            self.world.machine.settle()


def _nobody(_line: str) -> None:
    """Nobody listens."""
