"""The control socket: who may speak, how much, and how long."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wgsvc.errors import OSFailureError, StepsFailedError, WgsvcError
from wgsvc.loop import CancelledError, Future, Loop
from wgsvc.supervise import access, control, wire
from wgsvc.supervise.access import Asker

ROOT, READER = Asker(0, 42), Asker(1001, 43, reads=True)


class Desk:
    """A control socket's one conversation, with an answer of the test's."""

    def __init__(self, who: Asker = ROOT) -> None:
        self.who = who
        self.loop = Loop()
        self.context = cast("Any", SimpleNamespace(loop=self.loop))
        self.theirs, self.ours = socket.socketpair()
        self.theirs.settimeout(5.0)
        self.asked: list[tuple[str, list[str], dict[str, Any]]] = []
        self.heard: list[dict[str, Any]] = []

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
            if names == ["slow"]:
                await self.loop.sleep(0.2)
            return {"results": [name[:10] for name in names]}

        if request:  # none comes from here, and a full socket would take not even that
            self.theirs.sendall(request)
        if close:
            self.theirs.shutdown(socket.SHUT_WR)
        self.loop.run(control.converse(self.context, self.ours, self.who, answer))
        data = bytearray()
        while chunk := self.theirs.recv(1 << 20):
            data += chunk
        self.theirs.close()
        self.loop.close()
        self.heard = [wire.decode(line) for line in bytes(data).splitlines()]
        done = self.heard[-1]["done"]
        assert isinstance(done, dict)
        return done

    def converse_in_thread(self, request: bytes) -> dict[str, Any]:
        """Have a request answered that no socket takes whole before it is read."""
        rest = threading.Thread(target=self._send, args=(request,))
        rest.start()
        try:
            return self.converse(b"")
        finally:
            rest.join()

    def _send(self, request: bytes) -> None:
        with contextlib.suppress(OSError):
            self.theirs.sendall(request)


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


@pytest.mark.parametrize("verb", wire.VERBS)
def test_a_reader_may_ask_for_what_changes_nothing(verb: str) -> None:
    desk = Desk(READER)
    request = {"verb": verb, "names": ["wg0"], "options": {"set": ["wireguard_go=/tmp/mine"]}}

    done = desk.converse(json.dumps(request).encode() + b"\n")

    if verb in wire.READING:
        assert desk.asked == [(verb, ["wg0"], {})]  # no settings of a stranger's
    else:
        assert desk.asked == []
        assert done["error"]["exit_code"] == 77
        assert done["error"]["cure"] == "run as root"


def test_half_a_request_and_then_nothing() -> None:
    desk = Desk()

    assert "hung up" in desk.converse(b'{"verb": "start"', close=True)["error"]["message"]
    assert desk.asked == []


def test_silence_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_TIMEOUT_S", 0.05)

    assert "in time" in Desk().converse(b'{"verb"')["error"]["message"]


def test_a_request_that_comes_by_drops_is_cut_short_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_TIMEOUT_S", 0.3)
    desk = Desk()
    over = threading.Event()

    def drip() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(0.05):
                desk.theirs.send(b" ")

    dripping = threading.Thread(target=drip)
    dripping.start()
    began = time.monotonic()
    try:
        assert "in time" in desk.converse(b"{")["error"]["message"]
    finally:
        over.set()
        dripping.join()
    assert time.monotonic() - began < 3


def test_a_request_of_more_than_its_limit_is_refused() -> None:
    desk = Desk()
    head, tail = b'{"verb": "start", "names": ["', b'"]}\n'
    room = wire.REQUEST_LIMIT_BYTES - len(head) - len(tail)

    done = desk.converse_in_thread(head + b"x" * (room + 1) + tail)

    assert "too long" in done["error"]["message"]
    assert desk.asked == []
    assert "error" not in Desk().converse_in_thread(head + b"x" * room + tail)


def test_as_long_as_it_works_the_caller_hears_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "HEARTBEAT_S", 0.02)
    desk = Desk()

    assert desk.converse(b'{"verb": "start", "names": ["slow"]}\n') == {"results": ["slow"]}
    assert desk.heard.count({"working": True}) >= 3


def test_a_caller_that_does_not_read_is_not_told_of_it_again_and_again() -> None:
    desk = Desk()
    caller = control.Caller(desk.context, desk.ours, ROOT)
    desk.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    caller.say("x" * 100_000)
    before = len(caller._pending)

    for _ in range(100):
        caller.still_working()

    assert before == len(caller._pending) > 0
    desk.ours.close()
    desk.theirs.close()
    desk.loop.close()


class Door:
    """A listening control socket, of a supervisor whose system says who is at the other end."""

    def __init__(
        self, path: Path, *, uid: int, groups: tuple[int, ...] = (), group: int = -1
    ) -> None:
        self.loop = Loop()
        self.let_in: list[Asker] = []
        self._inside: list[socket.socket] = []
        self._seen: Future[None] = self.loop.future()
        system = SimpleNamespace(
            peer_uid=lambda _: uid, peer_pid=lambda _: 42, peer_groups=lambda _: groups
        )
        context = cast("Any", SimpleNamespace(loop=self.loop, system=system))
        self._listener = control.listen(str(path))

        async def converse(connection: socket.socket, who: Asker) -> None:
            self.let_in.append(who)
            self._inside.append(connection)
            self._seen.set(None)
            await self.loop.sleep(3600)

        self.loop.spawn(control.serve(context, self._listener, lambda: group, converse))
        self.path = path

    def knock(self) -> bytes:
        """Connect; return what is said at once, b"" if one is let in and nothing is."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(self.path))
            self._seen = self.loop.future()
            hearing = self.loop.spawn(self._hear(caller))
            self.loop.run(hearing.wait(5.0))
            caller.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                return caller.recv(1 << 16)
            return b""

    async def _hear(self, caller: socket.socket) -> None:
        seen = self._seen
        while not seen.done:
            if await self.loop.readable(caller.fileno(), 0.01):
                seen.set(None)

    def close(self) -> None:
        for connection in self._inside:
            connection.close()
        self._listener.close()
        self.loop.close()


@pytest.fixture(name="door")
def _door(tmp_path: Path) -> Iterator[Callable[..., Door]]:
    made: list[Door] = []

    def make(**how: Any) -> Door:
        made.append(Door(tmp_path / "control.sock", **how))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("uid", [0, os.geteuid()])
def test_root_and_our_own_user_are_let_in(door: Callable[..., Door], uid: int) -> None:
    found = door(uid=uid)

    assert found.knock() == b""
    assert found.let_in == [Asker(uid, 42)]


NOBODY = 4711


@pytest.mark.parametrize(
    "how", [{}, {"groups": (7,)}, {"groups": (7,), "group": 8}, {"group": 8}], ids=str
)
def test_anybody_else_is_told_so_and_not_heard(door: Callable[..., Door], how: Any) -> None:
    found = door(uid=NOBODY, **how)

    error = wire.decode(found.knock().strip())["done"]["error"]

    assert (error["exit_code"], error["cure"]) == (77, "run as root")
    assert found.let_in == []


def test_a_member_of_the_group_is_let_in_to_read(door: Callable[..., Door]) -> None:
    found = door(uid=NOBODY, groups=(7, 8), group=8)

    assert found.knock() == b""
    assert found.let_in == [Asker(NOBODY, 42, reads=True)]


def test_readers_are_few_at_a_time_and_root_comes_in_nevertheless(
    door: Callable[..., Door],
) -> None:
    found = door(uid=NOBODY, groups=(8,), group=8)
    for _ in range(control.READERS_MAX):
        assert found.knock() == b""

    error = wire.decode(found.knock().strip())["done"]["error"]

    assert error["exit_code"] == 75
    assert len(found.let_in) == control.READERS_MAX
    found.close()
    root = door(uid=0)
    for _ in range(control.READERS_MAX + 1):
        assert root.knock() == b""


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
        system = SimpleNamespace(peer_uid=lambda _connection: uid, peer_pid=lambda _connection: 43)
        self.context = cast("Any", SimpleNamespace(loop=self.loop, system=system))

    def _log(self, message: str, *, error: bool = False) -> None:
        self.logged.append((message, error))

    async def _converse(self, connection: socket.socket, _who: Asker) -> None:
        self.entered += 1
        connection.sendall(b"welcome")
        connection.close()

    def visit(self, callers: int = 1) -> list[bytes]:
        """Connect so often, one after the other; return what each was told."""

        async def main() -> list[bytes]:
            serving = control.serve(
                self.context, self.listener, lambda: access.NO_GROUP, self._converse
            )
            server = self.loop.spawn(serving)
            told = []
            for _ in range(callers):
                caller = socket.socket(socket.AF_UNIX)
                caller.connect("control.sock")
                assert await self.loop.readable(caller.fileno(), 5.0)
                told.append(caller.recv(1000))
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

    assert [answer == b"welcome" for answer in told] == [let_in] * 2
    assert all(let_in or b"root alone" in answer for answer in told)
    assert gate.entered == (2 if let_in else 0)
    assert [f"uid {uid}" in line for line, _ in gate.logged] == [True] * (0 if let_in else 2)


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
        self.caller = control.Caller(cast("Any", SimpleNamespace(loop=self.loop)), ours, ROOT)

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
    assert listening.caller._flushing is None  # no task is made for what is out


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
    flushing = listening.caller._flushing
    assert flushing is not None
    assert listening.caller._pending
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
    assert slept == []  # it goes on as soon as there is room: nobody looks now and then
    assert listening.caller._flushing is flushing  # one task, so that they stay in order
    assert flushing.done
    assert not listening.caller._pending
    assert not listening.caller.gone


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
    caller._flushing = listening.loop.spawn(listening.loop.sleep(60.0))  # somebody does not read
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
    assert listening.caller._flushing is not None
    assert listening.caller._flushing.done
    assert listening.caller.connection.fileno() == -1


def test_nothing_is_kept_for_who_is_gone(listening: Listening) -> None:
    listening.theirs.close()
    listening.caller.say("one")

    assert listening.caller.gone
    assert listening.caller._flushing is None
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
    assert listening.caller._flushing is not None
    assert listening.caller._flushing.done
    assert listening.caller.connection.fileno() == -1


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
