"""
Starting the daemon from a command.

It is forked as soon as the command knows that there is none: while the command reads and
checks the files, the child imports python-daemon, detaches itself and imports the daemon's
modules, 20 ms on another processor. Forked, not executed: what is imported stays so.
"""

from __future__ import annotations

import _socket  # not `socket`, see client.py
import os
import sys

from wgsvc.errors import BusyError, UnavailableError, WgsvcError
from wgsvc.light import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wgsvc.config.model import Tunnel
    from wgsvc.settings import Settings


class Launch(NamedTuple):
    """A daemon that is about to be; it touches nothing before `hand_over`."""

    connection: _socket.socket

    def hand_over(self, checked: Mapping[str, Tunnel]) -> _socket.socket:
        """
        Let it begin, with these files; return the connection for a first request.

        Nobody waits for it here: that could be for ever. It detaches by itself, and the first of
        its two parents is reaped when this command ends.
        """
        from wgsvc.supervise import handover

        try:
            handover.send(self.connection, checked)
        except OSError:
            return self.connection  # it has ended; its answer says why
        return self.connection

    def cancel(self) -> None:
        """Let it end without having done anything, by itself."""
        self.connection.close()


def fork(settings: Settings) -> Launch:
    """Start the daemon as a child that detaches itself."""
    from wgsvc.supervise.client import silence_s

    ours, theirs = _socket.socketpair()
    ours.settimeout(silence_s(settings))
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ours.close()
            _detach(settings, theirs)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    return Launch(ours)


def _detach(settings: Settings, first: _socket.socket) -> None:
    try:
        from daemon import DaemonContext
    except ImportError:
        _refuse(
            first,
            UnavailableError(
                "python-daemon is not installed",
                cure="install it, or run `wgsvc daemon --foreground` under daemon(8)",
            ),
        )
        return
    context = DaemonContext(
        files_preserve=[first.fileno()], signal_map={}, umask=0o077, detach_process=True
    )
    with context:
        _be(settings, first)


def _be(settings: Settings, first: _socket.socket) -> None:
    import socket

    from wgsvc.supervise import daemon, handover
    from wgsvc.system import current

    connection = socket.socket(fileno=first.detach())
    try:
        system = current(settings.wireguard_go)
        checked = handover.receive(connection)
        if checked is not None:
            daemon.run(settings, system, checked=checked, first=connection)
    except BusyError as error:
        _tell(connection, {"again": error.message})
    except WgsvcError as error:
        _refuse(connection, error)
    except Exception as error:
        from wgsvc.supervise.context import log

        log(f"the daemon ends: {type(error).__name__}: {error}", error=True)
        _refuse(connection, WgsvcError(f"the supervisor failed: {type(error).__name__}: {error}"))
        raise


def _refuse(first: _socket.socket, error: WgsvcError) -> None:
    from wgsvc.supervise.control import error_table

    _tell(first, {"error": error_table(error)})


def _tell(first: _socket.socket, done: dict[str, Any]) -> None:
    """Give the command that started us its answer, if it has none yet."""
    from wgsvc.supervise import wire

    try:
        first.sendall(wire.encode({"done": done}))
    except OSError:
        return  # answered and hung up long ago
