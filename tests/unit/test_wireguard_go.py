"""Who answers on a wireguard-go's socket: the one that was just started, or nobody is believed."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wgsvc.errors import BusyError, TimeoutExpiredError, UnavailableError
from wgsvc.loop import Loop
from wgsvc.supervise import wireguard_go
from wgsvc.supervise.wireguard_go import Daemon, describe_exit

OURS = 4711


class Place:
    """A folder of sockets, and a wireguard-go that was just started, PID 4711."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.loop = Loop()
        self.owner = OURS
        self.reaps = 0
        self.exited = self.loop.future()
        self.child = cast("Any", SimpleNamespace(exited=self.exited))
        self.daemon = Daemon(OURS, "start", self.exited, child=self.child)
        self.context = cast(
            "Any",
            SimpleNamespace(
                loop=self.loop,
                settings=SimpleNamespace(
                    uapi_dir=folder, ready_timeout_s=0.1, wireguard_go="wireguard-go"
                ),
                children=SimpleNamespace(become_reaper=self._reap),
                system=SimpleNamespace(peer_pid=lambda _connection: self.owner),
            ),
        )

    def _reap(self) -> None:
        self.reaps += 1

    def ready(self) -> None:
        """Wait until it answers on wg0's socket."""
        self.loop.run(wireguard_go._ready(self.context, self.daemon, self.child, "wg0"))

    def serve(self, connections: int) -> tuple[threading.Thread, list[bytes]]:
        """Answer as wireguard-go does; note what was asked."""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.join(self.folder, "wg0.sock"))
        listener.listen(5)
        asked: list[bytes] = []

        def answer() -> None:
            with listener:
                for _ in range(connections):
                    connection, _address = listener.accept()
                    with connection:
                        request = connection.recv(100)
                        if request:
                            asked.append(request)
                            connection.sendall(b"errno=0\n\n")

        server = threading.Thread(target=answer)
        server.start()
        return server, asked


@pytest.fixture(name="place")
def _place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:  # a UNIX socket's path is short
        place = Place(folder)
        yield place
        place.loop.close()


def test_it_is_ready_when_it_answers_itself(place: Place) -> None:
    server, asked = place.serve(2)

    place.ready()
    server.join()

    assert asked == [b"get=1\n\n"]
    assert place.reaps == 1


@pytest.mark.parametrize("owner", [OURS + 1, 0, 1])
def test_a_socket_of_another_process_is_never_taken_for_ours(place: Place, owner: int) -> None:
    """Its answer would be about another tunnel, and the keys would go to whoever listens."""
    place.owner = owner
    server, asked = place.serve(1)

    with pytest.raises(BusyError, match=f"is served by PID {owner}, not by the wireguard-go just"):
        place.ready()
    server.join()

    assert asked == []


def test_one_that_ends_instead_is_said_with_its_last_words(place: Place) -> None:
    place.daemon.last_words.append("no such device")
    place.exited.set(1 << 8)

    with pytest.raises(UnavailableError) as failure:
        place.ready()

    assert failure.value.message == (
        "wireguard-go exited with 1 instead of serving wg0; it said: no such device"
    )
    assert failure.value.cure == "try by hand: LOG_LEVEL=verbose wireguard-go -f wg0"


def test_one_that_never_listens_is_waited_for_so_long(place: Place) -> None:
    with pytest.raises(
        TimeoutExpiredError, match=r"\(PID 4711\) does not listen on .* after 0.1 s"
    ):
        place.ready()


@pytest.mark.parametrize(
    ("status", "said"),
    [(-1, "ended"), (0, "exited with 0"), (3 << 8, "exited with 3"), (9, "was killed by SIGKILL")],
)
def test_an_exit_in_words(status: int, said: str) -> None:
    assert describe_exit(status) == said
