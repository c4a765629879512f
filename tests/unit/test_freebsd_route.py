"""Routes and the monitor over the model: FIBs, multipath, scopes, noise and overflow."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from tests.models import freebsd_wire as wire
from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_programs import ifconfig_name
from tests.models.freebsd_vnet import Machine, Vnet
from wgsvc.errors import OSFailureError
from wgsvc.system.base import DefaultRoute, RouteFailure, Tun
from wgsvc.system.freebsd.system import FreeBSD
from wgsvc.values import Prefix, Route

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

UPLINK = Prefix(4, 10 << 24 | 1, 24)  # 10.0.0.1/24
HOST = Prefix(4, 203 << 24 | 0 << 16 | 113 << 8 | 9, 32)
NET = Prefix(4, 10 << 24 | 88 << 16, 16)
LINK_LOCAL = "fe80::9"


class Place:
    """A jail with an uplink that is not ours and a tunnel that is."""

    def __init__(self, flavour: str) -> None:
        self.vnet: Vnet = Machine(FLAVOURS[flavour]).jail("a")
        self.kernel = ModelKernel(self.vnet)
        self.system = FreeBSD(self.kernel)
        self.uplink = self.vnet.machine.create_tun(self.vnet, None, None)
        self.uplink.flags = 0x8002
        ifconfig_name(self.vnet, self.uplink.name, "em0")
        self.system.add_addresses("em0", [UPLINK])
        self.tun: Tun = self.system.create_tun("wg0")

    def drain(self, listener: socket.socket) -> list[str]:
        import select

        words: list[str] = []
        while select.select([listener], [], [], 0)[0]:
            words += self.system.monitor_read(listener)
        return words


@pytest.fixture(name="place", params=[*FLAVOURS])
def _place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = Place(request.param)
    yield place
    os.close(place.tun.fd)


def test_a_second_gateway_never_becomes_multipath(place: Place) -> None:
    first = Route(HOST, gateway="10.0.0.2")
    second = Route(HOST, gateway="10.0.0.3")
    assert place.system.add_routes([first]) == []
    assert place.system.add_routes([second]) == [RouteFailure(second, errno.EEXIST)]
    hops = place.vnet.fibs[0][wire.INET, HOST.address, 32]
    assert [wire.number_of(hop.gateway) for hop in hops] == [10 << 24 | 2]


def test_a_route_of_another_fib_is_another_route(place: Place) -> None:
    place.vnet.fibs.append({})
    here = Route(NET, place.tun.ifindex)
    there = here._replace(table=1)
    assert place.system.fib_count() == 2
    assert place.system.add_routes([here, there]) == []
    assert there in place.system.routes(table=1)
    assert place.system.routes(ifindex=place.tun.ifindex) == [
        here._replace(table=0),
        there,
    ]
    assert place.system.delete_routes([there]) == []
    assert place.system.routes(table=1) == []
    assert here._replace(table=0) in place.system.routes(table=0)


def test_a_fib_that_is_not_there_is_said_with_its_cure(place: Place) -> None:
    with pytest.raises(OSFailureError, match="FIB 9") as caught:
        place.system.add_routes([Route(NET, place.tun.ifindex, table=9)])
    assert (caught.value.call, caught.value.errno) == ("SO_SETFIB", errno.EINVAL)
    assert caught.value.cure == "sysctl net.fibs=10"
    assert place.system.routes(table=9) == []


def test_our_own_addresses_are_no_routes(place: Place) -> None:
    place.system.add_addresses("wg0", [Prefix(4, 0xC0A8DE01, 24)])
    found = [str(route.prefix) for route in place.system.routes()]
    assert "192.168.222.0/24" in found
    assert "192.168.222.1/32" not in found


def test_a_connected_route_is_not_ours_to_delete(place: Place) -> None:
    connected = Route(UPLINK.network, place.uplink.ifindex)
    failures = place.system.delete_routes([connected])
    assert [failure.errno for failure in failures] == [errno.EADDRINUSE]
    assert connected._replace(table=0) in place.system.routes()


def test_a_link_local_gateway_takes_the_scope_of_its_interface(place: Place) -> None:
    place.system.add_addresses("em0", [Prefix(6, 0xFE80 << 112 | 1, 64)])
    for gateway in (LINK_LOCAL, f"{LINK_LOCAL}%em0"):
        route = Route(Prefix(6, 0, 0), ifindex=place.uplink.ifindex, gateway=gateway)
        assert place.system.add_routes([route]) == []
        hop = place.vnet.fibs[0][wire.INET6, 0, 0][0]
        assert hop.gateway[24:28] == place.uplink.ifindex.to_bytes(4, "little")
        assert place.system.default_route(6) == DefaultRoute(LINK_LOCAL, place.uplink.ifindex, 1500)
        assert place.system.add_routes([route]) == []  # the same again
        assert place.system.delete_routes([route]) == []


def test_the_other_way_of_a_multipath_default(place: Place) -> None:
    if not place.vnet.machine.flavour.multipath:
        pytest.skip("this kernel has none")
    place.system.add_addresses("wg0", [Prefix(4, 0xC0A8DE01, 24)])
    default = Prefix(4, 0, 0)
    assert place.system.add_routes([Route(default, gateway="192.168.222.2")]) == []
    key = (wire.INET, 0, 0)
    hop = place.vnet.fibs[0][key][0]
    gateway = wire.inet(wire.INET, 10 << 24 | 2)
    other = hop._replace(gateway=gateway, ifindex=place.uplink.ifindex)
    place.vnet.fibs[0][key].append(other)
    found = place.system.default_route(4, exclude_ifindex=place.tun.ifindex)
    assert found == DefaultRoute("10.0.0.2", place.uplink.ifindex, 1500)


def test_the_default_is_found_beside_its_halves(place: Place) -> None:
    halves = [Route(Prefix(4, high << 31, 1), place.tun.ifindex) for high in (0, 1)]
    uplink = Route(Prefix(4, 0, 0), gateway="10.0.0.2")
    assert place.system.add_routes([*halves, uplink]) == []
    expected = DefaultRoute("10.0.0.2", place.uplink.ifindex, 1500)
    assert place.system.default_route(4) == expected
    assert place.system.path_mtu(HOST) == place.vnet.interfaces[place.tun.ifindex].mtu


def test_what_others_say_meanwhile_is_no_answer(place: Place) -> None:
    """Between the question and its answer other messages come by, and other people's answers."""
    assert place.system.add_routes([Route(Prefix(4, 0, 0), gateway="10.0.0.2")]) == []

    class Noisy(ModelKernel):
        def route_send(self, opened: socket.socket, message: bytes) -> None:
            self.vnet.tell_state(place.uplink)
            hop = self.vnet.fibs[0][wire.INET, 0, 0][0]
            for who in ((os.getpid(), -1, 0), (1, int.from_bytes(message[20:24], "little"), 0)):
                self.vnet.tell(wire.rtm(wire.GET, 99, hop.flags, {}, who=who, mtu=1), 0)
            super().route_send(opened, message)

    assert FreeBSD(Noisy(place.vnet)).default_route(4) == place.system.default_route(4)


def test_a_lost_message_is_an_overflow(place: Place) -> None:
    listener = place.system.monitor_open()
    place.kernel.route_option(listener, 0x1002, 4096)
    many = [Route(Prefix(4, 10 << 24 | low << 8, 24), place.tun.ifindex) for low in range(1, 400)]
    assert place.system.add_routes(many) == []
    words = place.drain(listener)
    assert ("overflow" in words) == place.vnet.machine.flavour.says_overflow
    assert place.drain(listener) == []
    place.system.set_mtu("wg0", 1300)
    assert place.drain(listener) == [f"link wg0 {place.tun.ifindex}"]
    listener.close()


def test_a_damaged_message_means_read_everything(place: Place) -> None:
    listener = place.system.monitor_open()
    place.vnet.tell(b"\xff\x00\x05\x01")
    assert place.system.monitor_read(listener) == ["overflow"]
    listener.close()


def test_what_failed_is_no_change(place: Place) -> None:
    listener = place.system.monitor_open()
    assert place.system.delete_routes([Route(NET, place.tun.ifindex)]) == []
    assert place.drain(listener) == []
    listener.close()


def test_a_blackhole_without_a_loopback_is_refused_and_its_removal_is_not(place: Place) -> None:
    """13.2, a jail whose lo0 nobody has configured: EOPNOTSUPP for both."""
    hole = Route(NET, blackhole=True)
    place.vnet.purge(place.vnet.interfaces[1])
    refused = place.system.add_routes([hole])
    assert [failure.route for failure in refused] == [hole]
    if place.vnet.machine.flavour.blackhole_by_loopback:
        assert refused[0].errno == errno.EOPNOTSUPP
    assert place.system.delete_routes([hole]) == []


def test_a_blackhole_never_becomes_a_second_way(place: Place) -> None:
    way, hole = Route(HOST, gateway="10.0.0.2"), Route(HOST, blackhole=True)
    for first, second in ((way, hole), (hole, way)):
        assert place.system.add_routes([first]) == []
        assert place.system.add_routes([second]) == [RouteFailure(second, errno.EEXIST)]
        assert place.system.delete_routes([first]) == []


def test_a_rename_is_heard_under_both_names(place: Place) -> None:
    listener = place.system.monitor_open()
    ifconfig_name(place.vnet, "em0", "em1")
    index = place.uplink.ifindex
    assert place.drain(listener) == [f"link em0 {index}", f"link em1 {index}"]
    listener.close()


def test_a_listener_hears_its_own_fib_only(place: Place) -> None:
    place.vnet.fibs.append({})
    listener = place.system.monitor_open(1)
    assert place.system.add_routes([Route(NET, place.tun.ifindex)]) == []
    assert place.drain(listener) == []
    assert place.system.add_routes([Route(NET, place.tun.ifindex, table=1)]) == []
    assert place.drain(listener) == [f"route 10.88.0.0/16 {place.tun.ifindex}"]
    listener.close()
