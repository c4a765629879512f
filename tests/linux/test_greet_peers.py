"""What a greeting sends to whom, that nobody sees it, and that it takes nothing back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.tunnels import Host, eventually, ip, some_public_key
from tests.witnesses import wg
from wgsvc.supervise import greet

pytestmark = pytest.mark.root

AWAY = "198.51.100.9"
SEVERAL = greet.AT_ONCE + 3 * greet.BATCH
INITIATION = b"\x01\0\0\0"


class Far:
    """Where all peers seem to be: it answers nothing, and notes when a handshake is begun."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", 0))  # noqa: S104 - this namespace's
        self.port: int = self._socket.getsockname()[1]
        self.began: list[float] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            packet = self._socket.recv(2000)
            if not packet:
                return
            if packet.startswith(INITIATION):
                self.began.append(time.monotonic())

    def close(self) -> None:
        """End the thread: an empty datagram wakes it."""
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()


@pytest.fixture(name="far")
def _far(own_network: None) -> Iterator[Far]:  # noqa: ARG001 - it is where we are
    far = Far()
    yield far
    far.close()


def peers(far: Far, count: int, *more: str, address: str = "127.0.0.1") -> str:
    """Return sections of peers; `more` are lines of each."""
    return "\n".join(
        line
        for number in range(count)
        for line in (
            "[Peer]",
            f"PublicKey = {some_public_key()}",
            f"AllowedIPs = 10.9.{number >> 8}.{number & 255}/32",
            f"Endpoint = {address}:{far.port}",
            *more,
        )
    )


def keepalives() -> set[str]:
    return {line.split()[1] for line in wg("show", "wg0", "persistent-keepalive").splitlines()}


def test_a_peer_is_greeted_at_once_and_nothing_is_seen_of_it(host: Host, far: Far) -> None:
    host.tunnel(peer=peers(far, 1) + f"\n[Peer]\nPublicKey = {some_public_key()}\n")

    host.ok("start", "wg0")

    eventually(lambda: far.began, within_s=1)
    assert keepalives() == {"off"}
    assert not host.state()["drift"]
    assert "no change" in host.ok("reload", "wg0").said
    assert "no change" in host.ok("save", "wg0").said
    assert len(far.began) == 1


def test_a_setting_turns_it_off(host: Host, far: Far) -> None:
    host.tunnel(peer=peers(far, SEVERAL))
    host.options = ["--set", "greet=off"]

    host.ok("start", "wg0")
    host.kill(host.daemon())
    eventually(lambda: host.state()["state"] == "up" and host.state()["deaths"] == 1)

    ip("route", "get", "10.9.0.0")
    with contextlib.suppress(ConnectionRefusedError), socket.socket(type=socket.SOCK_DGRAM) as one:
        one.sendto(b"to one of them", ("10.9.0.0", 9))
    eventually(lambda: far.began, within_s=1, what="a packet still begins a handshake")
    assert len(far.began) == 1


def test_hundreds_are_greeted_little_by_little(host: Host, far: Far) -> None:
    host.tunnel(peer=peers(far, SEVERAL))
    host.ok("start", "wg0")
    shown = set()

    def all_greeted() -> bool:
        shown.update(keepalives())
        return len(far.began) >= SEVERAL

    eventually(all_greeted)

    assert shown == {"off"}
    assert not host.state()["drift"]
    began = far.began[:SEVERAL]
    bursts = 1 + sum(later - earlier > greet.PAUSE_S / 2 for earlier, later in pairwise(began))
    assert bursts >= 3
    assert began[-1] - began[0] >= 2 * greet.PAUSE_S * 0.9


def test_a_keepalive_that_a_hook_sets_stays(host: Host, far: Far) -> None:
    count = 2 * greet.AT_ONCE
    text = peers(far, count)
    last = text.rpartition("PublicKey = ")[2].split()[0]
    host.tunnel("wg0", f"PostUp = wg set %i peer {last} persistent-keepalive 25", peer=text)

    host.ok("start", "wg0")

    eventually(lambda: len(far.began) == count, within_s=1)
    assert wg("show", "wg0", "persistent-keepalive").count("\t25") == 1
    assert not host.state()["drift"]


def test_without_a_way_it_waits_for_one(host: Host, far: Far) -> None:
    host.tunnel(peer=peers(far, 2, address=AWAY))
    host.ok("start", "wg0")
    assert not host.state()["drift"]
    assert not far.began

    ip("address", "add", f"{AWAY}/32", "dev", "lo")

    eventually(lambda: len(far.began) == 2, within_s=1)
    assert "Failed to send" not in host.log()
    ip("address", "delete", f"{AWAY}/32", "dev", "lo")


def test_a_respawn_greets_again(host: Host, far: Far) -> None:
    host.tunnel(peer=peers(far, 1))
    host.ok("start", "wg0")
    eventually(lambda: far.began, within_s=1)

    host.kill(host.daemon())

    eventually(lambda: len(far.began) == 2, within_s=1)


def test_an_adopted_tunnel_is_asked(host: Host, far: Far) -> None:
    """Its WireGuard is set: what somebody changes of it is seen."""
    text = peers(far, 1)
    host.tunnel(peer=text)
    host.ok("start", "wg0")
    host.kill(host.supervisor())
    host.ok("start", "wg0")
    assert not host.state()["drift"]

    wg("set", "wg0", "peer", text.split()[3], "persistent-keepalive", "9")

    assert host.state()["drift"]
