"""The command's end of the control socket."""

from __future__ import annotations

# Not `socket`: that pulls in selectors and enum, 8 ms, a third of `wgsvc status`.
import _socket
import os

from wgsvc.errors import ProtocolError
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.order import natural
from wgsvc.settings import CONFIG_DIRS, Settings
from wgsvc.supervise import wire

if TYPE_CHECKING:
    from collections.abc import Callable


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
    """
    try:
        files = os.listdir(run_dir)
    except OSError:
        return []
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


def call(run_dir: str) -> _socket.socket | None:
    """Connect to the daemon; None if there is none."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(control_path(run_dir))
    except OSError:
        connection.close()
        return None
    return connection


def ask(
    connection: _socket.socket,
    verb: str,
    names: list[str],
    options: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """
    Send a request, show what is said meanwhile, return the closing answer.

    None if the daemon hung up before it began to work on it (it was about to end).
    Raises: ProtocolError if it vanished in the middle.
    """
    request = wire.encode({"verb": verb, "names": names, "options": options})
    try:  # noqa: SIM105 - contextlib takes 3 ms to import
        connection.sendall(request)
    except OSError:
        pass  # it is ending; what it may have said before is the answer
    data = bytearray()
    said = False
    try:
        while chunk := connection.recv(1 << 18):
            data += chunk
            if len(data) > wire.ANSWER_LIMIT_BYTES:
                raise ProtocolError("an answer of the daemon that is too long")
            if b"\n" not in chunk:
                continue
            *lines, rest = data.split(b"\n")
            data = bytearray(rest)
            for line in lines:
                message = wire.decode(bytes(line))
                if "done" in message:
                    done: dict[str, Any] = message["done"]
                    return done
                said = True
                say(str(message.get("say", "")))
    except ConnectionResetError:
        pass
    finally:
        connection.close()
    if said:
        raise ProtocolError(
            "the daemon ended in the middle of the work",
            cure="see syslog for its reason; wgsvc start takes up what it left",
        )
    return None
