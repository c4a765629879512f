"""Netlink's wire format: what is packed, and that no bytes can hang or crash the parser."""

from __future__ import annotations

import errno
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.errors import NotPermittedError, OSFailureError, ProtocolError
from wgsvc.system.linux import link, netlink, route
from wgsvc.values import Prefix, Route


def prefix(text: str) -> Prefix:
    interface = ipaddress.ip_interface(text)
    return Prefix(interface.version, int(interface.ip), interface.network.prefixlen)


@pytest.mark.parametrize("payload", [b"", b"1", b"22", b"333", b"4444", b"55555"])
def test_an_attribute_is_padded_but_says_its_own_length(payload: bytes) -> None:
    packed = netlink.attribute(7, payload)
    assert len(packed) % 4 == 0
    assert struct.unpack_from("=HH", packed) == (4 + len(payload), 7)
    assert netlink.attributes(packed + netlink.attribute_u32(9, 5)) == {
        7: payload,
        9: struct.pack("=I", 5),
    }


def test_flags_of_an_attributes_type_do_not_count() -> None:
    assert netlink.attributes(netlink.attribute(18 | netlink.NESTED, b"abcd")) == {18: b"abcd"}


@pytest.mark.parametrize("length", [0, 3, 9, 0xFFFF])
def test_an_attribute_with_a_lie_for_a_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError):
        netlink.attributes(struct.pack("=HH4x", length, 1))


@pytest.mark.parametrize("length", [0, 15, 21, 0xFFFFFFFF])
def test_a_message_with_a_lie_for_a_length_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError):
        list(netlink.messages(struct.pack("=IHHII4x", length, 24, 0, 1, 0)))


def test_messages_of_one_datagram_come_apart() -> None:
    datagram = b"".join(
        netlink.HEADER.pack(16 + len(body), 24, 2, number, 0) + body + bytes(-len(body) % 4)
        for number, body in enumerate([b"", b"one", b"four"])
    )
    assert list(netlink.messages(datagram)) == [
        (24, 2, 0, b""),
        (24, 2, 1, b"one"),
        (24, 2, 2, b"four"),
    ]


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_parsers(data: bytes) -> None:
    for parser in (netlink.attributes, lambda raw: list(netlink.messages(raw))):
        try:
            parser(data)
        except ProtocolError:
            continue


def test_a_straight_route_as_the_kernel_wants_it() -> None:
    packed = route.message(Route(prefix("198.19.3.77/24"), 7))
    main_boot_link_unicast = bytes([2, 24, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0])
    destination = struct.pack("=HH", 8, 1) + bytes([198, 19, 3, 0])  # no host bits
    interface = struct.pack("=HHI", 8, 4, 7)
    assert packed == main_boot_link_unicast + destination + interface


def test_a_high_table_goes_into_an_attribute() -> None:
    packed = route.message(Route(prefix("::/0"), 7, table=51820))
    assert route.RTMSG.unpack_from(packed)[4] == 0
    assert netlink.attributes(packed, 12)[route.TABLE] == struct.pack("=I", 51820)
    assert netlink.attributes(packed, 12)[route.DST] == bytes(16)


ADDRESSES = st.one_of(
    st.builds(Prefix, st.just(4), st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.builds(Prefix, st.just(6), st.integers(0, 2**128 - 1), st.integers(0, 128)),
)


@given(
    ADDRESSES,
    st.integers(1, 2**31 - 1),
    st.integers(1, 2**32 - 1),
    st.none() | st.integers(68, 65535),
    st.none() | st.sampled_from(["192.0.2.1", "2001:db8::1"]),
)
def test_what_is_packed_is_what_is_parsed(
    network: Prefix, ifindex: int, table: int, mtu: int | None, gateway: str | None
) -> None:
    if gateway == "192.0.2.1" and network.version == 6:
        gateway = None
    wanted = Route(network.network, ifindex, gateway, table, mtu=mtu)
    seen = route.parse(route.message(wanted._replace(prefix=network)))
    assert seen is not None
    assert seen.route == wanted


def test_a_scoped_gateway_names_its_interface() -> None:
    seen = route.parse(route.message(Route(prefix("2001:db8::/32"), gateway="fe80::1%9")))
    assert seen is not None
    assert (seen.route.gateway, seen.route.ifindex) == ("fe80::1", 9)


def test_a_gateway_that_is_no_address_is_an_oserror() -> None:
    with pytest.raises(OSError, match="illegal"):
        route.message(Route(prefix("198.19.3.0/24"), gateway="example.org"))


@pytest.mark.parametrize("kind", [2, 3, 5, 7, 8])
def test_local_broadcast_multicast_unreachable_and_prohibit_are_no_routes(kind: int) -> None:
    assert route.parse(route.RTMSG.pack(2, 0, 0, 0, 254, 2, 0, kind, 0)) is None


def test_the_first_living_nexthop_of_several_counts() -> None:
    def hop(flags: int, ifindex: int, gateway: str) -> bytes:
        packed = netlink.attribute(route.GATEWAY, ipaddress.ip_address(gateway).packed)
        return route.NEXTHOP.pack(8 + len(packed), flags, 0, ifindex) + packed

    header = route.RTMSG.pack(2, 0, 0, 0, 254, 3, 0, 1, 0)
    hops = hop(route.DEAD, 3, "192.0.2.3") + hop(0, 4, "192.0.2.4") + hop(0, 5, "192.0.2.5")
    seen = route.parse(header + netlink.attribute(route.MULTIPATH, hops))
    assert seen is not None
    assert (seen.route.gateway, seen.route.ifindex, seen.flags) == ("192.0.2.4", 4, 0)
    all_dead = hop(route.DEAD, 3, "192.0.2.3") + hop(route.DEAD, 4, "192.0.2.4")
    seen = route.parse(header + netlink.attribute(route.MULTIPATH, all_dead))
    assert seen is not None
    assert seen.flags & route.DEAD


def test_a_tap_is_not_a_tun() -> None:
    info = netlink.attribute(link.LINKINFO, netlink.attribute(link.INFO_KIND, b"tun\0"))
    name = netlink.attribute(link.IFNAME, b"tap0\0") + netlink.attribute_u32(link.MTU, 1500)
    ethernet = link.IFINFOMSG.pack(0, 1, 4, link.IFF_UP, 0)
    assert link.parse(ethernet + name + info) == link.Link("tap0", 4, "tap", up=True, mtu=1500)
    plain = link.IFINFOMSG.pack(0, link.ARPHRD_NONE, 4, 0, 0)
    assert link.parse(plain + name + info).kind == "tun"


def test_a_refusal_names_call_subject_and_errno() -> None:
    error = netlink.failure("RTM_NEWLINK", "wg0", errno.EINVAL)
    assert isinstance(error, OSFailureError)
    assert (error.call, error.subject, error.errno) == ("RTM_NEWLINK", "wg0", errno.EINVAL)
    denied = netlink.failure("RTM_NEWLINK", "wg0", errno.EPERM)
    assert isinstance(denied, NotPermittedError)
    assert "CAP_NET_ADMIN" in denied.cure
