"""
What was seen on a wire: Ethernet frames in, a summary out. Pure.

Everything that is not plainly a WireGuard message between two known endpoints is
named, so that nothing can pass unseen because the parser did not understand it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from wgsvc.lab.network import PATTERN

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
PROTOCOL_ICMP = 1
PROTOCOL_UDP = 17
ICMP_ECHO = {0: "echo reply", 8: "echo request"}

# Length of each message on the wire (WireGuard protocol, section 5.4: initiation,
# response, cookie reply are of fixed size, transport data is 32 bytes + a multiple of 16).
MESSAGE_NAMES = {1: "handshake initiation", 2: "handshake response", 4: "transport data"}
_FIXED_LENGTHS = {1: 148, 2: 92, 3: 64}
_TRANSPORT_OVERHEAD = 32


class Frame(NamedTuple):
    """One captured Ethernet frame; `time_ns` since the epoch."""

    time_ns: int
    data: bytes


class Datagram(NamedTuple):
    """The IPv4 packet inside a frame, as far as a reader of the wire sees it."""

    protocol: int
    source: str
    target: str
    source_port: int  # 0 unless UDP
    target_port: int
    payload: bytes  # of UDP or ICMP (with the ICMP header)


class Seen(NamedTuple):
    """What a capture holds."""

    frames: int
    arp: int
    icmp_clear: tuple[str, ...]  # one line for each ICMP packet, whatever it carries
    messages: dict[int, int]  # WireGuard message type -> how many, between the endpoints
    directions: frozenset[tuple[str, str]]  # who sent WireGuard messages to whom
    strange: tuple[str, ...]  # everything else, one line each
    pattern: int  # frames that hold the pattern, of whatever kind

    @property
    def only_ciphertext(self) -> bool:
        """Whether there were WireGuard messages, no other IP, and the pattern nowhere."""
        return bool(self.messages) and not (self.icmp_clear or self.strange or self.pattern)


def _ipv4_text(packed: bytes) -> str:
    return ".".join(str(octet) for octet in packed)


def parse_ipv4(data: bytes) -> Datagram | None:
    """Return the IPv4 packet of a frame; None if it holds none or a broken one."""
    if len(data) < 34 or int.from_bytes(data[12:14], "big") != ETHERTYPE_IPV4:
        return None
    header_length = (data[14] & 15) * 4
    total_length = int.from_bytes(data[16:18], "big")
    if data[14] >> 4 != 4 or header_length < 20 or total_length < header_length:
        return None
    packet = data[14 : 14 + total_length]  # without the padding of a short frame
    body = packet[header_length:]
    protocol, source, target = packet[9], _ipv4_text(packet[12:16]), _ipv4_text(packet[16:20])
    if protocol == PROTOCOL_UDP and len(body) >= 8:
        ports = int.from_bytes(body[0:2], "big"), int.from_bytes(body[2:4], "big")
        return Datagram(protocol, source, target, *ports, body[8:])
    return Datagram(protocol, source, target, 0, 0, body)


def message_type(payload: bytes) -> int | None:
    """
    Return the type of a WireGuard message, None if these bytes can't be one.

    Type, three zero bytes, and a length that fits the type (WireGuard paper, 5.4).
    """
    if len(payload) < _TRANSPORT_OVERHEAD or payload[1:4] != b"\0\0\0":
        return None
    kind = payload[0]
    if kind in _FIXED_LENGTHS:
        return kind if len(payload) == _FIXED_LENGTHS[kind] else None
    return kind if kind == 4 and len(payload) % 16 == 0 else None


def summarize(frames: Iterable[Frame], endpoints: tuple[str, str], port: int) -> Seen:
    """
    Say what these frames are, seen from somebody who only knows the two endpoints.

    `endpoints` are the outside addresses of the two VPN routers, `port` their UDP port.
    """
    count = arp = pattern = 0
    icmp: list[str] = []
    strange: list[str] = []
    messages: Counter[int] = Counter()
    directions: set[tuple[str, str]] = set()
    for frame in frames:
        count += 1
        pattern += PATTERN in frame.data
        ethertype = int.from_bytes(frame.data[12:14], "big")
        if ethertype == ETHERTYPE_ARP:
            arp += 1
            continue
        datagram = parse_ipv4(frame.data)
        if datagram is None:
            strange.append(f"ethertype 0x{ethertype:04x}, {len(frame.data)} bytes")
            continue
        way = f"{datagram.source} > {datagram.target}"
        if datagram.protocol == PROTOCOL_ICMP and datagram.payload:
            kind = datagram.payload[0]
            icmp.append(f"{way}: ICMP {ICMP_ECHO.get(kind, f'type {kind}')}")
            continue
        kind_of_message = _message_between(datagram, endpoints, port)
        if kind_of_message in MESSAGE_NAMES:
            messages[kind_of_message] += 1
            directions.add((datagram.source, datagram.target))
        else:
            strange.append(_strange_line(datagram, way))
    return Seen(
        count, arp, tuple(icmp), dict(messages), frozenset(directions), tuple(strange), pattern
    )


def _message_between(datagram: Datagram, endpoints: tuple[str, str], port: int) -> int:
    """Return the message type (1, 2, 3 or 4), 0 if it is none between these endpoints."""
    if (
        datagram.protocol != PROTOCOL_UDP
        or {datagram.source, datagram.target} != set(endpoints)
        or (datagram.source_port, datagram.target_port) != (port, port)
    ):
        return 0
    return message_type(datagram.payload) or 0


def _strange_line(datagram: Datagram, way: str) -> str:
    if datagram.protocol == PROTOCOL_UDP:
        ports = f"{datagram.source_port} > {datagram.target_port}"
        return f"{way}: UDP {ports}, {len(datagram.payload)} bytes"
    return f"{way}: IP protocol {datagram.protocol}"


def hex_line(frame: Frame, find: bytes = b"") -> str:
    """
    Return 16 bytes of a frame's IP packet as tcpdump -X shows them.

    A line that holds `find`, if the frame does; else the last full line.
    """
    packet = frame.data[14:]
    at = packet.find(find) if find else -1
    start = at if at >= 0 else max(0, len(packet) - 16)
    if find and find in packet[(start + 15) & ~15 :][:16]:
        start += 15  # a line full of the pattern rather than the one where it begins
    start &= ~15
    row = packet[start : start + 16]
    pairs = " ".join(row[index : index + 2].hex() for index in range(0, len(row), 2))
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
    return f"0x{start:04x}:  {pairs:<39}  {text}"
