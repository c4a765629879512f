"""What a start does, in order, for both systems, against what wg-quick does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.config.model import TABLE_OFF, Hooks, Peer, Tunnel
from wgsvc.plan import steps
from wgsvc.plan.routes import (
    automatic_mtu,
    endpoint_pins,
    full_versions,
    halves,
    left_out,
    swallowing,
    tunnel_prefixes,
    tunnel_routes,
    way_out,
)
from wgsvc.plan.start import (
    Facts,
    dns_step,
    firewall_step,
    hook_steps,
    host_prefix,
    middle_steps,
    numeric_endpoints,
    route_steps,
    start_steps,
)
from wgsvc.plan.steps import undo
from wgsvc.plan.text import LISTED_ROUTES, commands
from wgsvc.supervise.network import _is_ours
from wgsvc.values import Endpoint, Prefix, Route, SecretKey


def prefix(text: str) -> Prefix:
    address, _, length = text.partition("/")
    host = host_prefix(address)
    assert host is not None
    return host._replace(length=int(length)) if length else host


def prefixes(*texts: str) -> tuple[Prefix, ...]:
    return tuple(map(prefix, texts))


def peer(*allowed: str, endpoint: Endpoint | None = None) -> Peer:
    return Peer(bytes(32), allowed_ips=prefixes(*allowed), endpoint=endpoint)


FULL = Tunnel(
    "wg0",
    addresses=prefixes("10.0.0.1/24", "fd00::1/64"),
    dns_servers=("10.0.0.53",),
    dns_search=("lan",),
    mtu=1380,
    hooks=Hooks(("pre %i",), ("post %i", "second"), ("down",), ("gone",)),
    peers=(peer("10.0.0.2/32", "192.168.2.0/24", "192.168.1.0/24", "fd01::/64"),),
    path="/etc/wireguard/wg0.conf",
)


def text(tunnel: Tunnel, facts: Facts, system: str) -> list[str]:
    return [line for step in start_steps(tunnel, facts) for line in commands(step, system)]


def test_sequence_on_freebsd() -> None:
    assert text(FULL, Facts(), "freebsd") == [
        "ifconfig tun create name wg0",
        "wireguard-go -f wg0",
        "pre wg0",
        "ifconfig wg0 inet 10.0.0.1/24 alias",
        "ifconfig wg0 inet6 fd00::1/64 alias",
        "ifconfig wg0 mtu 1380",
        "ifconfig wg0 up",
        "wg setconf wg0 <(wgsvc strip /etc/wireguard/wg0.conf)",
        "printf 'nameserver 10.0.0.53\\nsearch lan\\n' | resolvconf -a wg0 -x",
        "route -q -n add -inet -net 192.168.1.0/24 -interface wg0",
        "route -q -n add -inet -net 192.168.2.0/24 -interface wg0",
        "route -q -n add -inet6 -net fd01::/64 -interface wg0",
        "post wg0",
        "second",
    ]


def test_sequence_on_linux() -> None:
    assert text(FULL, Facts(), "linux") == [
        "ip tuntap add dev wg0 mode tun",
        "wireguard-go -f wg0",
        "pre wg0",
        "ip -4 address add 10.0.0.1/24 dev wg0",
        "ip -6 address add fd00::1/64 dev wg0",
        "ip link set mtu 1380 dev wg0",
        "ip link set up dev wg0",
        "wg setconf wg0 <(wgsvc strip /etc/wireguard/wg0.conf)",
        "printf 'nameserver 10.0.0.53\\nsearch lan\\n' | resolvconf -a wg0 -x",
        "ip -4 route add 192.168.1.0/24 dev wg0",
        "ip -4 route add 192.168.2.0/24 dev wg0",
        "ip -6 route add fd01::/64 dev wg0",
        "post wg0",
        "second",
    ]


def test_kernel_backend_needs_no_program() -> None:
    assert text(FULL, Facts(backend="kernel"), "freebsd")[:2] == [
        "ifconfig wg create name wg0",
        "pre wg0",
    ]
    assert text(FULL, Facts(backend="kernel"), "linux")[0] == "ip link add wg0 type wireguard"


def test_hooks_and_dns_can_be_left_out() -> None:
    told = "\n".join(text(FULL, Facts(hooks=False, dns=False), "linux"))

    assert "pre" not in told
    assert "post" not in told
    assert "resolvconf" not in told


def test_an_empty_file_is_an_interface_that_is_up() -> None:
    kinds = [type(step) for step in start_steps(Tunnel("wg0"), Facts())]

    assert kinds == [
        steps.Create,
        steps.StartDaemon,
        steps.SetMtu,
        steps.SetUp,
        steps.Configure,
    ]


# --- which routes


def test_what_an_address_covers_is_left_out() -> None:
    tunnel = Tunnel("wg0", addresses=prefixes("10.0.0.1/24"), peers=(peer("10.0.0.0/25"),))

    assert tunnel_prefixes(tunnel) == ()


def test_an_address_without_a_network_covers_nothing() -> None:
    tunnel = Tunnel("wg0", addresses=prefixes("10.0.0.1/32"), peers=(peer("10.0.0.0/24"),))

    assert tunnel_prefixes(tunnel) == prefixes("10.0.0.0/24")


def test_doubles_are_one_and_sorted() -> None:
    tunnel = Tunnel(
        "wg0", peers=(peer("10.2.0.0/16", "fd00::/8"), peer("10.1.0.0/16"), peer("10.2.0.0/16"))
    )

    assert tunnel_prefixes(tunnel) == prefixes("10.1.0.0/16", "10.2.0.0/16", "fd00::/8")


def test_a_default_route_becomes_halves() -> None:
    tunnel = Tunnel("wg0", peers=(peer("0.0.0.0/0", "::/0"),))

    assert tunnel_prefixes(tunnel) == (*halves(4), *halves(6))
    assert [str(half) for half in (*halves(4), *halves(6))] == [
        "0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1",
    ]  # fmt: skip


def test_table_off_routes_nothing() -> None:
    assert tunnel_prefixes(FULL._replace(table=TABLE_OFF)) == ()


def test_another_table_gets_the_default_route_itself_and_no_pin() -> None:
    tunnel = Tunnel(
        "wg0",
        addresses=prefixes("10.0.0.1/24"),
        table=7,
        peers=(peer("0.0.0.0/0", "10.0.0.0/24", endpoint=Endpoint("198.51.100.9", 1)),),
    )
    facts = Facts(
        endpoints=numeric_endpoints(tunnel),
        routes=(Route(prefix("0.0.0.0/0"), gateway="192.0.2.1"),),
    )

    assert text(tunnel, facts, "linux")[-2:] == [
        "ip -4 route add 0.0.0.0/0 dev wg0 table 7",
        "ip -4 route add 10.0.0.0/24 dev wg0 table 7",
    ]
    assert text(tunnel, facts, "freebsd")[-2] == (
        "route -q -n add -inet -fib 7 -net 0.0.0.0/0 -interface wg0"
    )


def test_routes_that_a_file_names_replace_the_allowed_ips() -> None:
    named = peer("10.0.0.0/8")._replace(routes=prefixes("10.9.0.0/16"))

    assert tunnel_prefixes(Tunnel("wg0", peers=(named,))) == prefixes("10.9.0.0/16")


# --- pins

DEFAULT = Route(prefix("0.0.0.0/0"), gateway="192.0.2.1", ifindex=2, mtu=9000)
LAN = Route(prefix("198.51.100.0/24"), ifindex=3)
ENDPOINT = prefix("198.51.100.9")


def pinned(covering: str, *routes: Route, at: Prefix = ENDPOINT) -> dict[Prefix, Route]:
    inside = halves(4) if covering == "0.0.0.0/0" else prefixes(covering)
    return endpoint_pins(inside, [at], routes)


def test_pin_goes_through_the_gateway() -> None:
    assert pinned("0.0.0.0/0", DEFAULT) == {
        ENDPOINT: Route(ENDPOINT, gateway="192.0.2.1", ifindex=2, pin=True)
    }


def test_pin_through_an_interface_without_a_gateway() -> None:
    link = Route(prefix("0.0.0.0/0"), ifindex=4)

    assert pinned("0.0.0.0/0", link) == {ENDPOINT: Route(ENDPOINT, ifindex=4, pin=True)}


def test_no_way_out_is_a_blackhole_and_no_loop() -> None:
    assert pinned("0.0.0.0/0") == {ENDPOINT: Route(ENDPOINT, blackhole=True, pin=True)}


def test_a_longer_foreign_route_needs_no_pin() -> None:
    assert pinned("0.0.0.0/0", DEFAULT, LAN) == {}


def test_a_longer_prefix_of_the_tunnel_does() -> None:
    assert pinned("198.51.100.8/29", DEFAULT, LAN) == {
        ENDPOINT: Route(ENDPOINT, ifindex=3, pin=True)
    }


def test_an_endpoint_outside_the_tunnel_needs_none() -> None:
    assert pinned("10.0.0.0/8", DEFAULT) == {}


def test_families_are_apart() -> None:
    """An IPv4 gateway is no way to an IPv6 endpoint (wg-quick takes it for one)."""
    six = prefix("2001:db8::9")

    assert endpoint_pins(halves(4), [six], [DEFAULT]) == {}
    assert endpoint_pins(halves(6), [six], [DEFAULT]) == {six: Route(six, blackhole=True, pin=True)}


def test_a_default_route_of_a_table_of_its_own_needs_no_pin() -> None:
    assert endpoint_pins(prefixes("0.0.0.0/0"), [ENDPOINT], [DEFAULT]) == {}


@pytest.mark.parametrize("known", [True, False])
def test_whose_a_host_route_is(*, known: bool) -> None:
    """By its metric where there is one (`known`), else by the way that was recorded."""
    ours = Route(ENDPOINT, gateway="192.0.2.1", ifindex=2, pin=True)
    as_seen = ours._replace(pin=known)
    another = ours._replace(gateway="192.0.2.99", pin=False)

    assert _is_ours(as_seen, ours, known=known)
    assert not _is_ours(another, ours, known=known)
    assert not _is_ours(as_seen, None, known=known)
    assert _is_ours(as_seen._replace(pin=False), ours, known=known) is not known


# --- what is not routed, or not in the default table

S = prefix("198.51.100.9")


def test_an_endpoint_in_its_own_allowed_ips_is_left_out() -> None:
    tunnel = Tunnel("wg0", peers=(peer("198.51.100.9/32", "10.0.0.0/8"),))

    assert left_out(tunnel, [S]) == {S}
    assert left_out(tunnel._replace(table=7), [S]) == frozenset()
    steps_of = route_steps(tunnel, Facts(endpoints=(S,), routes=(DEFAULT,)))
    assert steps_of == [steps.AddRoutes("wg0", (Route(prefix("10.0.0.0/8")),))]


def test_a_full_tunnel_has_a_table_and_rules_where_there_is_one() -> None:
    tunnel = Tunnel("wg0", peers=(peer("0.0.0.0/0", "::/0", "10.0.0.0/8"),))

    assert route_steps(tunnel, Facts(full_table=51820)) == [
        steps.AddRoutes(
            "wg0",
            (
                Route(prefix("0.0.0.0/0"), table=51820),
                Route(prefix("10.0.0.0/8")),
                Route(prefix("::/0"), table=51820),
            ),
        ),
        steps.AddRules("wg0", 51820, (4, 6)),
    ]
    assert full_versions(tunnel) == (4, 6)
    assert full_versions(tunnel._replace(table=7)) == ()


def test_what_is_held_is_not_routed() -> None:
    tunnel = Tunnel("wg0", peers=(peer("0.0.0.0/0", "10.0.0.0/8"),))
    facts = Facts(full_table=51820, held=frozenset(prefixes("0.0.0.0/0")))

    assert route_steps(tunnel, facts) == [steps.AddRoutes("wg0", (Route(prefix("10.0.0.0/8")),))]


@pytest.mark.parametrize(
    ("allowed", "held"),
    [
        ("0.0.0.0/0", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1"]),
        ("128.0.0.0/1", ["128.0.0.0/1"]),
        ("192.0.2.0/24", ["192.0.2.0/24"]),  # where the name server is
        ("10.0.0.0/8", []),
        ("::/0", ["::/0", "::/1", "8000::/1"]),
    ],
)
def test_what_would_swallow_the_name_servers(allowed: str, held: list[str]) -> None:
    tunnel = Tunnel("wg0", peers=(peer(allowed),))
    key, servers = tunnel.peers[0].public_key, [prefix("192.0.2.53")]

    assert swallowing(tunnel, {key}, servers) == set(prefixes(*held))
    assert swallowing(tunnel, set(), servers) == set()


def test_pins_come_before_the_routes_that_would_swallow_them() -> None:
    tunnel = Tunnel("wg0", peers=(peer("0.0.0.0/0", endpoint=Endpoint("198.51.100.9", 5)),))

    told = text(tunnel, Facts(endpoints=(ENDPOINT,), routes=(DEFAULT,)), "freebsd")

    assert told[-3:] == [
        "route -q -n add -inet -host 198.51.100.9 192.0.2.1",
        "route -q -n add -inet -net 0.0.0.0/1 -interface wg0",
        "route -q -n add -inet -net 128.0.0.0/1 -interface wg0",
    ]


@pytest.mark.parametrize(
    ("route", "linux", "freebsd"),
    [
        (
            Route(ENDPOINT, blackhole=True),
            "ip -4 route add blackhole 198.51.100.9/32",
            "route -q -n add -inet -host 198.51.100.9 127.0.0.1 -blackhole",
        ),
        (
            Route(prefix("2001:db8::9"), blackhole=True),
            "ip -6 route add blackhole 2001:db8::9/128",
            "route -q -n add -inet6 -host 2001:db8::9 ::1 -blackhole",
        ),
        (
            Route(ENDPOINT, gateway="192.0.2.1"),
            "ip -4 route add 198.51.100.9/32 via 192.0.2.1",
            "route -q -n add -inet -host 198.51.100.9 192.0.2.1",
        ),
    ],
)
def test_text_of_a_pin(route: Route, linux: str, freebsd: str) -> None:
    step = steps.AddRoutes("wg0", (route,))

    assert [*commands(step, "linux"), *commands(step, "freebsd")] == [linux, freebsd]


numbers = st.integers(0, 2**32 - 1)
networks = st.builds(lambda n, length: Prefix(4, n, length).network, numbers, st.integers(0, 32))


@given(st.lists(networks, max_size=6), st.lists(networks, max_size=6), numbers)
def test_with_its_pins_no_endpoint_is_ever_routed_into_the_tunnel(
    inside: list[Prefix], outside: list[Prefix], number: int
) -> None:
    endpoint = Prefix(4, number, 32)
    foreign = [Route(net, gateway=f"g{i}") for i, net in enumerate(outside)]
    tunnel = Tunnel("wg0", peers=(Peer(bytes(32), allowed_ips=tuple(inside)),))
    routed = [Route(net, ifindex=99) for net in tunnel_prefixes(tunnel)]
    pins = endpoint_pins(tunnel_prefixes(tunnel), [endpoint], foreign)

    # A pin wins over a route of the same length: the kernel has one of both, the pin.
    taken = way_out([*pins.values(), *foreign, *routed], endpoint)

    assert taken is None or taken.ifindex != 99


# --- steps and their inverses, text, MTU


def test_what_is_undone_and_what_goes_with_the_interface() -> None:
    undone = {type(step).__name__: undo(step) for step in start_steps(FULL, Facts())}

    assert undone["Create"] == steps.Destroy("wg0")
    assert isinstance(undone["StartDaemon"], steps.StopDaemon)
    assert undone["SetDns"] == steps.UnsetDns("wg0")
    assert isinstance(undone["AddRoutes"], steps.DeleteRoutes)
    assert {name for name, step in undone.items() if step is None} == {
        "Configure", "RunHook", "SetMtu", "SetUp",
    }  # fmt: skip


@pytest.mark.parametrize("system", ["linux", "freebsd"])
def test_a_process_is_ended_by_its_pid_and_never_by_a_name(system: str) -> None:
    assert list(commands(steps.StopDaemon("wg0", 42), system)) == ["kill 42"]
    assert list(commands(steps.StopDaemon("wg0"), system)) == []  # it never got as far as a PID


def test_more_routes_than_a_person_reads_are_counted() -> None:
    many = tuple(Route(Prefix(4, number << 8, 24)) for number in range(LISTED_ROUTES + 5))
    step = steps.AddRoutes("wg0", many)

    shown = list(commands(step, "linux"))

    assert shown[-1] == "... and 5 more routes"
    assert len(shown) == LISTED_ROUTES + 1
    assert len(list(commands(step, "linux", every_route=True))) == len(many)


def test_no_step_shows_a_key() -> None:
    secret = SecretKey(b"s" * 32)
    tunnel = FULL._replace(
        private_key=secret, peers=(FULL.peers[0]._replace(preshared_key=secret),)
    )
    told = repr(text(tunnel, Facts(), "linux")) + repr(text(tunnel, Facts(), "freebsd"))

    assert "ssss" not in told
    assert secret.hex() not in told


@pytest.mark.parametrize(
    ("known", "mtu"),
    [
        ((), 1420),
        ((1500,), 1420),
        ((1500, 1400), 1320),
        ((None, 1492), 1412),
        ((600,), 576),
        ((0,), 1420),
    ],
)
def test_automatic_mtu(known: tuple[int | None, ...], mtu: int) -> None:
    assert automatic_mtu(known) == mtu


def test_each_step_that_leaves_something_has_its_inverse() -> None:
    four, route = prefix("10.0.0.1/24"), Route(prefix("10.0.0.0/8"))

    assert undo(steps.StartDaemon("wg0", "x")) == steps.StopDaemon("wg0", 0)
    assert undo(steps.AddAddress("wg0", four)) == steps.DeleteAddress("wg0", four)
    assert undo(steps.AddRoutes("wg0", (route,))) == steps.DeleteRoutes("wg0", (route,))
    assert undo(steps.AddRules("wg0", 7, (4,))) == steps.DeleteRules("wg0", 7, (4,))
    assert undo(steps.SetFirewall("wg0", 7, (4,), ())) == steps.UnsetFirewall("wg0", (4,))
    assert undo(steps.Destroy("wg0")) is None
    assert steps.Configure("wg0", 0, "x").mark == 0


@pytest.mark.parametrize("name", ["vpn.example", "1.2.3", "1.2.3.4.5", "1.2.3.x", "", "::g", "²"])
def test_a_name_is_no_address(name: str) -> None:
    assert host_prefix(name) is None


@pytest.mark.parametrize(
    ("text_", "number", "length"),
    [
        ("1.2.3.4", 0x01020304, 32),
        ("255.255.255.255", 0xFFFFFFFF, 32),
        ("0.0.0.0", 0, 32),  # noqa: S104 - no socket has it
        ("2001:db8::a", 0x20010DB8 << 96 | 10, 128),
    ],
)
def test_an_address_is_a_host_prefix(text_: str, number: int, length: int) -> None:
    version = 6 if ":" in text_ else 4

    assert host_prefix(text_) == Prefix(version, number, length)


@pytest.mark.parametrize(
    "name",
    [
        "256.1.1.1",
        "1.2.3.256",
        "1.-2.3.4",
        "1.2.3.4 ",
        "1..3.4",
        ":",
        "1.1.1.0001",
        "1.1.1." + "9" * 5000,
        "1.2.3.²",
        "1.2.3.\u0661",
    ],
)
def test_what_looks_like_an_address_is_none(name: str) -> None:
    assert host_prefix(name) is None


def test_a_scope_is_no_part_of_the_address() -> None:
    assert host_prefix("fe80::1%em0") == Prefix(6, 0xFE80 << 112 | 1, 128)


def test_endpoints_that_are_addresses_in_the_order_of_the_file() -> None:
    named, none = Endpoint("vpn.example.org", 1), None
    tunnel = Tunnel(
        "wg0",
        peers=tuple(
            peer("10.0.0.0/8", endpoint=endpoint)
            for endpoint in (Endpoint("2001:db8::9", 1), none, named, Endpoint("192.0.2.9", 1))
        ),
    )

    assert numeric_endpoints(tunnel) == prefixes("2001:db8::9", "192.0.2.9")


def test_hooks_of_each_event_with_the_interfaces_name() -> None:
    hooks = Hooks(("a %i %i",), ("b %i", "c"), ("d %i",), ("e %i",))
    tunnel = Tunnel("wg0", hooks=hooks)

    assert hook_steps(tunnel, "PreUp", Facts()) == [steps.RunHook("wg0", "PreUp", "a wg0 wg0")]
    assert hook_steps(tunnel, "PostUp", Facts()) == [
        steps.RunHook("wg0", "PostUp", "b wg0"),
        steps.RunHook("wg0", "PostUp", "c"),
    ]
    assert hook_steps(tunnel, "PreDown", Facts()) == [steps.RunHook("wg0", "PreDown", "d wg0")]
    assert hook_steps(tunnel, "PostDown", Facts()) == [steps.RunHook("wg0", "PostDown", "e wg0")]
    assert hook_steps(tunnel, "PostDown", Facts(hooks=False)) == []


def test_the_parts_of_a_start_have_what_the_facts_say() -> None:
    tunnel = FULL._replace(mtu=None, dns_search=())
    facts = Facts(program="/opt/wg", dns_mode="metric", path_mtus=(1480, 1500))
    done = start_steps(tunnel, facts)

    assert steps.StartDaemon("wg0", "/opt/wg") in done
    assert steps.SetMtu("wg0", 1400) in done
    assert steps.Configure("wg0", 1, "/etc/wireguard/wg0.conf", 0) in done
    assert steps.SetDns("wg0", ("10.0.0.53",), (), "metric") in done
    assert dns_step(FULL, "plain") == steps.SetDns("wg0", ("10.0.0.53",), ("lan",), "plain")
    searched = middle_steps(FULL._replace(dns_servers=()), Facts())
    assert steps.SetDns("wg0", (), ("lan",), "exclusive") in searched
    assert not any(
        isinstance(step, steps.SetDns)
        for step in middle_steps(FULL._replace(dns_servers=(), dns_search=()), Facts())
    )


@pytest.mark.parametrize(("fwmark", "mark"), [(None, 51820), (0, 51820), (7, 0)])
def test_a_full_tunnel_has_a_mark_unless_the_file_names_one(fwmark: int | None, mark: int) -> None:
    tunnel = FULL._replace(fwmark=fwmark)

    (configure,) = [
        step
        for step in middle_steps(tunnel, Facts(full_table=51820))
        if isinstance(step, steps.Configure)
    ]
    assert configure.mark == mark


def test_a_firewall_where_there_is_nft_and_before_the_rules() -> None:
    tunnel = Tunnel("wg0", addresses=prefixes("10.9.0.1/24"), peers=(peer("0.0.0.0/0"),))
    routes = steps.AddRoutes("wg0", (Route(prefix("0.0.0.0/0"), table=7),))

    assert route_steps(tunnel, Facts(full_table=7, firewall=True)) == [
        routes,
        steps.SetFirewall("wg0", 7, (4,), prefixes("10.9.0.1/24")),
        steps.AddRules("wg0", 7, (4,)),
    ]
    assert firewall_step(tunnel, 7, (4, 6)) == steps.SetFirewall("wg0", 7, (4, 6), tunnel.addresses)
    halved = route_steps(tunnel, Facts(firewall=True))
    assert [type(step) for step in halved] == [steps.AddRoutes]
    other = route_steps(tunnel._replace(table=9), Facts(full_table=7, firewall=True))
    assert other == [steps.AddRoutes("wg0", (Route(prefix("0.0.0.0/0"), table=9),))]
    part = route_steps(
        Tunnel("wg0", peers=(peer("10.0.0.0/8"),)), Facts(full_table=7, firewall=True)
    )
    assert part == [steps.AddRoutes("wg0", (Route(prefix("10.0.0.0/8")),))]


def test_late_pins_and_pins_beside_another_table_are_not_the_starts() -> None:
    tunnel = Tunnel("wg0", peers=(peer("0.0.0.0/0", endpoint=Endpoint("198.51.100.9", 5)),))
    facts = Facts(endpoints=(ENDPOINT,), routes=(DEFAULT,))
    pin = Route(ENDPOINT, gateway="192.0.2.1", ifindex=2, pin=True)
    own = steps.AddRoutes("wg0", tuple(Route(half) for half in halves(4)))

    assert route_steps(tunnel, facts) == [steps.AddRoutes("wg0", (pin,)), own]
    assert route_steps(tunnel, facts._replace(late_pins=True)) == [own]
    assert route_steps(tunnel._replace(table=7), facts) == [
        steps.AddRoutes("wg0", (Route(prefix("0.0.0.0/0"), table=7),))
    ]


def test_a_pin_is_for_the_default_table_alone() -> None:
    tunnel = Tunnel("wg0", table=7, peers=(peer("198.51.100.0/24"),))

    assert route_steps(tunnel, Facts(endpoints=(ENDPOINT,), routes=(DEFAULT,))) == [
        steps.AddRoutes("wg0", (Route(prefix("198.51.100.0/24"), table=7),))
    ]


# --- which routes, more closely


def test_routes_of_a_setting_replace_what_the_peers_say() -> None:
    tunnel = Tunnel("wg0", peers=(peer("10.0.0.0/8"),), routes=prefixes("10.9.0.0/16", "::/0"))

    assert tunnel_prefixes(tunnel) == (*prefixes("10.9.0.0/16"), *halves(6))
    assert tunnel_prefixes(tunnel, whole=True) == prefixes("10.9.0.0/16", "::/0")
    assert full_versions(tunnel) == (6,)
    assert tunnel_prefixes(tunnel._replace(routes=())) == ()


def test_another_tables_routes_are_sorted_and_whole() -> None:
    tunnel = Tunnel("wg0", table=7, peers=(peer("10.2.0.0/16", "0.0.0.0/0", "10.1.0.0/16"),))

    assert tunnel_prefixes(tunnel) == prefixes("0.0.0.0/0", "10.1.0.0/16", "10.2.0.0/16")
    assert tunnel_routes(tunnel, full_table=51820)[0] == Route(prefix("0.0.0.0/0"), table=7)


def test_only_a_default_route_goes_into_the_full_table() -> None:
    tunnel = Tunnel("wg0", peers=(peer("0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16"),))

    assert tunnel_routes(tunnel, full_table=7, without=prefixes("10.1.0.0/16")) == (
        Route(prefix("0.0.0.0/0"), table=7),
        Route(prefix("10.0.0.0/8")),
    )


def test_without_a_table_of_its_own_a_default_route_goes_in_halves() -> None:
    tunnel = Tunnel("wg0", peers=(peer("0.0.0.0/0"),))

    assert tunnel_routes(tunnel) == tuple(Route(half) for half in halves(4))


def test_an_endpoint_that_needs_no_pin_is_not_the_last() -> None:
    at = prefixes("10.0.0.1", "127.0.0.1", "198.51.100.9")

    assert list(endpoint_pins(prefixes("126.0.0.0/7", "198.51.100.0/24"), at, [])) == [at[2]]


def test_nothing_is_left_out_where_nothing_is_an_endpoint() -> None:
    tunnel = Tunnel("wg0", peers=(peer("198.51.100.9/32"),))

    assert left_out(tunnel, []) == frozenset()
    assert left_out(tunnel, [prefix("198.51.100.8")]) == frozenset()


def test_swallowing_looks_at_what_is_routed_and_at_those_peers_alone() -> None:
    servers = [prefix("192.0.2.53")]
    one = peer("192.0.2.0/24", "10.0.0.0/8")
    two = Peer(b"2" * 32, allowed_ips=prefixes("192.0.0.0/16"))
    tunnel = Tunnel("wg0", peers=(two, one))

    assert swallowing(tunnel, {one.public_key}, servers) == set(prefixes("192.0.2.0/24"))
    assert swallowing(tunnel._replace(table=7), {one.public_key}, servers) == set()
    named = one._replace(routes=prefixes("192.0.2.0/25", "10.0.0.0/8"))
    assert swallowing(Tunnel("wg0", peers=(named,)), {one.public_key}, servers) == set(
        prefixes("192.0.2.0/25")
    )
    for routes, held in (
        (("192.0.0.0/8",), ("192.0.0.0/8",)),  # it covers what is swallowed
        (("192.0.2.0/28",), ("192.0.2.0/28",)),  # it is a part of that
        (("10.0.0.0/8",), ()),
    ):
        routed = tunnel._replace(routes=prefixes(*routes))
        assert swallowing(routed, {one.public_key}, servers) == set(prefixes(*held))


@pytest.mark.parametrize(
    ("allowed", "swallows"), [("0.0.0.0/1", True), ("0.0.0.0/2", False), ("8000::/1", True)]
)
def test_half_of_everything_swallows_a_server_of_this_host(allowed: str, *, swallows: bool) -> None:
    tunnel = Tunnel("wg0", peers=(peer(allowed),))

    assert bool(swallowing(tunnel, {bytes(32)}, [])) is swallows


def test_of_two_ways_as_long_the_first() -> None:
    first, second = (Route(DEFAULT.prefix, gateway=gateway) for gateway in ("a", "b"))

    assert way_out([first, second], ENDPOINT) is first
    assert way_out([first, LAN, second], ENDPOINT) is LAN
    assert way_out([], ENDPOINT) is None


def test_a_foreign_route_as_long_as_the_tunnels_needs_no_pin() -> None:
    """The kernel has one route of a prefix: the foreign one stays, and the tunnel's is refused."""
    assert pinned("198.51.100.0/24", LAN) == {}
    assert pinned("198.51.100.0/25", LAN) == {ENDPOINT: LAN._replace(prefix=ENDPOINT, pin=True)}


def test_the_longest_prefix_of_the_tunnel_counts() -> None:
    inside = prefixes("0.0.0.0/1", "198.51.100.0/25", "128.0.0.0/1")

    assert endpoint_pins(inside, [ENDPOINT], [DEFAULT, LAN]) == {
        ENDPOINT: Route(ENDPOINT, ifindex=3, pin=True)
    }


def test_a_default_route_of_everything_is_pinned_even_over_a_table_of_its_own() -> None:
    inside = prefixes("0.0.0.0/0", "198.51.100.0/25")

    assert list(endpoint_pins(inside, [ENDPOINT], [DEFAULT])) == [ENDPOINT]


@pytest.mark.parametrize("loopback", ["127.0.0.1", "127.255.255.254", "::1"])
def test_a_loopback_endpoint_needs_no_pin(loopback: str) -> None:
    at = prefix(loopback)

    assert endpoint_pins((*halves(4), *halves(6)), [at], []) == {}


@pytest.mark.parametrize("near", ["126.255.255.255", "128.0.0.1", "::", "::2"])
def test_what_is_next_to_loopback_is_not(near: str) -> None:
    at = prefix(near)

    assert list(endpoint_pins((*halves(4), *halves(6)), [at], [])) == [at]


def test_pins_are_sorted_and_one_for_each_address() -> None:
    other = prefix("192.0.2.9")

    pins = endpoint_pins(halves(4), [ENDPOINT, other, ENDPOINT], [DEFAULT])

    assert list(pins) == [other, ENDPOINT]
    assert all(pin.mtu is None and pin.pin for pin in pins.values())
