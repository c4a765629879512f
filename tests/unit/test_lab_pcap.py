"""Capture files, byte by byte."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.errors import ProtocolError
from wgsvc.lab import pcap
from wgsvc.lab.packets import Frame


def test_bytes_of_a_file() -> None:
    data = pcap.encode([Frame(1_700_000_000_123_456_789, b"\x01" * 60)])
    header = "4d3cb2a1 0200 0400 00000000 00000000 ffff0000 01000000"
    assert data[:24] == bytes.fromhex(header)
    assert struct.unpack("<IIII", data[24:40]) == (1_700_000_000, 123_456_789, 60, 60)
    assert data[40:] == b"\x01" * 60


@given(
    st.lists(
        st.builds(Frame, st.integers(0, (1 << 32) * 10**9 - 1), st.binary(max_size=200)), max_size=9
    )
)
def test_what_is_written_is_read(frames: list[Frame]) -> None:
    assert pcap.decode(pcap.encode(frames)) == frames


@pytest.mark.parametrize("order", ["<", ">"])
def test_microseconds_of_either_byte_order(order: str) -> None:
    data = struct.pack(order + "IHHiIII", pcap.MAGIC_MICROSECONDS, 2, 4, 0, 0, 262144, 1)
    data += struct.pack(order + "IIII", 7, 5, 2, 2) + b"ab"
    assert pcap.decode(data) == [Frame(7_000_005_000, b"ab")]


def test_packet_cut_off_at_the_end_is_left_out() -> None:
    data = pcap.encode([Frame(1, b"whole"), Frame(2, b"cut off")])
    assert pcap.decode(data[:-1]) == [Frame(1, b"whole")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x0a\x0d\x0d\x0a" + bytes(40), id="pcapng"),
        pytest.param(pcap.encode([])[:20], id="short header"),
        pytest.param(pcap.encode([])[:20] + b"\x71\0\0\0", id="not Ethernet"),
    ],
)
def test_what_is_no_capture_file_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        pcap.decode(data)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    os.symlink(tmp_path / "victim", tmp_path / "link")
    with pytest.raises(OSError, match="link"):
        pcap.write(str(tmp_path / "link"), [])
    assert not (tmp_path / "victim").exists()
