"""What the procedures of the daemon share: the loop, the system, the children, the settings."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager

from wgsvc.errors import OSFailureError, unforeseen
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise import log_socket
from wgsvc.supervise.lookups import LookUps
from wgsvc.supervise.process import Children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgsvc.loop import Loop
    from wgsvc.settings import Settings
    from wgsvc.supervise.hook_output import Output
    from wgsvc.system.base import System

Say = Callable[[str], None]


class Context:
    """One a daemon."""

    def __init__(self, loop: Loop, system: System, settings: Settings) -> None:
        self.loop = loop
        loop.on_error = internal_error
        self.system = system
        self.settings = settings
        self.children = Children(loop, system)
        self.boot_id = system.boot_id()
        self.look_ups = LookUps(loop)
        self.minus_form: bool | None = None  # not asked yet
        self.full_tables: dict[str, int] = {}  # the routing tables of full tunnels, by interface
        self.valid_mark = ""  # what src_valid_mark was before the first of them
        self.shells: dict[str, tuple[str, ...]] = {}  # which options each shell of hooks has
        self.left_running: dict[str, list[Output]] = {}  # what hooks left running, by interface
        self.told: set[tuple[str, str]] = set()  # interface, and what is not to be said again
        self.hold_watch: int | None = None
        self.may_hold = True  # a copy of the tun beside wireguard-go's
        self._folder = -1  # kept open, or the number of its inode can be another folder's next
        self.watch_again()

    def watch_again(self) -> None:
        """Watch wireguard-go's folder, made if it is not there; without a watch hold nothing."""
        old, self.hold_watch = self.hold_watch, None
        if old is not None:
            os.close(old)
        _make_public(self.settings.uapi_dir)
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1
        try:
            self.hold_watch = self.system.watch_directory(self.settings.uapi_dir)
            if self.hold_watch is not None:
                self._folder = os.open(self.settings.uapi_dir, os.O_RDONLY | os.O_DIRECTORY)
        except (OSFailureError, OSError) as error:
            reason = unforeseen(error).message
            log(f"tunnels are not held over a crash of wireguard-go: {reason}", error=True)
            self.may_hold = False

    def watches_the_folder(self) -> bool:
        """Whether the folder that is watched still is wireguard-go's folder."""
        try:
            there = os.stat(self.settings.uapi_dir)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._folder))

    def tunnel_ended(self, name: str) -> None:
        """Stop reading what hooks of this tunnel left running; it runs on."""
        for output in self.left_running.pop(name, []):
            output.stop()
        self.told = {(interface, what) for interface, what in self.told if interface != name}


def _make_public(path: str) -> None:
    """Make wireguard-go's folder as it does itself (ipc/uapi_unix.go): for all to see."""
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    except OSError as error:
        raise OSFailureError("mkdir", path, error.errno or 0) from None
    os.chmod(path, 0o755)  # noqa: S103 - the sockets in it are root's alone


class Timings:
    """How long each phase of a procedure took, in milliseconds."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to phase `name`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed_ms = (time.perf_counter() - started) * 1000
            self.phases[name] = self.phases.get(name, 0.0) + elapsed_ms


def internal_error(error: BaseException) -> None:
    """Log a defect of ours, with where it is."""
    import traceback

    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = ", ".join(f"{frame.filename}:{frame.lineno}" for frame in where)
    log(f"internal error: {type(error).__name__}: {error} at {place}", error=True)


class ToLog:
    """
    What is said about a tunnel that nobody asked for goes to syslog.

    `shows_hooks`: the text of a hook, which may hold a secret, goes to whoever asked and not here.
    """

    shows_hooks = False

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, line: str) -> None:
        """Log one line."""
        log(f"{self._name}: {line}")


foreground = False


def log(message: str, *, error: bool = False) -> None:
    """
    Write one line to syslog, facility daemon; to stderr in the foreground.

    Never a key, never a file's line.
    """
    if foreground:
        print(f"wgsvc: {message}", file=sys.stderr, flush=True)
        return
    log_socket.send(message, error=error)
