"""
Children: started in a session of their own, with no descriptor they were not given.

Each is known by its PID, which nobody else can have before we reap it, and reaping is done
in one place. What a child forked twice to get away from becomes ours too (the system's
reaper) and is reaped here.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence

from wgsvc.errors import OSFailureError, UnavailableError, shell_word
from wgsvc.light import TYPE_CHECKING
from wgsvc.programs import find_program

if TYPE_CHECKING:
    from wgsvc.loop import Future, Loop
    from wgsvc.system.base import System

SHORTAGES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
LISTEN_AGAIN_S = 0.2


def _nothing() -> None:
    """Nobody wants to know."""


class Child:
    """A process we started. `exited` is its wait status; until then its PID is its own."""

    def __init__(self, pid: int, role: str, exited: Future[int]) -> None:
        self.pid = pid
        self.role = role
        self.exited = exited
        self.on_stop: Callable[[], None] = _nothing  # SIGSTOP, or a debugger

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended: an un-reaped PID can't be anybody else's."""
        if not self.exited.done:
            os.kill(self.pid, number)


class Children:
    """All children of this process."""

    def __init__(self, loop: Loop, system: System) -> None:
        self._loop = loop
        self._system = system
        self._by_pid: dict[int, Child] = {}
        self._reaper = False
        self._wake, self._bell = socket.socketpair()
        self._wake.setblocking(False)
        self._bell.setblocking(False)

    def watch(self, on_signal: Callable[[int], None]) -> None:
        """
        Reap from now on; `on_signal` gets every other signal that has a Python handler.

        The handlers themselves do nothing: the number arrives through the wake-up socket.
        """
        signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        self._loop.spawn(self._listen(on_signal))

    async def _listen(self, on_signal: Callable[[int], None]) -> None:
        """Reap and pass signals on for ever; without this no child's end is ever seen."""
        while True:
            try:
                await self._loop.readable(self._wake.fileno())
                numbers = self._wake.recv(4096)
            except OSError:  # the loop can't wait for it at this moment (no memory)
                await self._loop.sleep(LISTEN_AGAIN_S)
                numbers = b""
            self.reap()
            for number in numbers:
                if number != signal.SIGCHLD:
                    on_signal(number)

    def become_reaper(self) -> None:
        """
        Make orphans of our descendants our own children.

        wireguard-go (with -f it orphans nobody) may be forked before: while it starts there is
        time for this, and on Linux it imports ctypes, 2 ms.
        """
        if not self._reaper:
            self._system.become_reaper()
            self._reaper = True

    def reap(self) -> None:
        """Collect everything that has ended, ours by name or orphaned to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                if pid in self._by_pid:
                    self._by_pid[pid].on_stop()
                continue
            child = self._by_pid.pop(pid, None)
            if child is not None:
                child.exited.set(status)

    def spawn(
        self,
        argv: Sequence[str],
        *,
        role: str,
        env: Mapping[str, str],
        stdio: tuple[int, int, int] | None = None,
        keep: Sequence[int] = (),
        cwd: str = "/",
    ) -> Child:
        """
        Run a program: own session, stdio as given (else /dev/null), `keep` inherited.

        Raises: UnavailableError if it can't be executed (which file, and why).
        """
        executable = find_program(argv[0])
        told, tell = os.pipe()

        def run() -> None:
            os.chdir(cwd)
            os.execve(executable, list(argv), dict(env))

        try:
            child = self._fork(run, role, stdio, (*keep, tell), tell)
        except BaseException:
            os.close(told)
            raise
        finally:
            os.close(tell)
        with os.fdopen(told, "rb") as pipe:
            answer = pipe.read(16)
        if answer:
            raise _not_run(executable, int(answer))
        return child

    def execute(
        self,
        argv: Sequence[str],
        *,
        role: str,
        env: Mapping[str, str],
        stdio: tuple[int, int, int],
        keep: Sequence[int] = (),
    ) -> Child:
        """
        Run a program as `spawn` does, with the daemon's own folder and umask.

        By posix_spawn(3), which makes no copy of this process first: 0.2 ms against 1.5. It
        relies on every descriptor being close-on-exec, as Python makes them. Where it
        can't begin a session (FreeBSD), `spawn` does it.

        Raises: UnavailableError if it can't be executed (which file, and why).
        """
        if min(stdio) < 3:  # their places in the child would overlap
            return self.spawn(argv, role=role, env=env, stdio=stdio, keep=keep)
        executable = find_program(argv[0])
        actions = [(os.POSIX_SPAWN_DUP2, fd, target) for target, fd in enumerate(stdio)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in keep]  # clears its close-on-exec
        try:
            pid = os.posix_spawn(
                executable,
                list(argv),
                dict(env),
                file_actions=actions,
                setsid=True,
                setsigmask=(),
                setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),  # which Python ignores
            )
        except NotImplementedError:
            return self.spawn(argv, role=role, env=env, stdio=stdio, keep=keep)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise OSFailureError("posix_spawn", executable, error.errno) from None
            raise _not_run(executable, error.errno or 0) from None
        return self._own(pid, role)

    def fork(
        self,
        run: Callable[[], None],
        *,
        role: str,
        stdio: tuple[int, int, int] | None = None,
        keep: Sequence[int] = (),
        outlives_us: bool = True,
    ) -> Child:
        """Run a function of ours in a child that ends with it, or else also with this process."""
        parent = os.getpid()

        def bound() -> None:
            self._system.die_with_parent()
            if os.getppid() == parent:  # else it died before that was in force
                run()

        return self._fork(run if outlives_us else bound, role, stdio, keep, None)

    def _fork(
        self,
        run: Callable[[], None],
        role: str,
        stdio: tuple[int, int, int] | None,
        keep: Sequence[int],
        tell: int | None,
    ) -> Child:
        if role != "wireguard-go":
            self.become_reaper()
        try:
            pid = os.fork()
        except OSError as error:
            raise OSFailureError("fork", role, error.errno or 0) from None
        if pid == 0:
            _in_child(run, stdio, keep, tell)
        return self._own(pid, role)

    def _own(self, pid: int, role: str) -> Child:
        child = Child(pid, role, self._loop.future())
        self._by_pid[pid] = child
        return child


def _not_run(executable: str, number: int) -> UnavailableError:
    cure = f"chmod +x {shell_word(executable)}" if number == errno.EACCES else ""
    return UnavailableError(f"{executable} can't be run: {os.strerror(number)}", cure=cure)


def _in_child(
    run: Callable[[], None],
    stdio: tuple[int, int, int] | None,
    keep: Sequence[int],
    tell: int | None,
) -> None:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.setsid()
        os.umask(0o022)  # ours is 077; wireguard-go makes its socket's folder for all to see
        if stdio is None:
            null = os.open(os.devnull, os.O_RDWR)
            stdio = (null, null, null)
        # Copies first: one of them may be 0, 1 or 2 itself.
        for target, source in enumerate([os.dup(fd) for fd in stdio]):
            os.dup2(source, target)
        # A stray copy of a tun descriptor would freeze every destroy on a FreeBSD host.
        low = 3
        for fd in sorted(keep):
            os.closerange(low, fd)
            low = fd + 1
            os.set_inheritable(fd, fd != tell)
        os.closerange(low, 1 << 16)
        run()
        status = 0
    except OSError as error:
        if tell is not None:
            os.write(tell, str(error.errno).encode())
    finally:
        os._exit(status)
