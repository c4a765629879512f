"""wireguard-go's answers into values; whatever comes, no key is in an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.errors import OSFailureError, ProtocolError
from wgsvc.uapi.parse import DeviceState, PeerState, endpoint_of, parse_device, prefix_of
from wgsvc.values import Endpoint, Prefix, SecretKey

ONE = b"public_key=%s\nallowed_ip=10.0.0.0/24\n" % (b"01" * 32)
TWO = b"public_key=%s\nrx_bytes=%d\nallowed_ip=fd00::/64\nallowed_ip=10.1.2.3/32\n"


def test_all_of_a_device() -> None:
    answer = (
        b"private_key=" + b"0a" * 32 + b"\nlisten_port=51820\nfwmark=32\n"
        b"public_key=" + b"02" * 32 + b"\npreshared_key=" + b"00" * 32 + b"\n"
        b"protocol_version=1\nendpoint=[fe80::1%eth0]:9\nlast_handshake_time_sec=5\n"
        b"last_handshake_time_nsec=500000000\ntx_bytes=7\nrx_bytes=8\n"
        b"persistent_keepalive_interval=25\nsomething_new=1\n" + ONE + b"errno=0\n\n"
    )

    device = parse_device(answer, "wg0")

    assert (device.listen_port, device.fwmark) == (51820, 32)
    assert device.private_key == b"\x0a" * 32
    first, second = device.peers
    assert first.preshared_key is None
    assert first.endpoint == Endpoint("fe80::1%eth0", 9)
    assert first.last_handshake_s == 5.5
    assert (first.tx_bytes, first.rx_bytes, first.keepalive_s) == (7, 8, 25)
    assert first.allowed_ips == ()
    assert second.allowed_ips == (Prefix(4, 10 << 24, 24),)


def test_a_device_with_nothing_but_peers() -> None:
    device = parse_device(ONE + b"errno=0\n\n", "wg0")

    assert (device.private_key, device.listen_port, len(device.peers)) == (None, 0, 1)
    assert parse_device(b"errno=0\n\n", "wg0").peers == ()


def test_a_peer_whose_lines_are_the_same_is_the_same() -> None:
    first = parse_device(b"listen_port=7\n" + ONE + TWO % (b"02" * 32, 1) + b"errno=0\n\n", "x")

    second = parse_device(
        b"listen_port=8\n" + TWO % (b"02" * 32, 2) + ONE + b"errno=0\n\n", "x", first
    )

    assert second.listen_port == 8
    assert [peer.public_key[0] for peer in second.peers] == [2, 1]
    assert second.peers[1] is first.peers[0]
    assert second.peers[0].rx_bytes == 2


def test_a_peer_of_which_nothing_is_said_has_nothing() -> None:
    bare = parse_device(b"public_key=" + b"01" * 32 + b"\nerrno=0\n\n", "wg0")

    assert bare == DeviceState(
        None, 0, 0, (PeerState(b"\1" * 32, None, None, 0, 0.0, 0, 0, ()),), bare.texts
    )


def test_secrets_are_values_that_are_not_shown() -> None:
    answer = b"private_key=%s\n%spreshared_key=%s\nerrno=0\n\n" % (b"0a" * 32, ONE, b"0b" * 32)

    device = parse_device(answer, "wg0")

    assert device.private_key == SecretKey(b"\x0a" * 32)
    assert device.peers[0].preshared_key == SecretKey(b"\x0b" * 32)
    assert isinstance(device.private_key, SecretKey)
    assert isinstance(device.peers[0].preshared_key, SecretKey)


def test_an_answer_ends_with_one_empty_line_or_more_or_none() -> None:
    for end in (b"", b"\n", b"\n\n", b"\n\n\n"):
        assert parse_device(b"listen_port=7\nerrno=0" + end, "wg0").listen_port == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("192.0.2.1:51820", Endpoint("192.0.2.1", 51820)),
        ("[2001:db8::1]:51820", Endpoint("2001:db8::1", 51820)),
        ("[fe80::1%X]:1", Endpoint("fe80::1%X", 1)),
        ("X:1", Endpoint("X", 1)),
    ],
)
def test_endpoints(text: str, value: Endpoint) -> None:
    assert endpoint_of(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.2.3.4/32", Prefix(4, 0x01020304, 32)),
        ("255.254.253.252/31", Prefix(4, 0xFFFEFDFC, 31)),
        ("0.0.0.0/0", Prefix(4, 0, 0)),
        ("2001:db8::a/64", Prefix(6, 0x20010DB8 << 96 | 10, 64)),
        ("::/0", Prefix(6, 0, 0)),
    ],
)
def test_prefixes(text: str, value: Prefix) -> None:
    assert prefix_of(text) == value


def test_a_state_whose_lines_and_peers_do_not_fit_is_a_bug() -> None:
    """Peers would be taken for one another."""
    one = parse_device(ONE + b"errno=0\n\n", "x")

    with pytest.raises(ValueError, match="zip"):
        parse_device(b"errno=0\n\n", "x", one._replace(texts=()))


@pytest.mark.parametrize("number", [b"98", b"-98"])
def test_an_errno_of_either_sign_is_that_errno(number: bytes) -> None:
    with pytest.raises(OSFailureError) as failure:
        parse_device(b"errno=" + number + b"\n\n", "wg0")

    assert failure.value.errno == 98


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"listen_port=7\n\n",
        b"errno=x\n\n",
        b"errno=0X\n\n",
        b"private_key=" + b"0g" * 32 + b"\nerrno=0\n\n",
        b"public_key=" + b"0g" * 32 + b"\nerrno=0\n\n",
        ONE + b"allowed_ip=10.0.0/24\nerrno=0\n\n",
        ONE + b"\xff\nerrno=0\n\n",
    ],
)
def test_what_is_not_of_the_protocol_is_refused_without_quoting_it(answer: bytes) -> None:
    with pytest.raises(ProtocolError) as failure:
        parse_device(answer, "wg0")

    assert "0g0g" not in failure.value.message


@given(st.binary(max_size=300))
def test_any_bytes_give_a_device_or_an_error(noise: bytes) -> None:
    for answer in (noise, b"public_key=" + noise + b"\nerrno=0\n\n"):
        try:
            parse_device(answer, "wg0")
        except (ProtocolError, OSFailureError):
            continue
