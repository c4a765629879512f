"""
Capture files in the classic pcap format, which every analyser opens.

Layout: draft-ietf-opsawg-pcap (24 bytes of file header, 16 before each packet).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

from wgsvc.errors import ProtocolError
from wgsvc.lab.packets import Frame

MAGIC_NANOSECONDS = 0xA1B23C4D
MAGIC_MICROSECONDS = 0xA1B2C3D4
LINKTYPE_ETHERNET = 1
SNAP_LENGTH_BYTES = 65535
_FILE_HEADER_BYTES = 24
_PACKET_HEADER_BYTES = 16


def encode(frames: Iterable[Frame]) -> bytes:
    """Return a capture file of these frames, little-endian, with nanoseconds."""
    header = struct.pack(
        "<IHHiIII", MAGIC_NANOSECONDS, 2, 4, 0, 0, SNAP_LENGTH_BYTES, LINKTYPE_ETHERNET
    )
    parts = [header]
    for frame in frames:
        kept = frame.data[:SNAP_LENGTH_BYTES]
        seconds, nanoseconds = divmod(frame.time_ns, 1_000_000_000)
        parts.append(struct.pack("<IIII", seconds, nanoseconds, len(kept), len(frame.data)))
        parts.append(kept)
    return b"".join(parts)


def decode(data: bytes) -> list[Frame]:
    """
    Return the frames of a capture file of either byte order and either time unit.

    A packet cut off at the end (tcpdump was stopped while it wrote) is left out.
    Raises: ProtocolError if this is no classic pcap file of Ethernet frames.
    """
    for order in "<>":
        (magic,) = struct.unpack_from(order + "I", data.ljust(4, b"\0"))
        if magic in (MAGIC_NANOSECONDS, MAGIC_MICROSECONDS):
            break
    else:
        raise ProtocolError("not a pcap file")
    if len(data) < _FILE_HEADER_BYTES:
        raise ProtocolError("a pcap file without its header")
    (link_type,) = struct.unpack_from(order + "I", data, 20)
    if link_type & 0xFFFF != LINKTYPE_ETHERNET:
        raise ProtocolError(f"a pcap file of link type {link_type}, not Ethernet")
    unit_ns = 1 if magic == MAGIC_NANOSECONDS else 1000
    frames = []
    position = _FILE_HEADER_BYTES
    while position + _PACKET_HEADER_BYTES <= len(data):
        seconds, fraction, kept, _ = struct.unpack_from(order + "IIII", data, position)
        position += _PACKET_HEADER_BYTES
        if position + kept > len(data):
            break
        time_ns = seconds * 1_000_000_000 + fraction * unit_ns
        frames.append(Frame(time_ns, data[position : position + kept]))
        position += kept
    return frames


def write(path: str, frames: Iterable[Frame]) -> None:
    """Write a capture file; a link in its place is not followed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "wb") as file:
        file.write(encode(frames))
