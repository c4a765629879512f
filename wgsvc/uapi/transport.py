"""
One request and its answer over wireguard-go's socket.

One operation a connection: after an error wireguard-go reads the rest of a request as
new operations (device/uapi.go), so a connection that saw one is of no further use.
"""

from __future__ import annotations

import errno
import os
import socket
import time

from wgsvc.errors import OSFailureError, ProtocolError, TimeoutExpiredError
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.loop import Loop

GET = b"get=1\n\n"
"""The request for everything a device knows."""

ANSWER_LIMIT_BYTES = 64 << 20  # 65 536 peers, wireguard-go's own limit, take about 20 MB


def socket_path(uapi_dir: str, name: str) -> str:
    """Return where wireguard-go listens for interface `name`."""
    return os.path.join(uapi_dir, f"{name}.sock")


def connect(path: str) -> socket.socket:
    """
    Connect, non-blocking.

    Raises: OSFailureError (`connect`; ENOENT: no socket, ECONNREFUSED: a stale one).
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise OSFailureError("connect", path, error.errno or 0) from None
    return connection


async def exchange(loop: Loop, path: str, request: bytes, *, timeout_s: float) -> bytes:
    """
    Send one request, return the answer without its closing empty line.

    Raises: OSFailureError, TimeoutExpiredError, ProtocolError if the other end hangs up
    before the answer is whole.
    """
    deadline = time.monotonic() + timeout_s
    connection = connect(path)
    try:
        await _send(loop, connection, request, deadline, path)
        return await _receive(loop, connection, deadline, path)
    finally:
        connection.close()


async def _send(
    loop: Loop, connection: socket.socket, request: bytes, deadline: float, path: str
) -> None:
    rest = memoryview(request)
    while rest:
        try:
            rest = rest[connection.send(rest) :]
        except BlockingIOError:
            if not await loop.writable(connection.fileno(), deadline - time.monotonic()):
                raise _late(path) from None
        except OSError as error:
            # It answers and hangs up while we still send: the answer says why.
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                return
            raise OSFailureError("send", path, error.errno or 0) from None


async def _receive(loop: Loop, connection: socket.socket, deadline: float, path: str) -> bytes:
    answer = bytearray()
    while not answer.endswith(b"\n\n"):
        try:
            chunk = connection.recv(1 << 18)
        except BlockingIOError:
            if not await loop.readable(connection.fileno(), deadline - time.monotonic()):
                raise _late(path) from None
            continue
        except OSError as error:
            raise OSFailureError("recv", path, error.errno or 0) from None
        if not chunk:
            raise ProtocolError(f"{path}: hung up in the middle of its answer")
        answer += chunk
        if len(answer) > ANSWER_LIMIT_BYTES:
            raise ProtocolError(f"{path}: an answer of more than {ANSWER_LIMIT_BYTES} bytes")
    return bytes(answer)


def _late(path: str) -> TimeoutExpiredError:
    return TimeoutExpiredError(
        f"{path}: no answer in time", cure="wireguard-go may be stopped or hung"
    )
