"""Route messages: packed byte by byte, parsed from what real kernels sent."""

from __future__ import annotations

import ipaddress
import os
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.errors import ProtocolError
from wgsvc.system.freebsd import rtsock
from wgsvc.values import Prefix

HERE = os.path.dirname(__file__)
VERSIONS = ("13.2", "15")


@cache
def recorded(version: str) -> dict[str, bytes]:
    with open(os.path.join(HERE, f"freebsd-{version}.messages")) as file:
        pairs = [line.split() for line in file if not line.startswith("#")]
    return {name: bytes.fromhex(text) for name, text in pairs}


def net(version: int, *groups: int, length: int) -> Prefix:
    width = 8 if version == 4 else 16
    count = 4 if version == 4 else 8
    number = 0
    for group in (*groups, *[0] * (count - len(groups))):
        number = number << width | group
    return Prefix(version, number, length)


def summary(message: rtsock.RouteMessage) -> tuple[str, int, str | None, int | None, int]:
    gateway = message.gateway.host if message.gateway else None
    prefix = str(message.prefix)
    return prefix, message.ifindex, gateway, message.gateway_ifindex, message.mtu


# --- packing


def test_a_network_to_an_interface() -> None:
    packed = rtsock.route_message(
        rtsock.RTM_ADD,
        net(4, 10, 88, length=16),
        rtsock.link_sockaddr(2),
        flags=0x801,
        seq=7,
    )
    head = "f00005010000000001080000070000000000000007000000"
    assert packed == (
        bytes.fromhex(head).ljust(152, b"\0")
        + bytes.fromhex("100200000a5800000000000000000000")
        + bytes.fromhex("36120200").ljust(56, b"\0")
        + bytes.fromhex("10020000ffff00000000000000000000")
    )
    assert len(packed) == 240


def test_an_ipv6_network_to_an_interface() -> None:
    packed = rtsock.route_message(
        rtsock.RTM_DELETE, net(6, 0xFD00, 0x88, length=32), rtsock.link_sockaddr(2), flags=1, seq=1
    )
    assert len(packed) == 272
    assert packed[:4] == bytes.fromhex("10010502")
    destination = "1c1c000000000000fd000088" + "00" * 16
    assert packed[152:184] == bytes.fromhex(destination).ljust(32, b"\0")
    mask = "1c1c000000000000ffffffff" + "00" * 16
    assert packed[240:] == bytes.fromhex(mask).ljust(32, b"\0")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_host_is_packed_as_the_one_a_kernel_took(version: str) -> None:
    """Message 4 of the recorded writes was refused, and so came back as it was sent."""
    came_back = recorded(version)["write-4-ADD"]
    packed = rtsock.route_message(
        rtsock.RTM_ADD, net(4, 10, 91, 0, 2, length=32), rtsock.link_sockaddr(2), flags=0x801, seq=4
    )
    assert packed[2:4] == came_back[2:4]
    assert packed[8:16] == came_back[8:16]  # flags, addrs
    assert packed[20:24] == came_back[20:24]  # seq
    assert packed[152:168] == came_back[152:168]  # destination


def test_a_gateway_and_an_mtu() -> None:
    packed = rtsock.route_message(
        rtsock.RTM_ADD,
        net(4, 203, 0, 113, 9, length=32),
        bytes.fromhex("10020000c0a8de090000000000000000"),
        flags=0x803,
        seq=1,
        mtu=1290,
    )
    assert packed[8:16] == bytes.fromhex("0708000003000000")
    assert packed[32:40] == (1).to_bytes(8, "little")  # rtm_inits: RTV_MTU
    assert packed[48:56] == (1290).to_bytes(8, "little")
    assert len(packed) == 184


def test_get_of_a_prefix_has_a_mask_and_of_a_host_none() -> None:
    exact = rtsock.get_message(net(4, length=0), 1, exact=True)
    assert exact[12:16] == bytes.fromhex("15000000")
    assert exact[168:184] == bytes.fromhex("10020000" + "00" * 12)
    best = rtsock.get_message(net(4, 203, 0, 113, 9, length=32), 1, exact=False)
    assert best[12:16] == bytes.fromhex("11000000")


# --- parsing what kernels sent


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("route-add-10.88.0.0_16", ("10.88.0.0/16", 2, None, 2, 1400)),
        ("route-add-fd00:88::_32", ("fd00:88::/32", 2, None, 2, 1400)),
        ("route-add-10.89.0.0_16", ("10.89.0.0/16", 1, "127.0.0.1", None, 16384)),
        ("address-192.168.222.1_24-ADD", ("192.168.222.0/24", 2, None, 2, 0)),
        ("address-192.168.223.1_32-ADD", ("192.168.223.1/32", 1, None, 2, 0)),
        ("write-6-ADD", ("0.0.0.0/0", 2, None, 2, 1400)),
        ("write-7-ADD", ("0.0.0.0/1", 2, None, 2, 1400)),
        ("get-found", ("10.88.0.0/16", 2, None, 2, 1400)),
    ],
)
def test_route_messages(version: str, name: str, expected: object) -> None:
    [(_type, message)] = rtsock.messages(recorded(version)[name])
    assert summary(rtsock.parse_route(message)) == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_refused_says_so(version: str) -> None:
    expected = {"write-4-ADD": 17, "write-5-DELETE": 3, "get-refused": 3, "get-found": 0}
    for name, number in expected.items():
        assert rtsock.parse_route(recorded(version)[name]).errno == number


@pytest.mark.parametrize("version", VERSIONS)
def test_the_blackhole_is_one(version: str) -> None:
    hole = rtsock.parse_route(recorded(version)["route-add-blackhole"])
    assert hole.flags & rtsock.RTF_BLACKHOLE
    assert str(hole.prefix) == "10.90.0.1/32"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dump_of_ipv4(version: str) -> None:
    dump = recorded(version)["NET_RT_DUMP-inet"]
    found = [summary(rtsock.parse_route(message)) for _type, message in rtsock.messages(dump)]
    assert found == [
        ("0.0.0.0/1", 2, None, 2, 1400),
        ("0.0.0.0/0", 2, None, 2, 1400),
        ("10.88.0.0/16", 2, None, 2, 1400),
        ("10.89.0.0/16", 1, "127.0.0.1", None, 16384),
        ("10.90.0.1/32", 1, "127.0.0.1", None, 16384),
        ("10.91.0.1/32", 2, None, 2, 1400),
        ("10.91.0.2/32", 2, None, 2, 1400),
        ("10.93.0.1/32", 2, "192.168.222.9", None, 1400),
        ("127.0.0.1/32", 1, None, 1, 16384),
        ("192.168.222.0/24", 2, None, 2, 1400),
        ("192.168.222.1/32", 1, None, 2, 16384),
        ("192.168.223.1/32", 1, None, 2, 16384),
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_dump_of_ipv6(version: str) -> None:
    dump = recorded(version)["NET_RT_DUMP-inet6"]
    found = [rtsock.parse_route(message).prefix for _type, message in rtsock.messages(dump)]
    expected = [
        "::/96",
        "::1/128",
        "::ffff:0:0/96",
        "fd00:88::/32",
        "fd00:99::/32",
        "fd00:222::/64",
        "fd00:222::1/128",
        "fe80::/10",
        "fe80::/64",
        "fe80::1/128",
        "ff02::/16",
    ]
    networks = map(ipaddress.IPv6Network, expected)
    assert found == [Prefix(6, int(each.network_address), each.prefixlen) for each in networks]


@pytest.mark.parametrize("version", VERSIONS)
def test_interfaces_with_their_addresses(version: str) -> None:
    loopback, tunnel = rtsock.interface_entries(recorded(version)["NET_RT_IFLISTL"])
    assert (loopback.name, loopback.ifindex, loopback.mtu) == ("lo0", 1, 16384)
    assert [str(address) for address in loopback.addresses] == [
        "127.0.0.1/8",
        "::1/128",
        "fe80::1/64",
    ]
    assert (tunnel.name, tunnel.ifindex, tunnel.flags, tunnel.mtu) == ("wg0", 2, 0x8043, 1400)
    assert [str(address) for address in tunnel.addresses] == [
        "192.168.222.1/24",
        "192.168.223.1/32",
        "fd00:222::1/64",
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_links_and_addresses(version: str) -> None:
    messages = recorded(version)
    announced = {
        name: rtsock.parse_link(rtsock.RTM_IFANNOUNCE, messages[name])
        for name in ("create", "rename-departure", "rename-arrival", "destroy")
    }
    assert announced == {
        "create": (2, "tun0"),
        "rename-departure": (2, "tun0"),
        "rename-arrival": (2, "wg0"),
        "destroy": (2, "wg0"),
    }
    assert rtsock.parse_link(rtsock.RTM_IFINFO, messages["mtu-IFINFO"]) == (2, "")
    assert rtsock.parse_address(messages["address-fd00:222::1_64-NEWADDR"]) == (2,)
    assert rtsock.parse_address(messages["down-DELADDR"]) == (2,)


def test_a_mask_cut_short_and_an_empty_one() -> None:
    """Kernels of 12 send masks without their last zero bytes, and none at all for /0."""
    head = rtsock.RT_MSGHDR
    destination = bytes.fromhex("100200000a0000000000000000000000")
    gateway = bytes.fromhex("1012020017000000") + bytes(8)
    for mask, length in (("05000000ff000000", 8), ("0700000000000000", 0), ("00" * 8, 0)):
        tail = destination + gateway + bytes.fromhex(mask)
        message = head.pack(head.size + len(tail), 5, 4, 2, 0, 1, 7, 0, 0, 0, 0, 0, 0, 0) + tail
        found = rtsock.parse_route(message).prefix
        assert found is not None
        assert found.length == length


def test_messages_of_another_version_are_passed_over() -> None:
    message = bytearray(recorded("13.2")["create"])
    message[2] = 6
    assert list(rtsock.messages(bytes(message))) == []


@pytest.mark.parametrize("data", [b"\x18", b"\0\0\5\1", b"\xff\x00\5\1", b"\3\0\5\1"])
def test_wrong_lengths_are_said(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(rtsock.messages(data))


def every_message() -> list[bytes]:
    return [message for version in VERSIONS for message in recorded(version).values()]


@given(st.data())
def test_damaged_messages_never_end_in_anything_but_a_protocol_error(data: st.DataObject) -> None:
    message = bytearray(data.draw(st.sampled_from(every_message()))[:2048])
    for _ in range(data.draw(st.integers(0, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(message[: data.draw(st.integers(0, len(message)))])
    for parse in (
        lambda: [rtsock.parse_route(part) for _type, part in rtsock.messages(damaged)],
        lambda: rtsock.interface_entries(damaged),
        lambda: [rtsock.parse_link(type_, part) for type_, part in rtsock.messages(damaged)],
        lambda: [rtsock.parse_address(part) for _type, part in rtsock.messages(damaged)],
    ):
        try:
            parse()
        except ProtocolError:
            continue
