"""Every step as the command a person would type, on both systems."""

from __future__ import annotations

import pytest

from wgsvc.plan import steps
from wgsvc.plan.text import LISTED_ROUTES, commands
from wgsvc.values import Prefix, Route

FOUR, SIX = Prefix(4, 0x0A000001, 24), Prefix(6, 0xFD << 120 | 1, 64)
HOST, HOST6 = Prefix(4, 0x0A000001, 32), Prefix(6, 0xFD << 120 | 1, 128)


def of(step: steps.Step, system: str) -> list[str]:
    return list(commands(step, system))


def both(step: steps.Step) -> list[str]:
    """Return the commands of a step that is the same on both systems."""
    told = of(step, "linux")
    assert told == of(step, "freebsd")
    return told


@pytest.mark.parametrize(
    ("step", "linux", "freebsd"),
    [
        (
            steps.Create("wg0", "kernel"),
            "ip link add wg0 type wireguard",
            "ifconfig wg create name wg0",
        ),
        (
            steps.Create("wg0", "wireguard-go"),
            "ip tuntap add dev wg0 mode tun",
            "ifconfig tun create name wg0",
        ),
        (steps.Destroy("wg0"), "ip link delete dev wg0", "ifconfig wg0 destroy"),
        (
            steps.AddAddress("wg0", FOUR),
            "ip -4 address add 10.0.0.1/24 dev wg0",
            "ifconfig wg0 inet 10.0.0.1/24 alias",
        ),
        (
            steps.AddAddress("wg0", SIX),
            "ip -6 address add fd00::1/64 dev wg0",
            "ifconfig wg0 inet6 fd00::1/64 alias",
        ),
        (
            steps.DeleteAddress("wg0", FOUR),
            "ip -4 address delete 10.0.0.1/24 dev wg0",
            "ifconfig wg0 inet 10.0.0.1 -alias",
        ),
        (
            steps.DeleteAddress("wg0", SIX),
            "ip -6 address delete fd00::1/64 dev wg0",
            "ifconfig wg0 inet6 fd00::1 -alias",
        ),
        (steps.SetMtu("wg0", 1380), "ip link set mtu 1380 dev wg0", "ifconfig wg0 mtu 1380"),
        (steps.SetUp("wg0"), "ip link set up dev wg0", "ifconfig wg0 up"),
    ],
)
def test_what_is_said_otherwise_on_each_system(step: steps.Step, linux: str, freebsd: str) -> None:
    assert of(step, "linux") == [linux]
    assert of(step, "freebsd") == [freebsd]


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (steps.StartDaemon("wg0", "/opt/wireguard-go"), ["/opt/wireguard-go -f wg0"]),
        (steps.StopDaemon("wg0", 4711), ["kill 4711"]),
        (steps.StopDaemon("wg0"), []),  # none runs yet: by a name others would end too
        (
            steps.Configure("wg0", 2, "/etc/wireguard/wg0.conf"),
            ["wg setconf wg0 <(wgsvc strip /etc/wireguard/wg0.conf)"],
        ),
        (
            steps.Configure("wg0", 2, "", 51820),
            ["wg setconf wg0 <(wgsvc strip wg0)", "wg set wg0 fwmark 51820"],
        ),
        (
            steps.SetDns("wg0", ("192.0.2.53", "fd00::53"), ("a.example", "b"), "metric"),
            [
                (
                    "printf 'nameserver 192.0.2.53\\nnameserver fd00::53\\nsearch a.example b\\n'"
                    " | resolvconf -a wg0 -m 0"
                )
            ],
        ),
        (
            steps.SetDns("wg0", ("192.0.2.53",), (), "plain"),
            ["printf 'nameserver 192.0.2.53\\n' | resolvconf -a wg0"],
        ),
        (
            steps.SetDns("wg0", (), ("b",), "exclusive"),
            ["printf 'search b\\n' | resolvconf -a wg0"],  # else nobody has a server
        ),
        (
            steps.SetDns("wg0", ("192.0.2.53",), ("~b",), "exclusive"),
            ["printf 'nameserver 192.0.2.53\\nsearch ~b\\n' | resolvconf -a wg0 -x"],
        ),
        (steps.SetDns("wg0", (), ("~b",), "exclusive"), []),  # whose servers would be asked?
        (steps.UnsetDns("wg0"), ["resolvconf -f -d wg0"]),
        (steps.RunHook("wg0", "PreUp", "echo 'a b'"), ["echo 'a b'"]),
        (
            steps.AddRules("wg0", 7, (4, 6)),
            [
                "ip -4 rule add not fwmark 7 table 7",
                "ip -4 rule add table main suppress_prefixlength 0",
                "ip -6 rule add not fwmark 7 table 7",
                "ip -6 rule add table main suppress_prefixlength 0",
                "sysctl -q net.ipv4.conf.all.src_valid_mark=1",
            ],
        ),
        (
            steps.AddRules("wg0", 7, (6,)),
            [
                "ip -6 rule add not fwmark 7 table 7",
                "ip -6 rule add table main suppress_prefixlength 0",
            ],
        ),
        (
            steps.DeleteRules("wg0", 7, (4,)),
            [
                "ip -4 rule delete not fwmark 7 table 7",
                "ip -4 rule delete table main suppress_prefixlength 0",
            ],
        ),
        (
            steps.SetFirewall("wg0", 7, (4, 6), (FOUR,)),
            [
                (
                    "nft -f -  # ip wgsvc-wg0, ip6 wgsvc-wg0: "
                    "its addresses by no other way, its mark kept"
                )
            ],
        ),
        (
            steps.UnsetFirewall("wg0", (4, 6)),
            ["nft delete table ip wgsvc-wg0", "nft delete table ip6 wgsvc-wg0"],
        ),
    ],
)
def test_what_is_the_same_on_both_systems(step: steps.Step, told: list[str]) -> None:
    assert both(step) == told


@pytest.mark.parametrize(
    ("route", "linux", "freebsd"),
    [
        (
            Route(FOUR.network),
            "ip -4 route {} 10.0.0.0/24 dev wg0",
            "route -q -n {} -inet -net 10.0.0.0/24 -interface wg0",
        ),
        (
            Route(SIX.network, table=254),
            "ip -6 route {} fd00::/64 dev wg0",
            "route -q -n {} -inet6 -fib 254 -net fd00::/64 -interface wg0",
        ),
        (
            Route(SIX.network, table=0),
            "ip -6 route {} fd00::/64 dev wg0 table 0",
            "route -q -n {} -inet6 -fib 0 -net fd00::/64 -interface wg0",
        ),
        (
            Route(HOST, gateway="192.0.2.1", ifindex=3, pin=True),
            "ip -4 route {} 10.0.0.1/32 via 192.0.2.1 metric 51820",
            "route -q -n {} -inet -host 10.0.0.1 192.0.2.1",
        ),
        (
            Route(HOST6, ifindex=3, table=7),
            "ip -6 route {} fd00::1/128 dev if3 table 7",
            "route -q -n {} -inet6 -fib 7 -host fd00::1 -interface link#3",
        ),
        (
            Route(HOST, blackhole=True),
            "ip -4 route {} blackhole 10.0.0.1/32",
            "route -q -n {} -inet -host 10.0.0.1 127.0.0.1 -blackhole",
        ),
        (
            Route(HOST6, blackhole=True),
            "ip -6 route {} blackhole fd00::1/128",
            "route -q -n {} -inet6 -host fd00::1 ::1 -blackhole",
        ),
    ],
)
def test_a_route_comes_and_goes(route: Route, linux: str, freebsd: str) -> None:
    for step, verbs in (
        (steps.AddRoutes("wg0", (route,)), ("add", "add")),
        (steps.DeleteRoutes("wg0", (route,)), ("del", "delete")),
    ):
        assert of(step, "linux") == [linux.format(verbs[0])]
        assert of(step, "freebsd") == [freebsd.format(verbs[1])]


def test_a_full_list_is_a_full_list_and_one_more_is_counted() -> None:
    routes = tuple(Route(Prefix(4, number << 8, 24)) for number in range(21))

    assert LISTED_ROUTES == 20
    assert len(of(steps.AddRoutes("wg0", routes[:20]), "linux")) == 20
    assert of(steps.DeleteRoutes("wg0", routes), "linux")[-2:] == [
        "ip -4 route del 0.0.19.0/24 dev wg0",
        "... and 1 more routes",
    ]


@pytest.mark.parametrize("system", ["linux", "freebsd"])
def test_a_step_without_words_is_a_bug(system: str) -> None:
    with pytest.raises(TypeError):
        list(commands("nonsense", system))  # type: ignore[arg-type]
