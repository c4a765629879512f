"""The control socket: who may speak, how much, and how long."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wgsvc.errors import OSFailureError, StepsFailedError, WgsvcError
from wgsvc.loop import CancelledError, Loop
from wgsvc.supervise import control, wire


class Desk:
    """A control socket's one conversation, with an answer of the test's."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.context = cast("Any", SimpleNamespace(loop=self.loop))
        self.theirs, self.ours = socket.socketpair()
        self.theirs.settimeout(5.0)
        self.asked: list[tuple[str, list[str], dict[str, Any]]] = []

    def converse(self, request: bytes, *, close: bool = False, say: int = 0) -> dict[str, Any]:
        """Send a request, have it answered, return the closing answer."""

        async def answer(
            verb: str, names: list[str], options: dict[str, Any], caller: control.Caller
        ) -> dict[str, Any]:
            self.asked.append((verb, names, options))
            for number in range(say):
                caller.say(f"{number}: {'x' * 1000}")
            if names == ["bug"]:
                raise KeyError("a secret")
            return {"results": names}

        self.theirs.sendall(request)
        if close:
            self.theirs.shutdown(socket.SHUT_WR)
        self.loop.run(control.converse(self.context, self.ours, answer))
        data = bytearray()
        while chunk := self.theirs.recv(1 << 20):
            data += chunk
        self.theirs.close()
        self.loop.close()
        done = wire.decode(bytes(data).splitlines()[-1])["done"]
        assert isinstance(done, dict)
        return done


def test_a_request_and_its_answer() -> None:
    desk = Desk()

    assert desk.converse(b'{"verb": "start", "names": ["wg0"]}\n') == {"results": ["wg0"]}
    assert desk.asked == [("start", ["wg0"], {})]


@pytest.mark.parametrize(
    "request_", [b"\n", b"{}\n", b"\xff\n", b'{"verb":"exec"}\n', b"[" * 5000 + b"\n"]
)
def test_nonsense_is_refused_and_never_answered_for(request_: bytes) -> None:
    desk = Desk()

    assert desk.converse(request_)["error"]["exit_code"] == 76
    assert desk.asked == []


def test_half_a_request_and_then_nothing() -> None:
    desk = Desk()

    assert "hung up" in desk.converse(b'{"verb": "start"', close=True)["error"]["message"]
    assert desk.asked == []


def test_silence_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_TIMEOUT_S", 0.05)

    assert "in time" in Desk().converse(b'{"verb"')["error"]["message"]


def test_a_bug_is_told_without_its_text() -> None:
    done = Desk().converse(b'{"verb": "start", "names": ["bug"]}\n')

    assert done["error"]["exit_code"] == 70
    assert "secret" not in str(done)


def test_the_socket_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control.listen(str(path)).close()
    old = os.umask(0)
    try:
        listener = control.listen(str(path))  # the old one is of no use any more
    finally:
        os.umask(old)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listener.close()


def test_an_error_with_its_parts_as_data() -> None:
    table = control.error_table(StepsFailedError([WgsvcError("a", cure="b"), WgsvcError("c")]))

    assert table["exit_code"] == 70
    assert [(one["message"], one["cure"]) for one in table["errors"]] == [("a", "b"), ("c", "")]


# --- who may speak


class Gate:
    """A control socket that is served; `converse` notes whom it let in."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
        self.loop = Loop()
        self.logged: list[tuple[str, bool]] = []
        self.entered = 0
        monkeypatch.setattr(control, "log", self._log)
        monkeypatch.chdir(tmp_path)  # a UNIX socket's path is short
        self.listener = control.listen("control.sock")
        system = SimpleNamespace(peer_uid=lambda _connection: uid)
        self.context = cast("Any", SimpleNamespace(loop=self.loop, system=system))

    def _log(self, message: str, *, error: bool = False) -> None:
        self.logged.append((message, error))

    async def _converse(self, connection: socket.socket) -> None:
        self.entered += 1
        connection.sendall(b"welcome")
        connection.close()

    def visit(self, callers: int = 1) -> list[bytes]:
        """Connect so often, one after the other; return what each was told."""

        async def main() -> list[bytes]:
            server = self.loop.spawn(control.serve(self.context, self.listener, self._converse))
            told = []
            for _ in range(callers):
                caller = socket.socket(socket.AF_UNIX)
                caller.connect("control.sock")
                assert await self.loop.readable(caller.fileno(), 5.0)
                told.append(caller.recv(100))
                caller.close()
            server.cancel()
            with pytest.raises(CancelledError):
                await server
            return told

        try:
            return self.loop.run(main())
        finally:
            self.listener.close()
            self.loop.close()


OURS, ROOTS, ANOTHERS = 4242, 0, 65533


@pytest.mark.parametrize(
    ("uid", "let_in"), [(ROOTS, True), (OURS, True), (ANOTHERS, False), (-1, False)]
)
def test_only_root_and_ourselves_are_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, *, let_in: bool
) -> None:
    """The mode of the socket is one guard, the kernel's word about the caller another."""
    monkeypatch.setattr(os, "geteuid", lambda: OURS)
    gate = Gate(tmp_path, monkeypatch, uid)

    told = gate.visit(2)

    assert told == ([b"welcome"] * 2 if let_in else [b""] * 2)
    assert gate.entered == (2 if let_in else 0)
    assert gate.logged == ([] if let_in else [(f"refused a command of uid {uid}", True)] * 2)


class Listener:
    """A listener whose accept fails first, as it does without descriptors."""

    def __init__(self, listener: socket.socket, errors: list[OSError]) -> None:
        self._listener, self._errors = listener, errors

    def fileno(self) -> int:
        return self._listener.fileno()

    def accept(self) -> Any:
        if self._errors:
            raise self._errors.pop(0)
        return self._listener.accept()

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (BlockingIOError(errno.EAGAIN, "gone"), []),
        (ConnectionAbortedError(errno.ECONNABORTED, "gone"), []),
        (OSError(errno.EMFILE, "Too many open files"), [("accept: Too many open files", True)]),
    ],
)
def test_a_failed_accept_is_not_the_last(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: OSError,
    logged: list[tuple[str, bool]],
) -> None:
    gate = Gate(tmp_path, monkeypatch, ROOTS)
    gate.listener = cast("Any", Listener(gate.listener, [error]))
    slept: list[float] = []
    real = gate.loop.sleep

    async def sleep(duration_s: float) -> None:
        slept.append(duration_s)
        await real(0.0)

    monkeypatch.setattr(gate.loop, "sleep", sleep)

    assert gate.visit() == [b"welcome"]
    assert gate.logged == logged
    # Without a pause the loop would spin for as long as descriptors are short.
    assert slept == ([0.1] if logged else [])


# --- how much


@pytest.mark.parametrize("size", [99, 100, 101])
def test_a_request_has_a_longest_length(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(wire, "REQUEST_LIMIT_BYTES", 100)
    start = b'{"verb": "start", "names": ["'
    request = start + b"x" * (size - len(start) - 4) + b'"]}\n'
    assert len(request) == size
    desk = Desk()

    done = desk.converse(request)

    if size <= 100:
        assert len(desk.asked) == 1
    else:
        assert done["error"]["message"] == "a request that is too long"
        assert desk.asked == []


def test_a_line_without_end_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No newline ever comes: the limit counts before the end of the line."""
    monkeypatch.setattr(wire, "REQUEST_LIMIT_BYTES", 100)

    done = Desk().converse(b"x" * 200)

    assert done["error"]["message"] == "a request that is too long"


def test_a_request_in_two_parts() -> None:
    desk = Desk()
    loop = desk.loop

    async def rest() -> None:
        await loop.sleep(0.0)
        desk.theirs.sendall(b'"start"}\n')

    task = loop.spawn(rest())

    assert desk.converse(b'{"verb": ') == {"results": []}
    assert task.done
    assert desk.asked == [("start", [], {})]


def test_a_bug_is_logged_and_told_with_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, bool]] = []
    monkeypatch.setattr(
        control, "log", lambda message, *, error=False: logged.append((message, error))
    )

    error = Desk().converse(b'{"verb": "start", "names": ["bug"]}\n')["error"]

    assert error["kind"] == "internal"
    assert logged == [(error["message"], True)]


def test_an_error_has_all_its_parts_and_always_the_same_keys() -> None:
    error = OSFailureError("open", "/x", errno.EIO, cure="try")

    assert control.error_table(error) == {
        "kind": "os",
        "message": error.message,
        "cure": "try",
        "exit_code": 71,
        "errors": [],
    }


# --- lines that are said


class Listening:
    """A caller's two ends."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.theirs, ours = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.caller = control.Caller(cast("Any", SimpleNamespace(loop=self.loop)), ours)

    def close(self) -> None:
        self.theirs.close()
        self.caller.connection.close()
        self.loop.close()


@pytest.fixture(name="listening")
def _listening() -> Any:
    listening = Listening()
    yield listening
    listening.close()


def test_a_line_is_out_at_once(listening: Listening) -> None:
    listening.caller.say("hello")

    assert wire.decode(listening.theirs.recv(100)) == {"say": "hello"}
    assert not listening.caller._flushing  # no task is left for what is out


def test_the_supervisor_never_blocks_on_a_caller(listening: Listening) -> None:
    assert not listening.caller.connection.getblocking()


def test_a_slow_caller_gets_every_line_in_order(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    real = listening.loop.sleep

    async def sleep(duration_s: float) -> None:
        slept.append(duration_s)
        await real(0.0)

    monkeypatch.setattr(listening.loop, "sleep", sleep)
    lines = [f"{number}: {'x' * 1000}" for number in range(300)]
    for line in lines:
        listening.caller.say(line)
    got = bytearray()

    async def main() -> None:
        closing = listening.loop.spawn(listening.caller.close({"ok": True}))
        while True:
            assert await listening.loop.readable(listening.theirs.fileno(), 5.0)
            chunk = listening.theirs.recv(1 << 16)
            if not chunk:
                break
            got.extend(chunk)
        await closing

    listening.loop.run(main())

    told = [wire.decode(line) for line in bytes(got).splitlines()]
    assert told == [*({"say": line} for line in lines), {"done": {"ok": True}}]
    assert slept
    assert max(slept) < 0.1  # the answer to a command ends when it has been read


def test_who_does_not_read_loses_lines_and_not_the_end(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "SAY_LIMIT_BYTES", 50_000)
    longest = 0
    for _ in range(300):
        listening.caller.say("x" * 1000)
        longest = max(longest, len(listening.caller._pending))

    assert 40_000 < longest < 52_000


def test_a_line_at_the_limit_is_lost_and_one_below_it_is_not(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = listening.caller
    caller._flushing = True  # as long as somebody does not read
    caller.say("first")
    kept = len(caller._pending)

    monkeypatch.setattr(control, "SAY_LIMIT_BYTES", kept)
    caller.say("lost")
    assert len(caller._pending) == kept
    monkeypatch.setattr(control, "SAY_LIMIT_BYTES", kept + 1)
    caller.say("second")

    assert [wire.decode(line)["say"] for line in bytes(caller._pending).splitlines()] == [
        "first",
        "second",
    ]


def test_who_does_not_read_for_long_is_hung_up_on(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "REQUEST_TIMEOUT_S", 0.02)
    for _ in range(300):
        listening.caller.say("x" * 1000)

    listening.loop.run(listening.caller.close({}))

    assert listening.caller.gone
    assert not listening.caller._flushing
    assert listening.caller.connection.fileno() == -1


def test_nothing_is_kept_for_who_is_gone(listening: Listening) -> None:
    listening.theirs.close()
    listening.caller.say("one")

    assert listening.caller.gone
    assert not listening.caller._flushing
    kept = len(listening.caller._pending)
    listening.caller.say("two")
    assert len(listening.caller._pending) == kept
    listening.loop.run(listening.caller.close({}))


def test_who_goes_in_the_middle_is_given_up(listening: Listening) -> None:
    for _ in range(300):
        listening.caller.say("x" * 1000)
    listening.theirs.close()

    listening.loop.run(listening.caller.close({}))

    assert listening.caller.gone
    assert not listening.caller._flushing


# --- the socket itself


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    before = os.listdir("/dev/fd")
    with pytest.raises(OSFailureError) as failure:
        control.listen(str(tmp_path / "nowhere" / "x"))

    assert (failure.value.call, failure.value.errno) == ("bind", errno.ENOENT)
    assert failure.value.subject == str(tmp_path / "nowhere" / "x")
    assert os.listdir("/dev/fd") == before


def test_a_path_that_no_socket_can_have(tmp_path: Path) -> None:
    """Python's own error has no errno."""
    with pytest.raises(OSFailureError) as failure:
        control.listen(str(tmp_path / ("x" * 150)))

    assert failure.value.errno == 0


def test_the_mask_is_as_before_and_many_can_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = os.umask(0o022)
    try:
        listener = control.listen("control.sock")
        mask = os.umask(0o022)
        with pytest.raises(OSFailureError):
            control.listen("nowhere/control.sock")
        assert (mask, os.umask(0o022)) == (0o022, 0o022)
    finally:
        os.umask(old)
    assert not listener.getblocking()
    waiting = []
    for _ in range(100):
        caller = socket.socket(socket.AF_UNIX)
        caller.setblocking(False)
        waiting.append(caller)
        caller.connect("control.sock")
    for caller in waiting:
        caller.close()
    listener.close()
