"""The control socket: who may speak, how much, and how long."""

from __future__ import annotations

import contextlib
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

from wgsvc.errors import StepsFailedError, WgsvcError
from wgsvc.loop import Future, Loop
from wgsvc.supervise import control, wire
from wgsvc.supervise.access import Asker

ROOT, READER = Asker(0, 42), Asker(1001, 43, reads=True)


class Desk:
    """A control socket's one conversation, with an answer of the test's."""

    def __init__(self, who: Asker = ROOT) -> None:
        self.who = who
        self.loop = Loop()
        self.context = cast("Any", SimpleNamespace(loop=self.loop))
        self.theirs, self.ours = socket.socketpair()
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
