"""One request and its answer over a socket: whole, late, cut off, too long."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator

import pytest

from wgsvc.errors import OSFailureError, ProtocolError, TimeoutExpiredError, WgsvcError
from wgsvc.loop import Loop
from wgsvc.uapi import transport

Serve = Callable[[socket.socket], None]
OVER = threading.Event()
"""Whether the asking end has hung up."""


@pytest.fixture(name="path")
def _path() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:  # a UNIX socket's path is short
        yield transport.socket_path(folder, "wg0")


def read_request(connection: socket.socket) -> bytes:
    request = bytearray()
    while not request.endswith(b"\n\n"):
        chunk = connection.recv(1 << 16)
        if not chunk:
            break
        request += chunk
    return bytes(request)


def ask(
    path: str, serve: Serve, request: bytes = transport.GET, *, timeout_s: float = 20.0
) -> bytes:
    """Exchange a request with a server of one connection; whatever it does, nothing stays open."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)

    def accept() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            serve(connection)

    OVER.clear()
    server = threading.Thread(target=accept)
    server.start()
    loop = Loop()
    before = os.listdir("/dev/fd")
    try:
        return loop.run(transport.exchange(loop, path, request, timeout_s=timeout_s))
    finally:
        OVER.set()
        server.join()
        assert len(os.listdir("/dev/fd")) <= len(before)
        loop.close()
        listener.close()


def test_where_the_socket_is() -> None:
    assert transport.socket_path("/var/run/wireguard", "wg0") == "/var/run/wireguard/wg0.sock"


def test_the_request_for_all_is_that_of_the_specification() -> None:
    assert transport.GET == b"get=1\n\n"


def test_a_request_arrives_whole_and_so_does_the_answer(path: str) -> None:
    got: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        got.append(read_request(connection))
        for part in (b"listen_", b"port=7\n", b"errno=0\n", b"\n"):
            connection.sendall(part)

    assert ask(path, serve) == b"listen_port=7\nerrno=0\n\n"
    assert got == [b"get=1\n\n"]


def test_more_than_the_buffers_hold_goes_through_both_ways(path: str) -> None:
    """Thousands of peers: the other end reads and writes in its own time."""
    request = b"set=1\n" + b"x" * (3 << 20) + b"\n\n"
    answer = b"y" * (3 << 20) + b"\nerrno=0\n\n"
    got: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        got.append(read_request(connection))
        connection.sendall(answer)

    assert ask(path, serve, request) == answer
    assert got == [request]


def test_an_answer_is_over_at_its_empty_line_though_nobody_hangs_up(path: str) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"errno=0\n\n")
        until_hung_up(connection)

    assert ask(path, serve) == b"errno=0\n\n"


def until_hung_up(_connection: socket.socket) -> None:
    """Neither read nor answer, as a stopped wireguard-go, until the other end has given up."""
    OVER.wait(20)


@pytest.mark.timeout(15)
@pytest.mark.parametrize("request_", [transport.GET, b"x" * (4 << 20)], ids=["answer", "request"])
def test_who_does_not_answer_or_does_not_read_is_waited_for_so_long(
    path: str, request_: bytes
) -> None:
    with pytest.raises(TimeoutExpiredError, match="no answer in time") as failure:
        ask(path, until_hung_up, request_, timeout_s=0.05)

    assert failure.value.cure == "wireguard-go may be stopped or hung"
    assert failure.value.message.startswith(path)


def test_half_an_answer_is_none(path: str) -> None:
    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"listen_port=7\n")

    with pytest.raises(ProtocolError, match="hung up in the middle") as failure:
        ask(path, serve)

    assert failure.value.message.startswith(path)


@pytest.mark.parametrize("size", [99, 100, 101])
def test_an_answer_has_a_longest_length(
    path: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "ANSWER_LIMIT_BYTES", 100)
    answer = b"x" * (size - 2) + b"\n\n"

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(answer)

    if size <= 100:
        assert ask(path, serve) == answer
    else:
        with pytest.raises(ProtocolError, match="more than 100 bytes"):
            ask(path, serve)


def test_the_longest_answer_is_room_for_every_peer() -> None:
    """65 536 peers, wireguard-go's own limit, with two prefixes each; and no endless one."""
    assert 20_000_000 < transport.ANSWER_LIMIT_BYTES <= 64 << 20


class Broken(socket.socket):
    """A connection whose calls fail as a test says."""

    fails: tuple[str, int] = ("", 0)

    def _error(self) -> OSError:
        number = self.fails[1]
        return OSError(number, os.strerror(number)) if number else OSError("no errno")

    def send(self, *arguments: object) -> int:
        if self.fails[0] == "send":
            raise self._error()
        return super().send(*arguments)  # type: ignore[arg-type]

    def recv(self, *arguments: object) -> bytes:
        if self.fails[0] == "recv":
            raise self._error()
        return super().recv(*arguments)  # type: ignore[arg-type]


def broken(
    path: str, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> WgsvcError | bytes:
    """Exchange over a connection one call of which fails; return the answer or the error."""
    monkeypatch.setattr(Broken, "fails", (call, number))

    def connect(where: str) -> socket.socket:
        connection = Broken(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(where)
        connection.setblocking(False)
        return connection

    monkeypatch.setattr(transport, "connect", connect)

    def serve(connection: socket.socket) -> None:
        connection.sendall(b"errno=-98\n\n")

    try:
        return ask(path, serve)
    except WgsvcError as error:
        return error


@pytest.mark.parametrize("number", [errno.EPIPE, errno.ECONNRESET])
def test_who_hangs_up_while_we_send_has_said_why(
    path: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert broken(path, monkeypatch, "send", number) == b"errno=-98\n\n"


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("send", errno.ENOBUFS),
        ("send", 0),
        ("recv", errno.ECONNRESET),
        ("recv", errno.EIO),
        ("recv", 0),
    ],
)
def test_any_other_failure_is_said_with_its_errno(
    path: str, call: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = broken(path, monkeypatch, call, number)

    assert isinstance(failure, OSFailureError)
    assert (failure.call, failure.subject, failure.errno) == (call, path, number)


def test_no_socket_and_one_that_nobody_listens_on(path: str) -> None:
    with pytest.raises(OSFailureError) as absent:
        transport.connect(path)
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(path)
    stale.close()
    before = os.listdir("/dev/fd")
    with pytest.raises(OSFailureError) as refused:
        transport.connect(path)

    assert os.listdir("/dev/fd") == before
    assert (absent.value.call, absent.value.subject) == ("connect", path)
    assert [absent.value.errno, refused.value.errno] == [errno.ENOENT, errno.ECONNREFUSED]


def test_a_path_that_no_socket_can_have(path: str) -> None:
    """Python's own error has no errno."""
    with pytest.raises(OSFailureError) as failure:
        transport.connect(path + "x" * 200)

    assert failure.value.errno == 0


def test_a_connection_never_blocks(path: str) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(1)

    connection = transport.connect(path)

    assert not connection.getblocking()
    connection.close()
    listener.close()
