"""What is written to wireguard-go's socket: every line of it, and nothing that is no value."""

from __future__ import annotations

import pytest

from wgsvc.errors import WgsvcError
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange, encode
from wgsvc.values import Endpoint, Prefix, SecretKey

KEY, OTHER = bytes([0xAB]) * 32, bytes([0x01]) * 32
FOUR, SIX = Prefix(4, 10 << 24, 8), Prefix(6, 0xFD << 120, 64)


def of(change: PeerChange) -> list[str]:
    """Return the lines of one peer, without those that every request has."""
    text = encode(DeviceChange(peers=(change,))).decode()
    assert text.endswith("\n\n")
    lines = text[:-2].split("\n")
    assert lines[:2] == ["set=1", f"public_key={change.public_key.hex()}"]
    return lines[2:]


def test_a_change_of_nothing_is_the_bare_request() -> None:
    assert encode(DeviceChange()) == b"set=1\n\n"


def test_all_of_a_device() -> None:
    change = DeviceChange(
        private_key=SecretKey(OTHER), listen_port=51820, fwmark=7, replace_peers=True
    )

    assert encode(change).decode() == (
        f"set=1\nprivate_key={OTHER.hex()}\nlisten_port=51820\nfwmark=7\nreplace_peers=true\n\n"
    )


def test_nought_is_a_value_and_none_is_no_line() -> None:
    zero = encode(DeviceChange(private_key=SecretKey(NO_KEY), listen_port=0, fwmark=0))

    assert zero.decode() == f"set=1\nprivate_key={'00' * 32}\nlisten_port=0\nfwmark=0\n\n"


def test_all_of_a_peer_in_an_order_that_wireguard_go_takes() -> None:
    """`update_only` must come before what it decides about; single AllowedIPs after `replace`."""
    change = PeerChange(
        KEY,
        update_only=True,
        preshared_key=OTHER,
        endpoint=Endpoint("192.0.2.1", 9),
        keepalive_s=25,
        replace_allowed_ips=True,
        allowed_ips=(FOUR, SIX),
        dropped_ips=(Prefix(4, 11 << 24, 8),),
    )

    assert of(change) == [
        "update_only=true",
        f"preshared_key={OTHER.hex()}",
        "endpoint=192.0.2.1:9",
        "persistent_keepalive_interval=25",
        "replace_allowed_ips=true",
        "allowed_ip=10.0.0.0/8",
        "allowed_ip=fd00::/64",
        "allowed_ip=-11.0.0.0/8",
    ]


def test_of_a_peer_only_what_changes_is_said() -> None:
    assert of(PeerChange(KEY)) == []
    assert of(PeerChange(KEY, keepalive_s=0)) == ["persistent_keepalive_interval=0"]
    assert of(PeerChange(KEY, preshared_key=NO_KEY)) == [f"preshared_key={'00' * 32}"]


def test_of_a_removed_peer_nothing_else_is_said() -> None:
    """A line after `remove=true` would make the peer anew."""
    change = PeerChange(KEY, remove=True, update_only=True, keepalive_s=5, allowed_ips=(FOUR,))

    assert of(change) == ["remove=true"]


def test_peers_come_in_their_order() -> None:
    text = encode(DeviceChange(peers=(PeerChange(OTHER), PeerChange(KEY)))).decode()

    assert text == f"set=1\npublic_key={OTHER.hex()}\npublic_key={KEY.hex()}\n\n"


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_is_refused(size: int) -> None:
    short = b"k" * size
    for change in (
        DeviceChange(private_key=SecretKey(short)),
        DeviceChange(peers=(PeerChange(short),)),
        DeviceChange(peers=(PeerChange(KEY, preshared_key=short),)),
    ):
        with pytest.raises(WgsvcError, match=f"a key of {size} bytes"):
            encode(change)


@pytest.mark.parametrize(
    "host", ["", "%em0", "vpn.example.org", "192.0.2.1 ", "1\n2", "g::1", "X::1"]
)
def test_an_endpoint_that_is_a_name_is_refused(host: str) -> None:
    with pytest.raises(WgsvcError, match="not numeric"):
        encode(DeviceChange(peers=(PeerChange(KEY, endpoint=Endpoint(host, 1)),)))


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "2001:DB8::a", "fe80::1%em0", "0123456789.abcdefAB:"]
)
def test_a_numeric_endpoint_is_sent_as_it_is(host: str) -> None:
    endpoint = Endpoint(host, 9)

    assert of(PeerChange(KEY, endpoint=endpoint)) == [f"endpoint={endpoint}"]


@pytest.mark.parametrize(
    "scope",
    ["em0\nprivate_key=00", "em0\n", "em0\r", "em\x1b[2J", "em\0", "em\x7f", "emü", "em\x85"],
)
def test_no_control_character_of_a_scope_reaches_the_socket(scope: str) -> None:
    """A scope is the one text of a request with any letters; a line end would begin a new line."""
    endpoint = Endpoint(f"fe80::1%{scope}", 1)

    with pytest.raises(WgsvcError, match="control character"):
        encode(DeviceChange(peers=(PeerChange(KEY, endpoint=endpoint),)))
