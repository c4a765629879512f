"""One tunnel of the daemon: its state, and what each event does to it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial

from wgsvc.errors import BusyError, StepsFailedError, WgsvcError, unforeseen
from wgsvc.light import TYPE_CHECKING, NamedTuple
from wgsvc.loop import CancelledError
from wgsvc.supervise import leftovers, wireguard_go
from wgsvc.supervise.context import Timings, ToLog, log
from wgsvc.supervise.down import take_down
from wgsvc.supervise.kept import keep
from wgsvc.supervise.live import Live
from wgsvc.supervise.respawn import Deaths, respawn
from wgsvc.supervise.states import TABLE
from wgsvc.supervise.up import bring_up
from wgsvc.supervise.wireguard_go import describe_exit
from wgsvc.supervise.work import Work

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel as File
    from wgsvc.loop import Future, Task
    from wgsvc.supervise.context import Context, Say
    from wgsvc.supervise.states import Event, State
    from wgsvc.supervise.wireguard_go import Daemon
    from wgsvc.uapi.parse import DeviceState


class Request(NamedTuple):
    """Somebody who wants something of a tunnel, and is told how it went."""

    outcome: Future[str]  # "started", "already running", "stopped", "not running", ...
    say: Say
    timings: Timings
    file: File | None = None


class Tunnel:
    """
    The daemon's view of one interface.

    `on_change` is called after every change of state. `reason` says why it is failed.
    """

    def __init__(self, context: Context, name: str, on_change: Callable[[Tunnel], None]) -> None:
        self.context = context
        self.name = name
        self.source = name  # what was asked for: a name, or the path of a file
        self.state: State = "down"
        self.live: Live | None = None
        self.reason = ""
        self.deaths = Deaths()
        self._on_change = on_change
        self._work = Work(context.loop)
        self._stop_errors: list[WgsvcError] = []  # of the roll-back of a start that was stopped
        self._starters: list[Request] = []
        self._stoppers: list[Request] = []
        self._next: list[Request] = []
        self._following: Task[None] | None = None
        self._follow_again = False
        self._names: list[Task[None]] = []
        self._before: DeviceState | None = None  # what was seen last before a restart
        self._probing: Task[None] | None = None

    def post(self, event: Event, request: Request | None = None) -> None:
        """
        Let an event do what the table says.

        START (with the file), STOP and RELOAD come with the request of who wants them;
        everything else happens by itself.
        """
        if request is None:
            request = Request(self.context.loop.future(), ToLog(self.name), Timings())
        getattr(self, TABLE[self.state, event])(request)

    def adopt(self, live: Live) -> None:
        """Take over a tunnel that is up already."""
        self.live = live
        self._become("up")
        self._watch()
        self.post("NETWORK")

    # --- what the table names; `request` is None for events that nobody asked for

    def ignore(self, request: Request) -> None:
        """Nothing to do."""

    def begin_start(self, request: Request) -> None:
        self._starters.append(request)
        self._become("starting")
        self._work.add(lambda: self._start(request))

    def join_start(self, request: Request) -> None:
        self._starters.append(request)

    def already_up(self, request: Request) -> None:
        request.outcome.set("already running")

    def restart_failed(self, request: Request) -> None:
        self._next.append(request)
        self.deaths = Deaths()
        self.begin_stop(Request(self.context.loop.future(), ToLog(self.name), Timings()))

    def start_afterwards(self, request: Request) -> None:
        self._next.append(request)

    def abort_start(self, request: Request) -> None:
        self._stoppers.append(request)
        self._become("stopping")
        self._work.cancel_running()

    def begin_stop(self, request: Request) -> None:
        self._stoppers.append(request)
        self._forget_names()
        self._become("stopping")
        self._work.replace(lambda: self._stop(request.say, request.timings))

    def join_stop(self, request: Request) -> None:
        self._stoppers.append(request)
        for waiting in self._next:  # the last wish counts
            waiting.outcome.fail(BusyError(f"{self.name}: was stopped before it was started"))
        self._next.clear()

    def stop_leftovers(self, request: Request) -> None:
        self._stoppers.append(request)
        self._become("stopping")
        self._work.add(lambda: self._clear(request))

    def refuse(self, request: Request) -> None:
        request.outcome.fail(
            BusyError(f"{self.name} is {self.state}", cure=f"wgsvc start {self.name}")
        )

    def begin_reload(self, request: Request) -> None:
        self._work.add(lambda: self._reload(request), lambda: self._stopped_before(request))

    def begin_respawn(self, request: Request) -> None:
        live = self.live
        assert live is not None  # noqa: S101
        status = 0
        if live.daemon is None:
            log(f"{self.name}: somebody has destroyed the interface", error=True)
        else:
            status = live.daemon.exited.value()
            how = describe_exit(status)
            log(f"{self.name}: wireguard-go (PID {live.daemon.pid}) {how}", error=True)
        if status == 0 and self.context.settings.on_exit == "stop":
            self.begin_stop(request)  # it was ended on purpose: that is a wish, too
            return
        self.deaths.note(time.monotonic())
        self._become("respawning")
        self._work.interrupt(lambda: self._respawn(live))

    def follow_network(self, _request: Request) -> None:
        """See whether the endpoints are still pinned to the right way."""
        if self._following is None or self._following.done:
            self._following = self.context.loop.spawn(self._follow_network())
        else:
            self._follow_again = True

    async def _follow_network(self) -> None:
        while True:
            self._follow_again = False
            live = self.live
            if live is None or self.state not in ("up", "respawning"):
                return
            if live.daemon is None and self.state == "up" and not live.there(self.context):
                self.post("DAEMON_DIED")  # the kernel's own: nobody else tells
                return
            from wgsvc.supervise import greet, network

            await network.follow(self.context, live)
            greet.go_on(self.context, live)
            if not self._follow_again:
                return

    def become_up(self, _request: Request) -> None:
        self._become("up")
        for waiting in self._starters:
            waiting.outcome.set("started")
        self._starters.clear()
        self._watch()
        self.post("NETWORK")  # it may have changed while the tunnel was being brought up

    def become_failed(self, _request: Request) -> None:
        self._become("failed")

    def become_down(self, _request: Request) -> None:
        self._before = self.live.last_seen if self._next and self.live is not None else None
        self.live = None
        self._forget_names()
        self.context.tunnel_ended(self.name)
        self._become("down")
        aborted = BusyError(f"{self.name}: was stopped while it was being started")
        for waiting in self._starters:
            waiting.outcome.fail(aborted)
        errors, self._stop_errors = self._stop_errors, []
        for waiting in self._stoppers:
            if errors:
                waiting.outcome.fail(errors[0] if len(errors) == 1 else StepsFailedError(errors))
            else:
                waiting.outcome.set("stopped")
        self._starters.clear()
        self._stoppers.clear()
        if self._next:
            first, *rest = self._next
            self._next = []
            self.post("START", first)
            for waiting in rest:
                self.post("START", waiting)

    # --- procedures

    def _become(self, state: State) -> None:
        self.state = state
        if state != "failed":
            self.reason = ""
        self._on_change(self)

    async def _start(self, request: Request) -> None:
        assert request.file is not None  # noqa: S101
        try:
            self.live = Live(request.file)
            self.live.before, self._before = self._before, None
            self.live.source = self.source
            await bring_up(self.context, self.live, request.say, request.timings)
        except Exception as problem:  # noqa: BLE001 - whoever asked must hear of any
            error = unforeseen(problem)
            for waiting in self._starters:
                waiting.outcome.fail(error)
            self._starters.clear()
            log(f"{self.name}: start failed: {error.message}", error=True)
            self.post("START_FAILED")
        except CancelledError as cancelled:
            self._stop_errors = [unforeseen(error) for error in cancelled.errors]
            self.post("START_FAILED")
        else:
            log(f"{self.name}: up")
            self.post("STARTED")

    async def _reload(self, request: Request) -> None:
        live = self.live
        if self.state != "up" or live is None or request.file is None:
            request.outcome.fail(BusyError(f"{self.name} is {self.state}"))
            return
        try:
            from wgsvc.supervise.reload import reload

            done = await reload(self.context, live, request.file, request.say, request.timings)
        except Exception as problem:  # noqa: BLE001 - whoever asked must hear of any
            error = unforeseen(problem)
            log(f"{self.name}: reload: {error.message}", error=True)
            request.outcome.fail(error)
        except CancelledError:
            request.outcome.fail(
                BusyError(f"{self.name}: {self._why_interrupted()} amid the reload")
            )
            raise
        else:
            self._follow_names()
            request.outcome.set(done)

    def begin_save(self, request: Request) -> None:
        self._work.add(lambda: self._save(request), lambda: self._stopped_before(request))

    def _stopped_before(self, request: Request) -> None:
        request.outcome.fail(BusyError(f"{self.name}: was stopped before its turn came"))

    async def _save(self, request: Request) -> None:
        live = self.live
        if self.state != "up" or live is None:
            request.outcome.fail(BusyError(f"{self.name} is {self.state}"))
            return
        try:
            from wgsvc.supervise.save import save

            request.outcome.set(await save(self.context, live, request.say))
        except Exception as problem:  # noqa: BLE001 - whoever asked must hear of any
            request.outcome.fail(unforeseen(problem))
        except CancelledError:
            request.outcome.fail(BusyError(f"{self.name}: {self._why_interrupted()} amid the save"))
            raise

    def _why_interrupted(self) -> str:
        return "was stopped" if self.state == "stopping" else "wireguard-go died"

    async def _stop(self, say: Say, timings: Timings) -> None:
        errors: list[WgsvcError] = []
        try:
            if self.live is not None:
                if self._next:  # a restart
                    from wgsvc.supervise import greet

                    await greet.look(self.context, self.live)
                errors = await take_down(self.context, self.live, say, timings)
        except Exception as problem:  # noqa: BLE001 - whoever asked must hear of any
            errors = [unforeseen(problem)]
        self._stop_done(errors)

    async def _clear(self, request: Request) -> None:
        errors: list[WgsvcError] = []
        try:
            found = leftovers.find(self.context, self.name) or leftovers.find_running(
                self.context, self.name
            )
            if found is None:
                request.outcome.set("not running")
            else:
                errors = await take_down(self.context, found, request.say, request.timings)
        except Exception as problem:  # noqa: BLE001 - whoever asked must hear of any
            errors = [unforeseen(problem)]
        self._stop_done(errors)

    def _stop_done(self, errors: list[WgsvcError]) -> None:
        if errors:
            failure = errors[0] if len(errors) == 1 else StepsFailedError(errors)
            for waiting in self._stoppers:
                waiting.outcome.fail(failure)
            for error in errors:
                log(f"{self.name}: stop: {error.message}", error=True)
        else:
            log(f"{self.name}: down")
        self.post("STOPPED")

    async def _respawn(self, live: Live) -> None:
        try:
            await respawn(self.context, live, self.deaths)
        except WgsvcError as error:
            self.reason = error.message
            log(f"{self.name}: failed: {error.message}", error=True)
            self.post("GAVE_UP")
        else:
            log(f"{self.name}: up again")
            self.post("RESPAWNED")

    def _watch(self) -> None:
        """See the death of this wireguard-go, and of no other."""
        self._follow_names()
        live = self.live
        if live is None or live.daemon is None:
            return
        daemon = live.daemon
        live.unresponsive = ""
        if daemon.child is not None:
            daemon.child.on_stop = self.suspect

        async def follow() -> None:
            await daemon.exited.wait()
            if self.live is live and live.daemon is daemon:
                self.post("DAEMON_DIED")

        self.context.loop.spawn(follow())

    def _follow_names(self) -> None:
        self._forget_names()
        live = self.live
        if live is not None:
            from wgsvc.supervise import endpoints, greet

            self._names = [
                keep(
                    self.context,
                    f"{self.name}: endpoint {peer.endpoint.host if peer.endpoint else ''}",
                    partial(endpoints.follow_name, self.context, live, peer),
                )
                for peer in endpoints.named_peers(live.tunnel)
            ]
            self._names.append(self.context.loop.spawn(greet.watch(self.context, live)))

    def _forget_names(self) -> None:
        for task in self._names:
            task.cancel()
        self._names = []

    def suspect(self) -> None:
        """wireguard-go is stopped or did not answer: if it stays so, end it, it comes back."""
        live = self.live
        if live is None or live.daemon is None or self.state != "up":
            return
        if self._probing is None or self._probing.done:
            self._probing = self.context.loop.spawn(self._probe(live, live.daemon))

    async def _probe(self, live: Live, daemon: Daemon) -> None:
        limit_s = self.context.settings.unresponsive_after_s
        deadline = time.monotonic() + limit_s
        while self.state == "up" and live.daemon is daemon and not daemon.exited.done:
            try:
                await wireguard_go.get(self.context, self.name, timeout_s=min(limit_s, 2.0))
            except WgsvcError as error:
                live.unresponsive = error.message
            else:
                live.unresponsive = ""
                return
            if time.monotonic() > deadline:
                log(f"{self.name}: wireguard-go is unresponsive for {limit_s:g} s", error=True)
                daemon.signal(self.context, signal.SIGKILL)
                return
            await self.context.loop.sleep(min(1.0, limit_s / 4))
