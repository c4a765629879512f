"""What every system promises of routes."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import prefix
from wgsvc.system.base import DefaultRoute, RouteFailure
from wgsvc.values import Prefix, Route

if TYPE_CHECKING:
    from tests.contract.world import World
    from wgsvc.system.base import System, Tun

PREFIXES = [
    "198.19.3.0/24",
    "198.19.4.7/32",
    "2001:db8:c3::/48",
    "2001:db8:c4::7/128",
]
HALVES = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]


def prefixes(system: System, ifindex: int) -> set[str]:
    return {str(route.prefix) for route in system.routes(ifindex=ifindex)}


def straight(tun: Tun, *texts: str) -> list[Route]:
    return [Route(prefix(text), tun.ifindex) for text in texts]


def seen(system: System, text: str) -> list[Route]:
    """Return the routes of the default table for exactly this prefix."""
    wanted = prefix(text)
    return [there for there in system.routes(table=system.default_table) if there.prefix == wanted]


@pytest.mark.parametrize("text", PREFIXES)
def test_a_route_is_there_then_gone(system: System, tunnel: Tun, text: str) -> None:
    routes = straight(tunnel, text)
    assert system.add_routes(routes) == []
    assert seen(system, text) == [Route(prefix(text), tunnel.ifindex, table=system.default_table)]
    assert text in prefixes(system, tunnel.ifindex)
    assert system.delete_routes(routes) == []
    assert seen(system, text) == []
    assert text not in prefixes(system, tunnel.ifindex)


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("text", HALVES)
def test_half_of_the_world(system: System, tunnel: Tun, text: str) -> None:
    assert system.add_routes(straight(tunnel, text)) == []
    assert text in prefixes(system, tunnel.ifindex)
    assert system.delete_routes(straight(tunnel, text)) == []
    assert text not in prefixes(system, tunnel.ifindex)


def test_no_routes_at_all(system: System) -> None:
    assert system.add_routes([]) == []
    assert system.delete_routes([]) == []


def test_host_bits_do_not_matter(system: System, tunnel: Tun) -> None:
    routes = straight(tunnel, "198.19.3.77/24", "2001:db8:c3::77/48")
    assert system.add_routes(routes) == []
    assert {"198.19.3.0/24", "2001:db8:c3::/48"} <= prefixes(system, tunnel.ifindex)
    assert system.delete_routes(routes) == []
    assert not {"198.19.3.0/24", "2001:db8:c3::/48"} & prefixes(system, tunnel.ifindex)


def test_adding_again_is_success(system: System, tunnel: Tun) -> None:
    routes = straight(tunnel, *PREFIXES)
    for _ in range(3):
        assert system.add_routes(routes) == []
    assert all(len(seen(system, text)) == 1 for text in PREFIXES)


def test_removing_what_is_not_there_is_success(system: System, tunnel: Tun) -> None:
    assert system.delete_routes(straight(tunnel, *PREFIXES)) == []


def test_what_was_read_can_be_removed(system: System, tunnel: Tun) -> None:
    assert system.add_routes(straight(tunnel, *PREFIXES)) == []
    wanted = set(PREFIXES)
    mine = [there for there in system.routes(ifindex=tunnel.ifindex) if str(there.prefix) in wanted]
    assert len(mine) == len(PREFIXES)
    assert system.delete_routes(mine) == []
    assert not wanted & prefixes(system, tunnel.ifindex)


@pytest.mark.parametrize("text", PREFIXES)
def test_somebody_elses_route_is_refused_and_stays(world: World, tunnel: Tun, text: str) -> None:
    system = world.system
    theirs = [Route(prefix(text), world.foreign("wgct5"))]
    assert system.add_routes(theirs) == []
    before = seen(system, text)
    ours = straight(tunnel, text)
    assert system.add_routes(ours) == [RouteFailure(ours[0], errno.EEXIST)]
    assert seen(system, text) == before
    assert system.delete_routes(ours) == []
    assert seen(system, text) == before


def test_one_refusal_among_many(world: World, tunnel: Tun) -> None:
    system = world.system
    many = straight(tunnel, *(f"198.19.{number}.0/24" for number in range(200)))
    foreign = world.foreign("wgct5")
    taken = (0, 77, 127, 128, 199)
    assert system.add_routes([many[number]._replace(ifindex=foreign) for number in taken]) == []
    assert system.add_routes(many) == [RouteFailure(many[number], errno.EEXIST) for number in taken]
    assert len({str(route.prefix) for route in many} & prefixes(system, tunnel.ifindex)) == 195


def test_a_route_to_no_interface_is_refused_alone(system: System, tunnel: Tun) -> None:
    good, bad = straight(tunnel, "198.19.3.0/24", "198.19.4.0/24")
    bad = bad._replace(ifindex=54321)
    failures = system.add_routes([bad, good])
    assert [failure.route for failure in failures] == [bad]
    assert failures[0].errno != 0
    assert "198.19.3.0/24" in prefixes(system, tunnel.ifindex)
    assert "198.19.4.0/24" not in prefixes(system, tunnel.ifindex)


@pytest.mark.parametrize("text", PREFIXES)
def test_a_blackhole(system: System, text: str) -> None:
    route = Route(prefix(text), blackhole=True)
    for _ in range(2):
        assert system.add_routes([route]) == []
        assert [there.blackhole for there in seen(system, text)] == [True]
    for _ in range(2):
        assert system.delete_routes([route]) == []
        assert seen(system, text) == []


@pytest.mark.parametrize("text", PREFIXES)
def test_a_blackhole_is_not_a_route_and_not_the_other_way(
    system: System, tunnel: Tun, text: str
) -> None:
    hole = Route(prefix(text), blackhole=True)
    way = straight(tunnel, text)[0]
    assert system.add_routes([way]) == []
    assert system.add_routes([hole]) == [RouteFailure(hole, errno.EEXIST)]
    assert system.delete_routes([hole]) == []
    assert [there.blackhole for there in seen(system, text)] == [False]
    assert system.delete_routes([way]) == []
    assert system.add_routes([hole]) == []
    assert system.add_routes([way]) == [RouteFailure(way, errno.EEXIST)]
    assert system.delete_routes([way]) == []
    assert [there.blackhole for there in seen(system, text)] == [True]
    assert system.delete_routes([hole]) == []


@pytest.mark.parametrize(
    ("text", "gateway", "other"),
    [
        ("198.19.4.7/32", "198.18.0.9", "198.18.0.8"),
        ("198.19.5.0/24", "198.18.0.9", "198.18.0.8"),
        ("2001:db8:c4::7/128", "2001:db8:c0::9", "2001:db8:c0::8"),
        ("2001:db8:c5::/48", "2001:db8:c0::9", "2001:db8:c0::8"),
    ],
)
def test_a_route_through_a_gateway(
    system: System, tunnel: Tun, text: str, gateway: str, other: str
) -> None:
    route = Route(prefix(text), gateway=gateway)
    for _ in range(2):
        assert system.add_routes([route]) == []
        assert [(there.gateway, there.ifindex) for there in seen(system, text)] == [
            (gateway, tunnel.ifindex)
        ]
    detour = route._replace(gateway=other)
    assert system.add_routes([detour]) == [RouteFailure(detour, errno.EEXIST)]
    assert system.delete_routes([detour]) == []
    assert [there.gateway for there in seen(system, text)] == [gateway]
    for _ in range(2):
        assert system.delete_routes([route]) == []
        assert seen(system, text) == []


def test_removing_a_straight_route_spares_one_through_a_gateway_there(
    system: System, tunnel: Tun
) -> None:
    theirs = Route(prefix("198.19.4.7/32"), tunnel.ifindex, "198.18.0.9")
    assert system.add_routes([theirs]) == []
    assert system.delete_routes(straight(tunnel, "198.19.4.7/32")) == []
    assert [there.gateway for there in seen(system, "198.19.4.7/32")] == ["198.18.0.9"]


def test_a_gateway_that_nothing_leads_to_is_refused(system: System, tunnel: Tun) -> None:
    route = Route(prefix("198.19.4.7/32"), gateway="192.0.2.77")
    assert tunnel
    failures = system.add_routes([route])
    assert [failure.route for failure in failures] == [route]


def test_routes_go_with_their_interface(world: World, tunnel: Tun) -> None:
    assert world.system.add_routes(straight(tunnel, *PREFIXES)) == []
    world.close(tunnel)
    world.system.destroy(tunnel.name, tunnel.ifindex)
    assert world.system.delete_routes(straight(tunnel, *PREFIXES)) == []
    assert all(seen(world.system, text) == [] for text in PREFIXES)


def test_another_table(system: System, tunnel: Tun) -> None:
    table = 51820 if system.fib_count() is None else 1
    if (system.fib_count() or 2) < 2:
        pytest.skip("there is one FIB here (net.fibs)")
    routes = [route._replace(table=table) for route in straight(tunnel, *PREFIXES)]
    for _ in range(2):
        assert system.add_routes(routes) == []
    assert all(seen(system, text) == [] for text in PREFIXES)
    assert set(routes) <= set(system.routes(table=table))
    for _ in range(2):
        assert system.delete_routes(routes) == []
    assert not set(routes) & set(system.routes(table=table))


@pytest.mark.parametrize("version", [4, 6])
def test_a_thousand_routes(system: System, tunnel: Tun, version: int) -> None:
    if version == 4:
        many = [Prefix(4, (198 << 24) + (19 << 16) + (low << 4), 28) for low in range(1000)]
    else:
        base = prefix("2001:db8:4000::/48").address
        many = [Prefix(6, base + (low << 64), 64) for low in range(1000)]
    routes = [Route(there, tunnel.ifindex) for there in many]
    before = set(system.routes(ifindex=tunnel.ifindex))
    assert system.add_routes(routes) == []
    added = set(system.routes(ifindex=tunnel.ifindex)) - before
    assert added == {route._replace(table=system.default_table) for route in routes}
    assert system.delete_routes(routes) == []
    assert set(system.routes(ifindex=tunnel.ifindex)) == before


# --- the way out


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(
    ("text", "gateway"), [("0.0.0.0/0", "198.18.0.9"), ("::/0", "2001:db8:c0::9")]
)
def test_the_default_route_through_a_gateway(
    system: System, tunnel: Tun, text: str, gateway: str
) -> None:
    version = prefix(text).version
    assert system.default_route(version) is None
    route = Route(prefix(text), gateway=gateway)
    assert system.add_routes([route]) == []
    assert system.default_route(version) == DefaultRoute(gateway, tunnel.ifindex, 1420)
    assert system.default_route(10 - version) is None
    assert system.default_route(version, exclude_ifindex=tunnel.ifindex) is None
    assert system.default_route(version, exclude_ifindex=tunnel.ifindex + 1) is not None
    assert system.delete_routes([route]) == []
    assert system.default_route(version) is None


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
def test_the_default_route_that_names_only_an_interface(
    system: System, tunnel: Tun, text: str
) -> None:
    assert system.add_routes(straight(tunnel, text)) == []
    assert system.default_route(prefix(text).version) == DefaultRoute(None, tunnel.ifindex, 1420)


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
def test_a_blackhole_is_no_way_out(system: System, text: str) -> None:
    hole = Route(prefix(text), blackhole=True)
    assert system.add_routes([hole]) == []
    assert system.default_route(prefix(text).version) is None


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("half", ["0.0.0.0/1", "::/1"])
def test_a_half_is_no_default_route(system: System, tunnel: Tun, half: str) -> None:
    assert system.add_routes(straight(tunnel, half)) == []
    assert system.default_route(prefix(half).version) is None


@pytest.mark.parametrize(
    ("text", "host"), [("198.19.3.0/24", "198.19.3.9"), ("2001:db8:c3::/48", "2001:db8:c3::9")]
)
def test_the_mtu_of_the_way_is_the_interfaces(
    system: System, tunnel: Tun, text: str, host: str
) -> None:
    assert system.add_routes(straight(tunnel, text)) == []
    assert system.path_mtu(prefix(host)) == 1420
    system.set_mtu(tunnel.name, 1300)
    assert system.path_mtu(prefix(host)) == 1300


@pytest.mark.parametrize(
    ("text", "host"), [("198.19.3.0/24", "198.19.3.9"), ("2001:db8:c3::/48", "2001:db8:c3::9")]
)
def test_the_mtu_of_the_way_is_the_routes_own(
    system: System, tunnel: Tun, text: str, host: str
) -> None:
    route = straight(tunnel, text)[0]._replace(mtu=1290)
    for _ in range(2):
        assert system.add_routes([route]) == []
    assert [there.mtu for there in seen(system, text)] == [1290]
    assert system.path_mtu(prefix(host)) == 1290
    assert system.delete_routes([route]) == []


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("host", ["203.0.113.9", "2001:db8:ffff::9"])
def test_no_way_has_no_mtu(system: System, tunnel: Tun, host: str) -> None:
    assert tunnel
    assert system.path_mtu(prefix(host)) is None
