"""The daemon's control socket: a fixed set of verbs, for those who may, bounded in every way."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Coroutine

from wgsvc.errors import BusyError, NotPermittedError, OSFailureError, WgsvcError, unforeseen
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise import access, wire
from wgsvc.supervise.context import log

if TYPE_CHECKING:
    from wgsvc.loop import Task
    from wgsvc.supervise.access import Asker
    from wgsvc.supervise.context import Context

REQUEST_TIMEOUT_S = 5.0
SAY_LIMIT_BYTES = 4 << 20
"""A caller that does not read loses lines, not the daemon its memory."""

READERS_MAX = 8
"""So many members of `status_group` are answered at a time: they must not use up descriptors."""


class Caller:
    """One connected command, and who asks by it."""

    def __init__(self, context: Context, connection: socket.socket, who: Asker) -> None:
        self._context = context
        self.connection = connection
        self.who = who
        self._pending = bytearray()
        self._flushing: Task[None] | None = None
        self.gone = False
        connection.setblocking(False)

    def say(self, line: str) -> None:
        """Show a line to the caller, now or as soon as it reads."""
        if len(self._pending) < SAY_LIMIT_BYTES:
            self._queue({"say": line})

    def still_working(self) -> None:
        """Let the caller know that its request is being worked on."""
        if not self._pending:
            self._queue({"working": True})

    def _queue(self, message: dict[str, Any]) -> None:
        if self.gone:
            return
        self._pending += wire.encode(message)
        if self._flushing is None or self._flushing.done:
            self._send()
            if self._pending and not self.gone:
                self._flushing = self._context.loop.spawn(self._flush())

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

    def hung_up(self) -> bool:
        """Whether nobody is at the other end any more."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def close(self, done: dict[str, Any]) -> None:
        """Send the closing message, wait until it is out, hang up."""
        self._queue({"done": done})
        if self._flushing is not None:
            await self._flushing.wait()
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
    group: Callable[[], int],
    converse: Callable[[socket.socket, Asker], Coroutine[Any, Any, None]],
) -> None:
    """
    Have a conversation with every caller there ever is.

    `group` returns the number of the group whose members may ask what wire.READING lists.
    """
    readers: list[Task[None]] = []
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
        try:
            who = access.asker(context.system, connection, group())
        except WgsvcError as error:
            log(f"refused a command: {error.message}", error=True)
            _refuse(connection, error)
            continue
        if who.reads:
            readers = [reader for reader in readers if not reader.done]
            if len(readers) >= READERS_MAX:
                _refuse(connection, BusyError("too many ask for the status at the same time"))
                continue
        conversation = context.loop.spawn(converse(connection, who))
        if who.reads:
            readers.append(conversation)


def _refuse(connection: socket.socket, error: WgsvcError) -> None:
    """Say why, as far as that can be done at once, and hang up."""
    connection.setblocking(False)
    with contextlib.suppress(OSError):
        connection.send(wire.encode({"done": {"error": error_table(error)}}))
    connection.close()


async def converse(context: Context, connection: socket.socket, who: Asker, answer: Answer) -> None:
    """Read one request, answer it, hang up."""
    caller = Caller(context, connection, who)
    working = context.loop.spawn(_answered(context, caller, answer))
    while not await working.wait(wire.HEARTBEAT_S):
        caller.still_working()
    await caller.close(working.value())


async def _answered(context: Context, caller: Caller, answer: Answer) -> dict[str, Any]:
    """Return the closing answer to whatever is asked; an error too is one."""
    try:
        line = await _read_line(context, caller.connection)
        verb, names, options = wire.decode_request(line)
        _check(caller.who, verb)
        return await answer(verb, names, {} if caller.who.reads else options, caller)
    except WgsvcError as error:
        return {"error": error_table(error)}
    except Exception as error:  # noqa: BLE001 - one bad call must not end the daemon
        failure = unforeseen(error)
        log(failure.message, error=True)
        return {"error": error_table(failure)}


def _check(who: Asker, verb: str) -> None:
    """
    Look whether somebody may ask for a verb; log it if not.

    Raises: NotPermittedError.
    """
    try:
        access.check(who, verb)
    except NotPermittedError as error:
        log(f"refused a command: {error.message} ({who})", error=True)
        raise


async def _read_line(context: Context, connection: socket.socket) -> bytes:
    """
    Return the request.

    Raises: WgsvcError if it is too long, or not whole within REQUEST_TIMEOUT_S.
    """
    data = bytearray()
    deadline = time.monotonic() + REQUEST_TIMEOUT_S
    while not data.endswith(b"\n"):
        if not await context.loop.readable(connection.fileno(), deadline - time.monotonic()):
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
