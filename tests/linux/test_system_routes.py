"""What only Linux's routing has: metrics, nexthops, tables, unreachable routes, overflow."""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import prefix, run
from wgsvc.errors import OSFailureError
from wgsvc.system.base import DefaultRoute, RouteFailure
from wgsvc.system.linux.system import Linux
from wgsvc.values import Prefix, Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgsvc.system.base import Tun

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("own_network")]


@pytest.fixture(name="uplinks")
def _uplinks() -> tuple[int, int]:
    """Two uplinks with addresses of both families."""
    system = Linux()
    for number in (1, 2):
        run("ip", "link", "add", f"up{number}", "type", "veth", "peer", "name", f"isp{number}")
        system.add_addresses(
            f"up{number}", [prefix(f"192.0.2.{number}7/28"), prefix(f"2001:db8:{number}::7/64")]
        )
        system.set_up(f"up{number}")
        system.set_up(f"isp{number}")
    return socket.if_nametoindex("up1"), socket.if_nametoindex("up2")


@pytest.fixture(name="tun")
def _tun() -> Iterator[Tun]:
    tun = Linux().create_tun("wg0")
    Linux().set_up("wg0")
    yield tun
    os.close(tun.fd)


def test_the_lowest_metric_is_the_way_out(uplinks: tuple[int, int]) -> None:
    run("ip", "route", "add", "default", "via", "192.0.2.30", "dev", "up2", "metric", "50")
    run("ip", "route", "add", "default", "via", "192.0.2.18", "dev", "up1", "metric", "20")
    system = Linux()
    assert system.default_route(4) == DefaultRoute("192.0.2.18", uplinks[0], 1500)
    assert system.default_route(4, exclude_ifindex=uplinks[0]) == DefaultRoute(
        "192.0.2.30", uplinks[1], 1500
    )


def test_the_first_of_several_nexthops(uplinks: tuple[int, int]) -> None:
    run(
        *("ip", "route", "add", "default"),
        *("nexthop", "via", "192.0.2.18", "dev", "up1"),
        *("nexthop", "via", "192.0.2.28", "dev", "up2"),
    )
    assert Linux().default_route(4) == DefaultRoute("192.0.2.18", uplinks[0], 1500)


def test_an_ipv4_way_out_through_an_ipv6_gateway(uplinks: tuple[int, int]) -> None:
    run("ip", "-4", "route", "add", "default", "via", "inet6", "fe80::9", "dev", "up1")
    system = Linux()
    assert system.default_route(4) == DefaultRoute("fe80::9", uplinks[0], 1500)
    pin = Route(prefix("198.51.100.7/32"), uplinks[0], "fe80::9")
    for _ in range(2):
        assert system.add_routes([pin]) == []
    assert "via inet6 fe80::9 dev up1" in run("ip", "route", "show", "198.51.100.7")
    assert system.delete_routes([pin]) == []
    assert run("ip", "route", "show", "198.51.100.7") == ""


def test_an_unreachable_default_is_no_way_out(uplinks: tuple[int, int]) -> None:
    run("ip", "-6", "route", "add", "unreachable", "default", "metric", "1")
    system = Linux()
    assert system.default_route(6) is None
    run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "up1", "metric", "2000")
    assert system.default_route(6) == DefaultRoute("fe80::1", uplinks[0], 1500)


def test_a_default_in_another_table_is_only_there(uplinks: tuple[int, int]) -> None:
    run("ip", "route", "add", "default", "via", "192.0.2.18", "table", "5000")
    system = Linux()
    assert system.default_route(4) is None
    assert system.default_route(4, table=5000) == DefaultRoute("192.0.2.18", uplinks[0], 1500)
    assert system.path_mtu(prefix("203.0.113.1/32")) is None
    assert system.path_mtu(prefix("203.0.113.1/32"), table=5000) == 1500


def test_a_route_with_its_own_mtu_on_the_way_out(uplinks: tuple[int, int]) -> None:
    run("ip", "route", "add", "default", "via", "192.0.2.18", "mtu", "1480")
    system = Linux()
    assert system.default_route(4) == DefaultRoute("192.0.2.18", uplinks[0], 1480)
    assert system.path_mtu(prefix("203.0.113.1/32")) == 1480


def test_our_routes_look_like_those_of_ip_route_add(tun: Tun) -> None:
    system = Linux()
    assert tun.name == "wg0"
    ours = [Route(prefix(text), tun.ifindex) for text in ("198.19.3.0/24", "2001:db8:3::/48")]
    run("ip", "route", "add", "198.19.3.0/24", "dev", "wg0")
    run("ip", "-6", "route", "add", "2001:db8:3::/48", "dev", "wg0")
    theirs = run("ip", "route"), run("ip", "-6", "route")
    assert system.add_routes(ours) == []
    assert (run("ip", "route"), run("ip", "-6", "route")) == theirs
    assert system.delete_routes(ours) == []
    assert system.add_routes(ours) == []
    assert (run("ip", "route"), run("ip", "-6", "route")) == theirs


def test_a_route_of_another_metric_is_not_ours_to_remove(
    tun: Tun, uplinks: tuple[int, int]
) -> None:
    run("ip", "route", "add", "198.19.3.0/24", "via", "192.0.2.18", "metric", "7")
    ours = [Route(prefix("198.19.3.0/24"), tun.ifindex)]
    system = Linux()
    for _ in range(2):
        assert system.add_routes(ours) == []
    for _ in range(2):
        assert system.delete_routes(ours) == []
    there = [route for route in system.routes() if route.prefix == prefix("198.19.3.0/24")]
    assert [route.ifindex for route in there] == [uplinks[0]]


def test_without_ipv6_only_ipv6_is_refused(tun: Tun) -> None:
    run("sysctl", "-q", "-w", "net.ipv6.conf.wg0.disable_ipv6=1")
    system = Linux()
    four, six = (Route(prefix(text), tun.ifindex) for text in ("198.19.3.0/24", "2001:db8:3::/48"))
    failures = system.add_routes([six, four])
    assert [failure.route for failure in failures] == [six]
    assert four._replace(table=254) in system.routes(ifindex=tun.ifindex)


def test_a_wrong_gateway_text_is_one_refusal(tun: Tun) -> None:
    good = Route(prefix("198.19.3.0/24"), tun.ifindex)
    bad = Route(prefix("198.19.4.0/24"), gateway="fe80::1%no-such-if")
    worse = Route(prefix("198.19.5.0/24"), gateway="example.org")
    failures = Linux().add_routes([bad, worse, good])
    assert failures == [RouteFailure(bad, errno.ENODEV), RouteFailure(worse, errno.EINVAL)]
    assert good._replace(table=254) in Linux().routes(ifindex=tun.ifindex)


def test_ten_thousand_conflicts_are_all_told(tun: Tun, uplinks: tuple[int, int]) -> None:
    system = Linux()
    many = [Prefix(4, (11 << 24) + (low << 8), 24) for low in range(10_000)]
    assert system.add_routes([Route(there, uplinks[0]) for there in many]) == []
    ours = [Route(there, tun.ifindex) for there in many]
    assert system.add_routes(ours) == [RouteFailure(route, errno.EEXIST) for route in ours]


def test_lost_messages_are_told(tun: Tun) -> None:
    system = Linux()
    listener = system.monitor_open()
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        routes = [Route(Prefix(4, (11 << 24) + low, 32), tun.ifindex) for low in range(500)]
        assert system.add_routes(routes) == []
        words = []
        while select.select([listener], [], [], 0)[0]:
            words += system.monitor_read(listener)
        assert "overflow" in words
        assert len(words) < 500
        assert system.delete_routes(routes[:1]) == []
        assert system.monitor_read(listener) == [f"route {routes[0].prefix} {tun.ifindex}"]


def test_the_ear_hears_one_table_only(tun: Tun) -> None:
    system = Linux()
    route = Route(prefix("198.19.3.0/24"), tun.ifindex)
    with system.monitor_open(5000) as listener:
        for table in (254, 5001, 5000):
            assert system.add_routes([route._replace(table=table)]) == []
        words = []
        while select.select([listener], [], [], 0)[0]:
            words += system.monitor_read(listener)
        assert words == [f"route 198.19.3.0/24 {tun.ifindex}"]


def test_another_process_can_not_speak_for_the_kernel(tun: Tun) -> None:
    system = Linux()
    with (
        system.monitor_open() as listener,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as liar,
    ):
        listener.settimeout(10)
        datagram = b"\x20\0\0\0\x10\0" + bytes(26)
        liar.sendto(datagram, (listener.getsockname()[0], 0))
        assert system.monitor_read(listener) == []
        system.set_mtu(tun.name, 1300)
        assert system.monitor_read(listener) == [f"link wg0 {tun.ifindex}"]


def test_ipv6_can_not_have_an_address_with_two_lengths(tun: Tun) -> None:
    system = Linux()
    system.add_addresses(tun.name, [prefix("2001:db8::1/64")])
    with pytest.raises(OSFailureError) as caught:
        system.add_addresses(tun.name, [prefix("2001:db8::1/128")])
    assert (caught.value.call, caught.value.errno) == ("RTM_NEWADDR", errno.EEXIST)
    assert caught.value.subject == "wg0 2001:db8::1/128"


def test_an_ipv6_address_works_at_once(tun: Tun) -> None:
    Linux().add_addresses(tun.name, [prefix("2001:db8::1/64")])
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as user:
        user.bind(("2001:db8::1", 0))  # a tentative address refuses that


def test_no_descriptor_is_left_open(tun: Tun) -> None:
    system = Linux()
    before = os.listdir("/proc/self/fd")
    system.interfaces()
    system.add_routes([Route(prefix("198.19.3.0/24"), tun.ifindex)])
    system.routes()
    system.path_mtu(prefix("198.19.3.1/32"))
    system.take_tun(os.getpid(), "nothing")
    with pytest.raises(Exception, match="already"):
        system.create_tun("wg0")
    assert os.listdir("/proc/self/fd") == before
