"""The command's end of the control socket: every wait has a bound, and each error its meaning."""

from __future__ import annotations

# Not `socket`: that pulls in selectors and enum, 8 ms, a third of `wgsvc status`.
import _socket
import os

from wgsvc.errors import NotPermittedError, ProtocolError, TimeoutExpiredError, WgsvcError
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.order import natural
from wgsvc.settings import CONFIG_DIRS, Settings
from wgsvc.supervise import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def control_path(run_dir: str) -> str:
    """Return where the daemon listens."""
    return os.path.join(run_dir, "control.sock")


def interface_of(name: str) -> str:
    """Return the interface that a name, or a path ending in NAME.conf, means."""
    return os.path.basename(name).removesuffix(".conf") if "/" in name else name


def journaled(run_dir: str, *, aside: bool = False) -> list[str]:
    """
    Return the interfaces that a daemon, running or dead, has a journal of, wg2 before wg10.

    `aside`: those as well whose journal was set aside.
    Raises: NotPermittedError if this user may not look.
    """
    try:
        files = os.listdir(run_dir)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _hidden(error, run_dir) from None
    endings = (".json", ".json.bad") if aside else (".json",)
    names = {file[: -len(end)] for file in files for end in endings if file.endswith(end)}
    return sorted(names, key=natural)


def own_settings(settings: Settings) -> dict[str, Any]:
    """Return what of this command's settings the daemon, started by another, must know."""
    own: dict[str, Any] = {}
    if settings.changes:
        own["set"] = list(settings.changes)
    if settings.config_dirs != CONFIG_DIRS:
        own["config_dirs"] = list(settings.config_dirs)
    return own


def silence_s(settings: Settings) -> float:
    """Return how long a supervisor may say nothing at all before it is given up."""
    return max(wire.SILENCE_S, settings.step_timeout_s)


def call(settings: Settings) -> _socket.socket | None:
    """
    Connect to the daemon; None if there is none.

    Raises: NotPermittedError if this user may not ask it, or not find out whether there is one;
    TimeoutExpiredError if it accepts nobody.
    """
    path = control_path(settings.run_dir)
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(silence_s(settings))
    try:
        try:
            connection.connect(path)
        except BlockingIOError:
            _wait_in_line(connection, path, settings)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        if settings.unread:
            raise _elsewhere(settings) from None
        return None
    except OSError as error:
        connection.close()
        raise _hidden(error, settings.run_dir) from None
    except WgsvcError:
        connection.close()
        raise
    return connection


def _wait_in_line(connection: _socket.socket, path: str, settings: Settings) -> None:
    """
    Connect where so many callers wait that no more are let in.

    Raises: OSError, TimeoutExpiredError.
    """
    import time

    deadline = time.monotonic() + silence_s(settings)
    while time.monotonic() < deadline:
        time.sleep(0.01)
        try:
            connection.connect(path)
        except BlockingIOError:
            continue
        return
    raise _silent(settings, 0)


def _hidden(error: OSError, run_dir: str) -> NotPermittedError:
    """Return the error for what this user may not even look at: somebody may well be there."""
    import errno

    from wgsvc.errors import shell_word

    if error.errno == errno.ENOTDIR:
        return NotPermittedError(
            f"{run_dir} is not a directory; it will not be used",
            cure=f"look who made it, then: rm {shell_word(run_dir)}",
        )
    why = os.strerror(error.errno) if error.errno else str(error)
    return NotPermittedError(
        f"{run_dir}: {why}: the supervisor, if there is one, can't be asked",
        cure="run as root (status also as a member of status_group, see wgsvc.conf(5))"
        if os.geteuid()
        else f"ls -ld {shell_word(run_dir)}",
    )


def _elsewhere(settings: Settings) -> NotPermittedError:
    """Return the error for a user who may not read which run directory is in use."""
    return NotPermittedError(
        f"no supervisor has {settings.run_dir}, but {settings.unread}, which may name another "
        "run_dir, may not be read",
        cure="run as root, or say which: --run-dir DIR",
    )


def _nothing(_line: str) -> None:
    """Show nothing."""


def ask(
    settings: Settings,
    connection: _socket.socket,
    verb: str,
    names: list[str],
    *,
    options: dict[str, Any] | None = None,
    say: Callable[[str], None] = _nothing,
) -> dict[str, Any] | None:
    """
    Send a request, show what is said meanwhile, return the closing answer.

    None if the daemon hung up before it began to work on it (it was about to end).
    Raises: ProtocolError if it vanished in the middle, TimeoutExpiredError if it says nothing
    for too long: it lets everybody know every second that it still works.
    """
    began = False
    try:
        for message in _conversation(
            connection, wire.encode({"verb": verb, "names": names, "options": options or {}}),
            silence_s(settings),
        ):  # fmt: skip
            if "done" in message:
                done: dict[str, Any] = message["done"]
                return done
            began = True
            if "say" in message:
                say(str(message["say"]))
    except TimeoutError:
        raise _silent(settings, _peer_pid(connection)) from None
    finally:
        connection.close()
    if began:
        raise ProtocolError(
            "the supervisor ended in the middle of the work",
            cure="see syslog for its reason; wgsvc start takes up what it left",
        )
    return None


def _conversation(
    connection: _socket.socket, request: bytes, bound_s: float
) -> Iterator[dict[str, Any]]:
    """
    Yield what the supervisor says, until it hangs up.

    Raises: TimeoutError if it says nothing for too long, ProtocolError.
    """
    connection.settimeout(bound_s)
    try:
        connection.sendall(request)
    except TimeoutError:
        raise
    except OSError:
        pass  # it is ending; what it may have said before is the answer
    data = bytearray()
    while True:
        try:
            chunk = connection.recv(1 << 18)
        except ConnectionResetError:
            return
        if not chunk:
            return
        data += chunk
        if len(data) > wire.ANSWER_LIMIT_BYTES:
            raise ProtocolError("an answer of the supervisor that is too long")
        if b"\n" in chunk:
            *lines, rest = data.split(b"\n")
            data = bytearray(rest)
            for line in lines:
                yield wire.decode(bytes(line))


def _peer_pid(connection: _socket.socket) -> int:
    """Return the PID of the supervisor that we are connected to, 0 if the kernel does not tell."""
    from wgsvc.system import current

    system: Any = current()  # its sockets are those of `socket`; ours can do as much
    try:
        pid = int(system.peer_pid(connection))
    except WgsvcError:
        return 0
    return 0 if pid == os.getpid() else pid  # of a socket pair it is who made it


def _silent(settings: Settings, pid: int) -> TimeoutExpiredError:
    """Return the error for a supervisor that is there and says nothing."""
    known = str(pid) if pid else noted_pid(settings.run_dir)
    who = f" (PID {known})" if known else ""
    cure = "ps -ax -o pid,stat,command | grep wgsvc"
    if known:
        cure = (
            f"ps -o stat -p {known}: if it is stopped (T), kill -CONT {known}; if it hangs, "
            f"kill -9 {known}: tunnels go on, and wgsvc start takes them over"
        )
    return TimeoutExpiredError(
        f"the supervisor{who} does not answer: not a word for {silence_s(settings):g} s; "
        "what was asked for it does if it goes on",
        cure=cure,
    )


def noted_pid(run_dir: str) -> str:
    """Return the PID that a supervisor has written down, for people; "" if none can be read."""
    try:
        fd = os.open(
            os.path.join(run_dir, "wgsvc.pid"), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        )
    except OSError:
        return ""
    try:
        text = os.read(fd, 20).decode("ascii", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(fd)
    return text if text.isdigit() else ""
