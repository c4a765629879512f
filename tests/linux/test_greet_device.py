"""Greeting with a real wireguard-go, by UAPI and by wg(8), with the bounds of thousands."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.linux.test_system_tun import PROGRAMS, wireguard_go
from tests.linux.test_wg_text import _context
from tests.tunnels import ip
from tests.witnesses import wg
from wgsvc.config.model import Peer, Tunnel
from wgsvc.supervise import device, greet
from wgsvc.supervise.live import Live
from wgsvc.supervise.wireguard_go import Daemon
from wgsvc.system.linux.system import Linux
from wgsvc.uapi.encode import DeviceChange, PeerChange
from wgsvc.values import Endpoint, SecretKey

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context

__all__ = ["_context"]

pytestmark = pytest.mark.root

NAME = "wggrt0"
SECRET = SecretKey(b"\x08" + b"\x77" * 30 + b"\x47")
INITIATION = b"\x01\0\0\0"


class Site(NamedTuple):
    """A tunnel whose WireGuard is empty, and a socket where all its peers are."""

    context: Context
    live: Live
    far: socket.socket

    def fill(self, count: int, keepalive_s: int | None = None) -> None:
        at = Endpoint("127.0.0.1", self.far.getsockname()[1])
        self.live.tunnel = Tunnel(
            NAME,
            private_key=SECRET,
            peers=tuple(
                Peer(bytes([number >> 8, number & 255]) * 16, endpoint=at, keepalive_s=keepalive_s)
                for number in range(1, count + 1)
            ),
        )
        self.context.loop.run(greet.fill(self.context, self.live, self.live.tunnel))

    def begun(self) -> int:
        """Return with how many peers a handshake was begun since the last call."""
        count = 0
        while True:
            try:
                packet = self.far.recv(2000)
            except BlockingIOError:
                return count
            count += packet.startswith(INITIATION)

    def wait(self, seconds: float) -> None:
        self.context.loop.run(self.context.loop.sleep(seconds))


@pytest.fixture(name="site", params=["wireguard-go", "kernel"])
def _site(context: Context, request: pytest.FixtureRequest) -> Iterator[Site]:
    """Have the same device for both back ends: wg(8) speaks to wireguard-go as it does to if_wg."""
    system = Linux()
    context.system = system
    live = Live(Tunnel(NAME), request.param)
    tun = system.create_tun(NAME)
    try:
        with wireguard_go(PROGRAMS[0], tun) as child, socket.socket(type=socket.SOCK_DGRAM) as far:
            far.setblocking(False)
            far.bind(("127.0.0.1", 0))
            live.ifindex, live.daemon = tun.ifindex, Daemon(child.pid, "", context.loop.future())
            ip("link", "set", NAME, "up")
            context.loop.run(bound(context, live))
            yield Site(context, live, far)
    finally:
        os.close(tun.fd)


async def bound(context: Context, live: Live) -> None:
    while not (await device.get(context, live)).listen_port:
        await context.loop.sleep(0.01)


def shown() -> set[str]:
    return {line.split()[1] for line in wg("show", NAME, "persistent-keepalive").splitlines()}


def test_a_handshake_is_begun_and_all_is_as_it_was(site: Site) -> None:
    site.fill(3)

    assert site.begun() == 3
    assert shown() == {"off"}


def test_peers_with_a_keepalive_are_left_to_it(site: Site) -> None:
    site.fill(greet.AT_ONCE + 1, keepalive_s=77)

    assert site.begun() == greet.AT_ONCE + 1
    assert not site.live.greeted
    assert not site.live.ungreeted


def test_no_more_are_tried_while_too_many_are_silent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = greet.AT_ONCE + 20
    for name, value in {
        "BATCH": 10,
        "PAUSE_S": 0.01,
        "SILENT_S": 0.01,
        "UNANSWERED": limit,
    }.items():
        monkeypatch.setattr(greet, name, value)
    site.fill(100)
    greet.go_on(site.context, site.live)
    site.wait(0.5)
    assert site.begun() == limit

    monkeypatch.setattr(greet, "TRIES_S", 0.0)  # WireGuard has given those up
    assert site.live.greeting is not None
    assert site.context.loop.run(site.live.greeting.wait(5))
    assert site.begun() == 100 - limit
    assert shown() == {"off"}


def test_a_peer_that_was_removed_does_not_come_back(site: Site) -> None:
    site.fill(greet.AT_ONCE + 1)
    gone = site.live.ungreeted
    changes = tuple(PeerChange(key, remove=True) for key in gone)
    site.context.loop.run(device.configure(site.context, site.live, DeviceChange(peers=changes)))

    greet.go_on(site.context, site.live)
    assert site.live.greeting is not None
    assert site.context.loop.run(site.live.greeting.wait(5))

    assert len(wg("show", NAME, "peers").splitlines()) == greet.AT_ONCE


def test_an_address_that_comes_late_is_tried_at_once(site: Site) -> None:
    site.fill(1)
    assert site.begun() == 1
    (peer,) = site.live.tunnel.peers
    site.context.loop.run(device.get(site.context, site.live))
    assert peer.endpoint is not None
    changes = greet.new_address(site.context, site.live, peer.public_key, peer.endpoint)
    before = wg("showconf", NAME)

    site.context.loop.run(device.configure(site.context, site.live, DeviceChange(peers=changes)))

    assert site.begun() == 1  # though the last attempt was just before
    assert wg("showconf", NAME) == before


def test_where_peers_are_is_looked_at_now_and_then(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where a file does not tell it, and where WireGuard is a process that can crash."""
    monkeypatch.setattr(greet, "LOOK_S", 0.01)
    site.fill(1)
    task = site.context.loop.spawn(greet.watch(site.context, site.live))
    site.wait(0.1)
    assert task.done
    (peer,) = site.live.tunnel.peers
    site.live.tunnel = site.live.tunnel._replace(peers=(peer._replace(endpoint=None),))
    site.live.last_seen = None

    task = site.context.loop.spawn(greet.watch(site.context, site.live))
    deadline = time.monotonic() + 0.5
    while site.live.last_seen is None and time.monotonic() < deadline:
        site.wait(0.01)

    assert (site.live.last_seen is not None) == (site.live.backend == "wireguard-go")
    task.cancel()
