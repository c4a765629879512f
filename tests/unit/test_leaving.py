"""Nothing is added while a tunnel is being taken down: nobody would take it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from wgsvc.config.model import Peer, Tunnel
from wgsvc.errors import OSFailureError
from wgsvc.loop import Loop
from wgsvc.supervise import device, endpoints, greet, network, resolver
from wgsvc.supervise.live import Live
from wgsvc.uapi.encode import DeviceChange, PeerChange
from wgsvc.uapi.parse import DeviceState, PeerState
from wgsvc.values import Endpoint, Prefix, Route

KEY = bytes(32)
AT = Endpoint("198.51.100.9", 5)
ALL = (Prefix(4, 0, 0),)
HALVES = (Prefix(4, 0, 1), Prefix(4, 1 << 31, 1))
NAMED = Peer(KEY, endpoint=Endpoint("vpn.example.org", 5), allowed_ips=ALL)
PIN = Route(Prefix(4, 0xC6336409, 32), gateway="192.0.2.1", ifindex=2, pin=True)


class World:
    """A system with a default route, a tunnel over it, and a note of all that is changed."""

    default_table = 0
    has_metrics = True
    routes_by_mark = False

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.changes: list[str] = []
        self.configured: list[DeviceChange] = []
        self.asked = 0  # how often wireguard-go was
        self.handshake_s = 0.0  # when its peer had the last one
        self.logged: list[str] = []
        self.loop = Loop()
        self.on_ask: Callable[[], None] = lambda: None
        settings = SimpleNamespace(dns_mode="exclusive", firewall="off", greet="on")
        self.context = cast("Any", SimpleNamespace(loop=self.loop, system=self, settings=settings))
        self.live = Live(Tunnel("wg0", peers=(NAMED,)))
        self.live.ifindex = 7
        self.live.mtu = 1400
        monkeypatch.setattr(self.live, "record", lambda *_any: None)
        monkeypatch.setattr(device, "answers", lambda _live: True)
        monkeypatch.setattr(device, "get", self._get)
        monkeypatch.setattr(device, "configure", self._configure)
        for module in (network, endpoints):
            monkeypatch.setattr(module, "log", self._log)

    def _log(self, message: str, *, error: bool = False) -> None:  # noqa: ARG002 - as log's
        self.logged.append(message)

    def leave(self) -> None:
        """Begin to take the tunnel down, as another task does while this one waits."""
        self.live.leaving = True

    async def _get(self, *_any: object, **_more: object) -> DeviceState:
        self.asked += 1
        self.on_ask()
        peer = PeerState(KEY, None, AT, 0, self.handshake_s, 0, 0, NAMED.allowed_ips)
        self.live.last_seen = DeviceState(None, 1, 0, (peer,))
        return self.live.last_seen

    async def _configure(self, _context: object, _live: object, change: DeviceChange) -> None:
        self.changes.append("configure")
        self.configured.append(change)

    # --- what a System has

    def routes(self, **_more: object) -> list[Route]:
        return [Route(Prefix(4, 0, 0), gateway="192.0.2.1", ifindex=2)]

    def add_routes(self, routes: list[Route]) -> list[Any]:
        self.changes += [f"add {route.prefix}" for route in routes]
        return []

    def delete_routes(self, routes: list[Route]) -> list[Any]:
        self.changes += [f"delete {route.prefix}" for route in routes]
        return []

    def path_mtu(self, *_any: object, **_more: object) -> int:
        return 1500

    def set_mtu(self, _name: str, mtu: int) -> None:
        self.changes.append(f"mtu {mtu}")


@pytest.fixture(name="world")
def _world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(monkeypatch)
    yield world
    world.loop.close()


def test_a_tunnel_that_stays_follows_the_network(world: World) -> None:
    world.loop.run(network.follow(world.context, world.live))

    assert world.changes == ["add 198.51.100.9/32", "mtu 1420"]
    assert world.live.pins == {PIN.prefix: PIN}


def test_no_pin_is_added_while_it_is_taken_down(world: World) -> None:
    """The stop has deleted the pins already when the answer about the endpoints comes."""
    world.on_ask = world.leave

    world.loop.run(network.follow(world.context, world.live))

    assert world.changes == []
    assert world.live.pins == {}


@pytest.mark.parametrize("leaving", [True, False])
def test_what_fails_because_it_leaves_is_no_error(world: World, *, leaving: bool) -> None:
    def fail() -> None:
        world.live.leaving = leaving
        raise OSFailureError("connect", "wg0.sock", 2)

    world.on_ask = fail

    world.loop.run(network.follow(world.context, world.live))

    assert bool(world.logged) is not leaving
    assert world.changes == []


SET = (PeerChange(KEY, update_only=True, endpoint=AT),)
GREETED = (
    PeerChange(KEY, remove=True),
    PeerChange(KEY, endpoint=AT, keepalive_s=0, replace_allowed_ips=True, allowed_ips=ALL),
    *greet.turned(KEY, 0),
)


@pytest.mark.parametrize(("handshake_s", "peers"), [(0.0, GREETED), (1.0, SET)])
def test_an_address_that_is_found_is_set_and_pinned(
    world: World, handshake_s: float, peers: tuple[PeerChange, ...]
) -> None:
    world.handshake_s = handshake_s

    assert world.loop.run(endpoints._apply(world.context, world.live, NAMED, AT.host))

    assert world.changes == ["add 198.51.100.9/32", "configure"]
    assert world.configured == [DeviceChange(peers=peers)]
    assert world.live.resolved == {KEY: AT}


def test_an_address_that_is_found_too_late_is_let_be(world: World) -> None:
    world.on_ask = world.leave

    assert not world.loop.run(endpoints._apply(world.context, world.live, NAMED, AT.host))

    assert world.changes == []
    assert world.live.resolved == {}


@pytest.mark.parametrize("when", ["before", "while it is asked", "never"])
def test_what_waited_for_an_address_comes_in_only_where_it_stays(
    world: World, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Routes and name servers that were held back."""
    done: list[str] = []

    async def perform(_context: object, _live: object, step: object, *_any: object) -> None:
        done.append(type(step).__name__)

    monkeypatch.setattr("wgsvc.supervise.perform.perform", perform)
    world.live.held = frozenset(HALVES)
    world.live.held_dns = True
    world.live.unresolved = {KEY: 1.0}
    if when == "before":
        world.leave()
    elif when == "while it is asked":
        world.on_ask = world.leave

    world.loop.run(endpoints._known(world.context, world.live, NAMED))

    assert done == (["AddRoutes", "SetDns"] if when == "never" else [])
    assert world.changes == (["add 198.51.100.9/32"] if when == "never" else [])
    assert bool(world.asked) is (when != "before")  # it is about to be ended


@pytest.mark.parametrize("when", ["before", "while it is asked", "never"])
def test_name_servers_and_endpoints_are_pinned_only_for_who_stays(world: World, when: str) -> None:
    """A look-up that ends during the stop looks at the pins once more, and no task cancels that."""
    server = Prefix(4, 0xCB007135, 32)
    if when == "before":
        world.leave()
    elif when == "while it is asked":
        world.on_ask = world.leave

    world.loop.run(resolver._let_out(world.context, world.live, frozenset({server})))

    added = ["add 198.51.100.9/32", f"add {server}"]
    assert world.changes == (added if when == "never" else [])
    assert world.live.asked == {server}
    assert bool(world.asked) is (when != "before")
