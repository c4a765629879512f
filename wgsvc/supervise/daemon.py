"""The one daemon of a host or jail: from its first breath to its last tunnel."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import time
from functools import partial

from wgsvc import __version__
from wgsvc.errors import WgsvcError, unforeseen
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.loop import Loop
from wgsvc.order import natural
from wgsvc.programs import fixed_environment
from wgsvc.settings import with_changes
from wgsvc.supervise import access, control, journal, rundir
from wgsvc.supervise.answers import answer, reload_all
from wgsvc.supervise.client import control_path, journaled
from wgsvc.supervise.context import Context, log
from wgsvc.supervise.kept import keep
from wgsvc.supervise.routemonitor import RouteMonitor
from wgsvc.supervise.tunnel import Tunnel
from wgsvc.uapi.transport import socket_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wgsvc.config.model import Tunnel as File
    from wgsvc.settings import Settings
    from wgsvc.system.base import System


class Daemon:
    """The tunnels, and when to end."""

    def __init__(
        self, settings: Settings, system: System, checked: Mapping[str, File] | None = None
    ) -> None:
        self.settings = settings
        self.loop = Loop()
        self.context = Context(self.loop, system, settings)
        self.tunnels: dict[str, Tunnel] = {}
        self.checked = dict(checked or {})  # files the command has read already
        self.since = time.time()
        self.stay = False  # `wgsvc daemon`: go on without tunnels
        self.retiring = False  # end now, leave the tunnels to the next daemon
        self.group = access.NO_GROUP  # whose members may ask for the status
        self.listens = False
        self._busy = 0
        self.monitor = RouteMonitor(self.context, self.network_changed)

    def settle(self, options: Mapping[str, Any]) -> None:
        """
        Take over the settings that a request brings: those of its own command line.

        They are noted at once for the supervisor that comes after this one.
        Raises: UsageError.
        """
        before = set(self.settings.changes)
        self._use(self.settings_with(options))
        if before == set(self.settings.changes):
            return
        for tunnel in self.tunnels.values():
            if tunnel.live is not None and tunnel.state == "up":
                try:
                    tunnel.live.record(self.context)
                except WgsvcError as error:  # a full disk must not keep a request from being done
                    log(f"{tunnel.name}: {error.message}", error=True)

    def settings_with(self, options: Mapping[str, Any]) -> Settings:
        """
        Return the settings as `settle` makes them.

        Raises: UsageError.
        """
        changes, folders = options.get("set", ()), options.get("config_dirs")
        settings = self.settings
        if folders:
            folders = tuple(map(str, folders))
            before = settings.unchanged and settings.unchanged._replace(config_dirs=folders)
            settings = settings._replace(config_dirs=folders, unchanged=before)
        return with_changes(settings, [str(change) for change in changes])

    def _use(self, settings: Settings) -> None:
        before, self.settings = self.settings.status_group, settings
        self.context.settings = settings
        if self.listens and settings.status_group != before:
            self.admit()

    def admit(self) -> None:
        """Let `status_group` ask for the status; if that can't be, root alone may."""
        self.listens, self.group = True, access.NO_GROUP
        run_dir = self.settings.run_dir
        for group in dict.fromkeys((self.settings.status_group, "")):
            try:
                wanted = access.group_id(group)
                access.admit(run_dir, control_path(run_dir), wanted)
            except WgsvcError as error:
                log(error.message, error=True)
            else:
                self.group = wanted
                return

    def tunnel(self, name: str) -> Tunnel:
        """Return the tunnel of this name, a new one if it is unknown."""
        if name not in self.tunnels:
            self.tunnels[name] = Tunnel(self.context, name, self.changed)
        return self.tunnels[name]

    def left(self) -> list[str]:
        """Return the tunnels of ours that were found and could not be adopted."""
        if self.tunnels.keys() >= {*journaled(self.settings.run_dir, aside=True)}:
            return []
        from wgsvc.supervise import unsupervised

        return unsupervised.left(self.context.system, self.settings, supervised=self.tunnels)

    def changed(self, tunnel: Tunnel) -> None:
        """Forget a tunnel that is down; end after the last one."""
        if tunnel.state == "down":
            self.loop.spawn(self._forget(tunnel))
        elif tunnel.state == "up":
            self.loop.spawn(self._monitor())

    async def _monitor(self) -> None:
        """Start the route monitor a turn later: the caller gets its answer first."""
        self.monitor.start()
        self.context.system.set_title("wgsvc: supervisor")
        __import__("wgsvc.supervise.destroy")  # now nobody waits; at a stop somebody does: 0.6 ms

    async def _forget(self, tunnel: Tunnel) -> None:
        if tunnel.state == "down" and self.tunnels.get(tunnel.name) is tunnel:
            del self.tunnels[tunnel.name]
            if not self.tunnels:
                await self.monitor.stop()
            self.end_if_idle()

    def network_changed(self) -> None:
        """Have every tunnel look at the routes of now."""
        for tunnel in self.tunnels.values():
            tunnel.post("NETWORK")

    def end_if_idle(self) -> None:
        """Stop the loop if nothing is left to do."""
        if self._busy == 0 and (self.retiring or (not self.tunnels and not self.stay)):
            self.loop.stop()

    def why_it_ends(self) -> str:
        """Return the reason, for the log."""
        if self.retiring:
            left = ", ".join(sorted(self.tunnels, key=natural)) or "no tunnel"
            return f"another one takes over {left}"
        return "no tunnel is left"

    async def converse(self, connection: socket.socket, who: access.Asker) -> None:
        """Serve one caller; the daemon does not end under it."""
        self._busy += 1
        try:
            await control.converse(self.context, connection, who, self._answer)
        finally:
            gc.enable()  # __main__ disables it, for commands and the first start
            self._busy -= 1
            self.end_if_idle()

    async def _answer(
        self, verb: str, names: list[str], options: dict[str, Any], caller: control.Caller
    ) -> dict[str, Any]:
        return await answer(self, verb, names, options, caller)

    async def serve(self, listener: socket.socket) -> None:
        """Accept callers as long as the daemon lives."""
        await control.serve(self.context, listener, lambda: self.group, self.converse)

    async def adopt_all(self) -> None:
        """Take over what an earlier daemon left running, all at the same time."""
        found = []
        for name in journaled(self.settings.run_dir):
            reading = journal.take(self.settings.run_dir, name, self.context.boot_id)
            if reading.entry is not None:
                found.append((reading.entry, reading.wrong))
                with contextlib.suppress(WgsvcError):  # another version's
                    changes = (*reading.entry.changes, *self.settings.changes)  # the newer count
                    self._use(with_changes(self.settings, changes))
        for task in [self.loop.spawn(self._adopt(*one)) for one in found]:
            await task.wait()

    async def _adopt(self, entry: journal.Entry, wrong: str) -> None:
        """Take over one tunnel; what is wrong with its journal is no other tunnel's business."""
        from wgsvc.supervise import adopt

        try:
            file = self._same_file(entry)
            live = await (adopt.adopt_damaged if wrong else adopt.adopt)(self.context, entry, file)
        except (WgsvcError, OSError) as error:  # no descriptor left, for instance
            log(f"{entry.name}: not adopted: {unforeseen(error).message}", error=True)
            return
        except Exception as error:  # noqa: BLE001 - nobody foresees all that may stand in one
            wrong = f"adopting it failed: {unforeseen(error).message}"
            journal.set_aside(self.settings.run_dir, entry.name, wrong)
            return
        if live is not None:
            log(f"{entry.name}: adopted, wireguard-go is PID {entry.pid}")
            self.tunnel(entry.name).adopt(live)
        else:
            log(f"{entry.name}: left unfinished ({entry.phase}); start or stop clears it up")

    def _same_file(self, entry: journal.Entry) -> File | None:
        from wgsvc.files import load

        file = self.checked.get(entry.name)
        if file is None and entry.path:
            with contextlib.suppress(WgsvcError, OSError):
                file = load(entry.path, self.settings).tunnel
        if file is None or file.digest != entry.digest:
            return None
        if file.table == entry.table:
            return file
        return file._replace(table=entry.table, overridden=True)  # the settings are others now

    async def watch_sockets(self) -> None:
        """
        Let go of a tun as soon as its wireguard-go begins to end.

        Where a held descriptor blocks every destroy on the host (FreeBSD), and only there.
        wireguard-go removes its socket before it closes the tun (observed-13.2: section 2,
        row 4), so the folder tells in time.
        """
        while (watch := self.context.hold_watch) is not None:
            await self.loop.readable(watch)
            self.context.system.watch_drain(watch)
            for tunnel in self.tunnels.values():
                live = tunnel.live
                if live is not None and live.holds and live.daemon is not None:
                    path = socket_path(self.settings.uapi_dir, tunnel.name)
                    if not _exists(path):
                        live.let_go()
            if not self.context.watches_the_folder():
                # Somebody has removed it, and the watch with it. Without one nothing may be held.
                self.context.watch_again()
                self._let_go_of_all()

    def _let_go_of_all(self) -> None:
        """Hold no tun any more whose wireguard-go may have ended unseen."""
        for tunnel in self.tunnels.values():
            if tunnel.live is not None and tunnel.live.daemon is not None:
                tunnel.live.let_go()

    def on_signal(self, number: int) -> None:
        """SIGTERM and SIGINT stop every tunnel and end; SIGHUP reloads every tunnel."""
        if number == signal.SIGHUP:
            self.loop.spawn(reload_all(self))
        if number in (signal.SIGTERM, signal.SIGINT):
            log(f"{signal.Signals(number).name}: stopping all tunnels")
            self.stay = False
            for tunnel in list(self.tunnels.values()):
                tunnel.post("STOP")
            self.end_if_idle()


def _begin_afresh() -> None:
    """
    Take nothing over from whoever started us: it may be a boot script or a person's shell.

    No core file, since it holds keys; files for root alone; and an environment of our own, since
    LOCALDOMAIN and RES_OPTIONS in it change how names are resolved.
    """
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(fixed_environment())


def _who_started(system: System, first: socket.socket | None) -> access.Asker:
    """Return the command at the other end of the socket pair that it made, or who called us."""
    if first is None:
        return access.Asker(os.getuid(), os.getppid())
    try:
        return access.asker(system, first, access.NO_GROUP)
    except WgsvcError:  # a kernel that does not tell it of socket pairs
        return access.Asker(os.getuid(), 0)


def _exists(path: str) -> bool:
    return os.path.lexists(path)


def run(
    settings: Settings,
    system: System,
    *,
    checked: Mapping[str, File] | None = None,
    first: socket.socket | None = None,
    stay: bool = False,
) -> None:
    """
    Be the daemon until there is nothing left to do.

    `first` is a caller that is connected already: the command that started us.
    Raises: BusyError if there is a daemon, NotPermittedError, OSFailureError.
    """
    _begin_afresh()
    rundir.prepare(settings.run_dir)
    lock = rundir.Lock(settings.run_dir)
    lock.take()
    daemon = Daemon(settings, system, checked)
    daemon.stay = stay
    daemon.context.children.watch(daemon.on_signal)
    path = control_path(settings.run_dir)
    listener = control.listen(path)
    try:
        keep(daemon.context, "the watch of sockets", daemon.watch_sockets)
        daemon.loop.run(daemon.adopt_all())
        daemon.admit()
        who = _who_started(system, first)
        if first is not None:
            daemon.loop.spawn(daemon.converse(first, who))
        log(f"supervisor {__version__} begins ({who})")
        keep(daemon.context, "the control socket", partial(daemon.serve, listener))
        if first is None:
            gc.enable()
        daemon.loop.run_forever()
        log(f"supervisor ends: {daemon.why_it_ends()}")
        daemon.loop.run(daemon.monitor.stop())
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        listener.close()
        lock.release()
