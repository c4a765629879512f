"""The control socket: who may speak, how much, and how long."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wgsvc.errors import StepsFailedError, WgsvcError
from wgsvc.loop import Loop
from wgsvc.supervise import control, wire


class Desk:
    """A control socket's one conversation, with an answer of the test's."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.context = cast("Any", SimpleNamespace(loop=self.loop))
        self.theirs, self.ours = socket.socketpair()
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
