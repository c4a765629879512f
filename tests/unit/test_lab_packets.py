"""What the laboratory reads from frames, on bytes."""

from __future__ import annotations

import struct

import pytest

from wgsvc.lab.network import PATTERN
from wgsvc.lab.packets import Frame, Seen, hex_line, message_type, parse_ipv4, summarize
from wgsvc.lab.wire import inside_is_readable, only_ciphertext

ENDPOINTS = ("172.31.1.11", "172.31.2.11")
PORT = 51820
MAC = bytes(12)


def packed(address: str) -> bytes:
    return bytes(int(octet) for octet in address.split("."))


def ipv4(source: str, target: str, protocol: int, body: bytes, options: bytes = b"") -> bytes:
    length = 20 + len(options)
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x40 | length // 4,
        0,
        length + len(body),
        0,
        0,
        64,
        protocol,
        0,
        packed(source),
        packed(target),
    )
    return MAC + b"\x08\x00" + header + options + body


def udp(payload: bytes, source_port: int = PORT, target_port: int = PORT) -> bytes:
    return struct.pack(">HHHH", source_port, target_port, 8 + len(payload), 0) + payload


def message(kind: int, length: int) -> bytes:
    return bytes([kind, 0, 0, 0]).ljust(length, b"\xaa")


def seen(*frames: bytes) -> Seen:
    return summarize([Frame(0, data) for data in frames], ENDPOINTS, PORT)


CIPHERTEXT = [
    ipv4(*ENDPOINTS, 17, udp(message(1, 148))),
    ipv4(*ENDPOINTS[::-1], 17, udp(message(2, 92))),
    ipv4(*ENDPOINTS, 17, udp(message(4, 128))),
    ipv4(*ENDPOINTS[::-1], 17, udp(message(4, 32))),  # a keepalive
]


def test_only_messages_between_the_endpoints_is_ciphertext() -> None:
    found = seen(*CIPHERTEXT)
    assert found.only_ciphertext
    assert found.messages == {1: 1, 2: 1, 4: 2}
    assert found.directions == {ENDPOINTS, ENDPOINTS[::-1]}


def test_arp_is_no_ip() -> None:
    found = seen(*CIPHERTEXT, MAC + b"\x08\x06" + bytes(28))
    assert found.only_ciphertext
    assert found.arp == 1


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(ipv4("192.168.1.11", "192.168.2.11", 1, b"\x08\0" + PATTERN), id="ping"),
        pytest.param(ipv4(*ENDPOINTS, 1, b"\x03\x03\0\0"), id="port unreachable"),
        pytest.param(ipv4(*ENDPOINTS, 17, udp(message(3, 64))), id="cookie reply"),
        pytest.param(ipv4(*ENDPOINTS, 17, udp(message(5, 64))), id="unknown message"),
        pytest.param(ipv4(*ENDPOINTS, 17, udp(message(1, 149))), id="initiation of odd length"),
        pytest.param(ipv4(*ENDPOINTS, 17, udp(b"\4\0\0\1" + bytes(60))), id="reserved bytes set"),
        pytest.param(ipv4(*ENDPOINTS, 17, udp(message(4, 64), 53, 53)), id="other ports"),
        pytest.param(ipv4("172.31.1.1", ENDPOINTS[1], 17, udp(message(4, 64))), id="other sender"),
        pytest.param(ipv4(ENDPOINTS[0], ENDPOINTS[0], 17, udp(message(4, 64))), id="to itself"),
        pytest.param(ipv4(*ENDPOINTS, 6, bytes(40)), id="TCP"),
        pytest.param(ipv4(*ENDPOINTS, 4, bytes(40)), id="IP in IP"),
        pytest.param(MAC + b"\x86\xdd" + bytes(60), id="IPv6"),
        pytest.param(MAC + b"\x08\x00\x45", id="cut short"),
        pytest.param(ipv4(*ENDPOINTS, 17, udp(b"\4\0\0\0".ljust(64) + PATTERN)), id="pattern"),
        pytest.param(
            ipv4(*ENDPOINTS, 17, udp(b"\4\0\0\0" + PATTERN.ljust(60))), id="pattern in a message"
        ),
        pytest.param(MAC + b"\x08\x06" + PATTERN, id="pattern in ARP"),
    ],
)
def test_anything_else_on_the_wire_is_named(frame: bytes) -> None:
    found = seen(*CIPHERTEXT, frame)
    assert not found.only_ciphertext
    assert found.icmp_clear or found.strange or found.pattern


def test_silence_is_no_ciphertext() -> None:
    assert not seen().only_ciphertext


def test_ip_options_and_padding_are_no_payload() -> None:
    data = ipv4(*ENDPOINTS, 17, udp(message(4, 32)), options=b"\1\1\1\0") + b"padding"
    found = parse_ipv4(data)
    assert found is not None
    assert (found.source_port, found.target_port) == (PORT, PORT)
    assert message_type(found.payload) == 4


def test_pattern_is_found_in_a_ping() -> None:
    body = b"\x08\0\0\0\0\0\0\0" + (PATTERN * 12)[:56]
    found = seen(ipv4("172.31.1.11", "172.31.2.1", 1, body))
    assert found.pattern == 1
    assert found.icmp_clear == ("172.31.1.11 > 172.31.2.1: ICMP echo request",)


def test_hex_line_shows_the_pattern() -> None:
    frame = Frame(0, ipv4(*ENDPOINTS, 1, bytes(10) + PATTERN * 8))
    assert hex_line(frame, PATTERN) == (
        "0x0020:  4149 4e50 4c41 494e 504c 4149 4e50 4c41  AINPLAINPLAINPLA"
    )
    assert hex_line(Frame(0, ipv4(*ENDPOINTS, 17, udp(bytes(8))))).endswith("  .....l.l........")


def frames(*datas: bytes) -> list[Frame]:
    return [Frame(0, data) for data in datas]


def test_verdict_on_the_wire() -> None:
    good = frames(*CIPHERTEXT)
    assert only_ciphertext({"vi1_r1": good, "vi2_r1": good}).passed
    leak = frames(*CIPHERTEXT, ipv4("192.168.1.11", "192.168.2.11", 1, b"\x08\0" + PATTERN * 3))
    verdict = only_ciphertext({"vi1_r1": good, "vi2_r1": leak})
    assert not verdict.passed
    assert verdict.measured == (
        "vi1_r1: type 1: 1, type 2: 1, type 4: 2, PLAIN: 0; "
        "vi2_r1: type 1: 1, type 2: 1, type 4: 2, ICMP in clear: 1, PLAIN: 1"
    )


def test_lost_frames_and_one_way_traffic_prove_nothing() -> None:
    good = frames(*CIPHERTEXT)
    assert not only_ciphertext({"vi1_r1": good}, dropped=1).passed
    assert not only_ciphertext({"vi1_r1": [good[0], good[2]]}).passed
    assert not only_ciphertext({"vi1_r1": []}).passed


def test_site_2_has_to_read_what_site_1_sent() -> None:
    ping = b"\x08\0" + PATTERN * 3
    assert inside_is_readable(frames(ipv4("192.168.1.11", "192.168.2.11", 1, ping))).passed
    assert not inside_is_readable(frames(ipv4("192.168.2.11", "192.168.1.11", 1, ping))).passed
