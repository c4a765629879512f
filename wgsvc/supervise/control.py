"""The daemon's control socket: root's alone, a fixed set of verbs, bounded in every way."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine

from wgsvc.errors import OSFailureError, WgsvcError, unforeseen
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise import wire
from wgsvc.supervise.context import log

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context

REQUEST_TIMEOUT_S = 5.0
SAY_LIMIT_BYTES = 4 << 20
"""A caller that does not read loses lines, not the daemon its memory."""


class Caller:
    """One connected command."""

    def __init__(self, context: Context, connection: socket.socket) -> None:
        self._context = context
        self.connection = connection
        self._pending = bytearray()
        self._flushing = False
        self.gone = False
        connection.setblocking(False)

    def say(self, line: str) -> None:
        """Show a line to the caller, now or as soon as it reads."""
        if len(self._pending) < SAY_LIMIT_BYTES:
            self._queue({"say": line})

    def _queue(self, message: dict[str, Any]) -> None:
        if self.gone:
            return
        self._pending += wire.encode(message)
        if not self._flushing:
            self._send()
            if self._pending and not self.gone:
                self._flushing = True
                self._context.loop.spawn(self._flush())

    def _send(self) -> None:
        try:
            sent = self.connection.send(self._pending)
        except BlockingIOError:
            return
        except OSError:
            self.gone = True
            return
        del self._pending[:sent]

    async def _flush(self) -> None:
        while self._pending and not self.gone:
            if not await self._context.loop.writable(self.connection.fileno(), REQUEST_TIMEOUT_S):
                self.gone = True
            else:
                self._send()
        self._flushing = False

    async def close(self, done: dict[str, Any]) -> None:
        """Send the closing message, wait until it is out, hang up."""
        self._queue({"done": done})
        while self._flushing and not self.gone:
            await self._context.loop.sleep(0.001)
        self.connection.close()


Answer = Callable[[str, list[str], dict[str, Any], Caller], Awaitable[dict[str, Any]]]


def listen(path: str) -> socket.socket:
    """
    Make the socket; an old one is removed, since the daemon's lock says nobody has it.

    Raises: OSFailureError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        old_mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(old_mask)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OSFailureError("bind", path, error.errno or 0) from None
    listener.setblocking(False)
    return listener


async def serve(
    context: Context,
    listener: socket.socket,
    converse: Callable[[socket.socket], Coroutine[Any, Any, None]],
) -> None:
    """Have a conversation with every caller there ever is."""
    while True:
        await context.loop.readable(listener.fileno())
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        except OSError as error:
            log(f"accept: {error.strerror}", error=True)
            await context.loop.sleep(0.1)  # EMFILE: let some calls end first
            continue
        uid = context.system.peer_uid(connection)
        if uid not in (0, os.geteuid()):
            log(f"refused a command of uid {uid}", error=True)
            connection.close()
            continue
        context.loop.spawn(converse(connection))


async def converse(context: Context, connection: socket.socket, answer: Answer) -> None:
    """Read one request, answer it, hang up."""
    caller = Caller(context, connection)
    try:
        line = await _read_line(context, connection)
        verb, names, options = wire.decode_request(line)
        done = await answer(verb, names, options, caller)
    except WgsvcError as error:
        done = {"error": error_table(error)}
    except Exception as error:  # noqa: BLE001 - one bad call must not end the daemon
        failure = unforeseen(error)
        log(failure.message, error=True)
        done = {"error": error_table(failure)}
    await caller.close(done)


async def _read_line(context: Context, connection: socket.socket) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        if not await context.loop.readable(connection.fileno(), REQUEST_TIMEOUT_S):
            raise WgsvcError("no request came in time")
        chunk = connection.recv(1 << 16)
        if not chunk:
            raise WgsvcError("the caller hung up")
        data += chunk
        if len(data) > wire.REQUEST_LIMIT_BYTES:
            raise WgsvcError("a request that is too long")
    return bytes(data)


def error_table(error: WgsvcError) -> dict[str, Any]:
    """Return an error as data."""
    errors = getattr(error, "errors", ())
    return {
        "kind": error.kind,
        "message": error.message,
        "cure": error.cure,
        "exit_code": error.exit_code,
        "errors": [error_table(one) for one in errors],
    }
