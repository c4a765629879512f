"""The command's end of the control socket: it waits for nobody for ever, and says for whom."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wgsvc.errors import NotPermittedError, ProtocolError, TimeoutExpiredError
from wgsvc.settings import Settings
from wgsvc.supervise import client, wire

Server = Callable[[socket.socket], None]


@pytest.fixture(name="settings")
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(wire, "SILENCE_S", 0.3)
    return Settings(run_dir=str(tmp_path), step_timeout_s=0.1)


@contextlib.contextmanager
def listening(settings: Settings, backlog: int = 8) -> Iterator[socket.socket]:
    """Have a control socket that nobody answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(client.control_path(settings.run_dir))
        listener.listen(backlog)
        yield listener


@contextlib.contextmanager
def answering(settings: Settings, serve: Server) -> Iterator[None]:
    """Have one caller answered by a thread of its own."""

    def run() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            serve(connection)

    with listening(settings) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join()


def ask(settings: Settings, said: list[str] | None = None) -> object:
    """Ask for the status."""
    connection = client.call(settings)
    assert connection is not None
    lines = [] if said is None else said
    return client.ask(settings, connection, "status", [], say=lines.append)


def test_nobody_is_there_where_there_is_no_socket_or_a_dead_one(settings: Settings) -> None:
    assert client.call(settings) is None
    with listening(settings):
        pass
    assert client.call(settings) is None


@pytest.mark.parametrize("what", ["file", "loop"])
def test_anything_else_does_not_mean_that_nobody_is_there(tmp_path: Path, what: str) -> None:
    path = tmp_path / "run"
    if what == "file":
        path.touch()
    else:
        path.symlink_to(path)
    settings = Settings(run_dir=str(path))

    for try_it in (lambda: client.call(settings), lambda: client.journaled(str(path))):
        with pytest.raises(NotPermittedError) as caught:
            try_it()
        assert caught.value.exit_code == 77
        assert str(path) in caught.value.message


def test_a_name_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotPermittedError, match="too long"):
        client.call(Settings(run_dir=str(tmp_path / ("x" * 120))))


def test_that_nobody_is_there_is_not_known_if_another_place_may_be_in_use(
    settings: Settings,
) -> None:
    with pytest.raises(NotPermittedError, match=r"wgsvc\.toml") as caught:
        client.call(settings._replace(unread="/etc/wireguard/wgsvc.toml"))
    assert "--run-dir" in caught.value.cure


def test_one_that_says_nothing_is_named(settings: Settings) -> None:
    began = time.monotonic()
    with listening(settings), pytest.raises(TimeoutExpiredError) as caught:
        ask(settings)

    assert time.monotonic() - began < 3
    assert caught.value.exit_code == 75
    assert "does not answer" in caught.value.message
    assert f"(PID {os.getpid()})" not in caught.value.message  # that is who asks


def test_its_pid_is_the_one_that_it_has_noted(settings: Settings) -> None:
    Path(settings.run_dir, "wgsvc.pid").write_text("4242\n")
    with listening(settings), pytest.raises(TimeoutExpiredError) as caught:
        ask(settings)

    assert "supervisor (PID 4242) does not answer" in caught.value.message
    assert "kill -CONT 4242" in caught.value.cure


def test_one_that_lets_nobody_in_any_more_is_given_up(settings: Settings) -> None:
    with listening(settings, backlog=0), contextlib.ExitStack() as callers:

        def crowd() -> None:
            for _ in range(100):
                caller = client.call(settings)
                assert caller is not None
                callers.callback(caller.close)

        with pytest.raises(TimeoutExpiredError, match="does not answer"):
            crowd()


def test_a_request_that_nobody_reads_is_given_up(settings: Settings) -> None:
    with listening(settings):
        connection = client.call(settings)
        assert connection is not None
        with pytest.raises(TimeoutExpiredError, match="does not answer"):
            client.ask(settings, connection, "start", ["x" * (8 << 20)])


def test_the_bound_follows_the_settings(settings: Settings) -> None:
    assert client.silence_s(settings) == 0.3
    assert client.silence_s(settings._replace(step_timeout_s=60.0)) == 60.0


def test_as_long_as_it_works_it_is_waited_for(settings: Settings) -> None:
    def slow(connection: socket.socket) -> None:
        for _ in range(10):
            connection.sendall(wire.encode({"working": True}))
            time.sleep(0.1)  # what takes so long
        connection.sendall(wire.encode({"say": "now"}) + wire.encode({"done": {"a": 1}}))

    said: list[str] = []
    with answering(settings, slow):
        assert ask(settings, said) == {"a": 1}
    assert said == ["now"]


def test_one_that_stops_amid_the_work_is_given_up(settings: Settings) -> None:
    over = threading.Event()

    def stops(connection: socket.socket) -> None:
        connection.sendall(wire.encode({"say": "half"})[:-5])
        over.wait(10)

    with answering(settings, stops):
        with pytest.raises(TimeoutExpiredError):
            ask(settings)
        over.set()


@pytest.mark.parametrize("message", [{"say": "x"}, {"working": True}])
def test_a_hang_up_counts_once_it_has_begun(settings: Settings, message: dict[str, object]) -> None:
    with answering(settings, lambda _: None):
        assert ask(settings) is None
    os.unlink(client.control_path(settings.run_dir))

    def begins(connection: socket.socket) -> None:
        connection.sendall(wire.encode(message))
        connection.recv(1 << 16)

    with answering(settings, begins), pytest.raises(ProtocolError, match="in the middle"):
        ask(settings)
