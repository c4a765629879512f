"""
One wireguard-go: started on our tun, waited for, ended by PID.

It gets the tun through WG_TUN_FD and we keep our copy, so that its death takes neither
interface nor routes. It does not get WG_UAPI_FD: without it the socket's peer
credentials name wireguard-go itself (observed-13.2: section 2, row 7).
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque

from wgsvc.errors import (
    BusyError,
    OSFailureError,
    TimeoutExpiredError,
    UnavailableError,
    WgsvcError,
    shell_word,
)
from wgsvc.light import TYPE_CHECKING
from wgsvc.programs import fixed_environment
from wgsvc.supervise.context import log
from wgsvc.supervise.process import Child
from wgsvc.uapi import transport

if TYPE_CHECKING:
    from wgsvc.loop import Future
    from wgsvc.supervise.context import Context
    from wgsvc.system.base import Tun
    from wgsvc.uapi.encode import DeviceChange
    from wgsvc.uapi.parse import DeviceState

LOG_LINES = 20
NEXT = (
    "wgsvc.supervise.device",
    "wgsvc.supervise.endpoints",
    "wgsvc.supervise.greet",
    "wgsvc.supervise.network",
    "wgsvc.supervise.observe",
    "wgsvc.uapi.encode",
    "wgsvc.uapi.parse",
)
"""Needed as soon as wireguard-go is ready, imported while it starts: 2 ms that nobody waits for."""
POLL_S = 0.0005  # it is ready 3 to 6 ms after its start; nothing announces that
SLOW_POLL_S = 0.05
PATIENCE_S = 0.1  # after that it is a slow one, and is looked at less often


class Daemon:
    """
    A running wireguard-go, our child or an adopted one.

    `exited` is its wait status (an adopted one's is -1). `last_words` are the last lines it
    wrote; it never writes keys.
    """

    def __init__(
        self,
        pid: int,
        start_id: str,
        exited: Future[int],
        *,
        adopted_watch: int = -1,
        child: Child | None = None,
        log_socket: socket.socket | None = None,
    ) -> None:
        self.pid = pid
        self.start_id = start_id
        self.exited = exited
        self.adopted_watch = adopted_watch
        self.child = child
        self.last_words: deque[str] = deque(maxlen=LOG_LINES)
        self._log_socket = log_socket

    def drain(self, name: str) -> None:
        """Read what it wrote so far; keep the last lines, and pass all on to syslog."""
        while self._log_socket is not None:
            try:
                data = self._log_socket.recv(4096)
            except OSError:  # nothing more, for now or for good
                return
            for line in data.decode("utf-8", "replace").splitlines():
                self.last_words.append(line[:400])
                log(f"{name}: wireguard-go: {line[:400]}")

    def signal(self, context: Context, number: int) -> None:
        """Signal it, if it is still there and still it."""
        if self.exited.done:
            return
        if self.child is not None:
            self.child.signal(number)
        else:
            context.system.signal(self.pid, self.start_id, self.adopted_watch, number)


async def start(context: Context, tun: Tun) -> Daemon:
    """
    Start wireguard-go on `tun` and return once it answers.

    Raises: UnavailableError (can't be run), OSFailureError or TimeoutExpiredError (ended or
    silent, with its last words).
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    # Datagrams, because writing to a pipe that nobody reads would kill it (SIGPIPE) after
    # a crash of this daemon.
    ours.setblocking(False)
    try:
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            child = context.children.execute(
                [context.settings.wireguard_go, "-f", tun.name],
                role="wireguard-go",
                env=fixed_environment(
                    WG_TUN_FD=str(tun.fd), WG_PROCESS_FOREGROUND="1", LOG_LEVEL="error"
                ),
                stdio=(null, theirs.fileno(), theirs.fileno()),
                keep=[tun.fd],
            )
        finally:
            os.close(null)
            theirs.close()
    except BaseException:
        ours.close()
        raise
    start_id = context.system.start_id(child.pid) or ""
    daemon = Daemon(child.pid, start_id, child.exited, child=child, log_socket=ours)
    context.loop.spawn(_listen(context, daemon, tun.name, ours))
    try:
        await _ready(context, daemon, child, tun.name)
    except BaseException:
        await end(context, daemon)
        raise
    return daemon


async def _ready(context: Context, daemon: Daemon, child: Child, name: str) -> None:
    path = transport.socket_path(context.settings.uapi_dir, name)
    began = time.monotonic()
    deadline = began + context.settings.ready_timeout_s
    context.children.become_reaper()
    for module in NEXT:
        __import__(module)
    while True:
        if child.exited.done:
            daemon.drain(name)
            raise _ended(context, daemon, name)
        try:
            connection = transport.connect(path)
        except OSFailureError:
            if time.monotonic() > deadline:
                raise TimeoutExpiredError(
                    f"{context.settings.wireguard_go} (PID {daemon.pid}) does not listen on "
                    f"{path} after {context.settings.ready_timeout_s:g} s{_said(daemon)}",
                    cure=_by_hand(context, name),
                ) from None
            await context.loop.sleep(_pause_s(began))
            continue
        try:
            owner = context.system.peer_pid(connection)
        finally:
            connection.close()
        if owner != daemon.pid:
            raise BusyError(
                f"{path} is served by PID {owner}, not by the wireguard-go just started"
            )
        await transport.exchange(
            context.loop, path, transport.GET, timeout_s=max(0.1, deadline - time.monotonic())
        )
        return


def _pause_s(began: float) -> float:
    """Return how long to wait before looking again; `began` is a time of time.monotonic()."""
    return POLL_S if time.monotonic() - began < PATIENCE_S else SLOW_POLL_S


def _ended(context: Context, daemon: Daemon, name: str) -> WgsvcError:
    how = describe_exit(daemon.exited.value())
    return UnavailableError(
        f"{context.settings.wireguard_go} {how} instead of serving {name}{_said(daemon)}",
        cure=_by_hand(context, name),
    )


def _by_hand(context: Context, name: str) -> str:
    program = shell_word(context.settings.wireguard_go)
    return f"try by hand: LOG_LEVEL=verbose {program} -f {name}"


def _said(daemon: Daemon) -> str:
    return f"; it said: {daemon.last_words[-1]}" if daemon.last_words else ""


def describe_exit(status: int) -> str:
    """Return a wait status in words."""
    if status == -1:
        return "ended"
    if os.WIFSIGNALED(status):
        return f"was killed by {signal_name(os.WTERMSIG(status))}"
    return f"exited with {os.waitstatus_to_exitcode(status)}"


def signal_name(number: int) -> str:
    """Return a signal's name; those for real time have none (35 to 63 on Linux)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


async def end(context: Context, daemon: Daemon) -> None:
    """
    End it: SIGTERM, a bounded wait, SIGKILL, a bounded wait.

    One that is stopped gets SIGCONT too: it can't heed SIGTERM before it runs on.
    On FreeBSD our copy of the tun must be closed by now: its own destroy waits for that.
    Raises: TimeoutExpiredError if it is still there after SIGKILL (state D).
    """
    limit_s = context.settings.step_timeout_s
    daemon.signal(context, signal.SIGTERM)
    daemon.signal(context, signal.SIGCONT)
    if await daemon.exited.wait(limit_s):
        return
    log(f"wireguard-go (PID {daemon.pid}) did not end within {limit_s:g} s of SIGTERM: SIGKILL")
    daemon.signal(context, signal.SIGKILL)
    if not await daemon.exited.wait(limit_s):
        raise TimeoutExpiredError(
            f"wireguard-go (PID {daemon.pid}) is still there {limit_s:g} s after SIGKILL",
            cure=f"see where the kernel holds it: ps -o pid,stat,wchan -p {daemon.pid}",
        )


async def bound(context: Context, name: str) -> int:
    """
    Wait until it has opened its UDP sockets; return the port that it chose.

    Raises: TimeoutExpiredError. (A device that is down reports port 0.)
    """
    began = time.monotonic()
    deadline = began + context.settings.ready_timeout_s
    while True:
        port = (await get(context, name)).listen_port
        if port:
            return port
        if time.monotonic() > deadline:
            raise TimeoutExpiredError(
                f"wireguard-go on {name} does not open its UDP socket",
                cure=f"look at the log for its reason; ifconfig {name} down up may help",
            )
        await context.loop.sleep(_pause_s(began))


async def get(
    context: Context,
    name: str,
    *,
    before: DeviceState | None = None,
    timeout_s: float | None = None,
) -> DeviceState:
    """
    Ask for everything it knows. Its last answer (`before`) makes reading this one faster.

    Raises: OSFailureError, TimeoutExpiredError, ProtocolError.
    """
    path = transport.socket_path(context.settings.uapi_dir, name)
    answer = await transport.exchange(
        context.loop, path, transport.GET, timeout_s=timeout_s or context.settings.step_timeout_s
    )
    from wgsvc.uapi.parse import parse_device

    return parse_device(answer, path, before)


async def configure(context: Context, name: str, change: DeviceChange) -> None:
    """
    Set something. Not transactional: what came before an error stays.

    Raises: OSFailureError, TimeoutExpiredError, ProtocolError.
    """
    path = transport.socket_path(context.settings.uapi_dir, name)
    from wgsvc.uapi.encode import encode
    from wgsvc.uapi.parse import check_errno

    # One X25519 a new peer: 10 000 take a second here, ten on a small router.
    timeout_s = context.settings.step_timeout_s + len(change.peers) / 500
    answer = await transport.exchange(context.loop, path, encode(change), timeout_s=timeout_s)
    check_errno(answer, path)


async def _listen(context: Context, daemon: Daemon, name: str, log_socket: socket.socket) -> None:
    async def follow() -> None:
        while await context.loop.readable(log_socket.fileno()):
            daemon.drain(name)

    following = context.loop.spawn(follow())
    await daemon.exited.wait()
    following.cancel()
    await following.wait()
    daemon.drain(name)
    log_socket.close()
