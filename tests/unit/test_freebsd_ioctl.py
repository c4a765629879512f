"""ioctl codes, structure sizes and packed arguments, byte by byte."""

from __future__ import annotations

import struct

import pytest

from wgsvc.errors import OSFailureError, UnavailableError
from wgsvc.system.freebsd import ioctl, process, rtsock
from wgsvc.values import Prefix

# Computed from the headers of 13.2 and accepted by a 13.2 and a 15 kernel.
CODES = {
    "SIOCIFCREATE2": 0xC020697C,
    "SIOCIFDESTROY": 0x80206979,
    "SIOCIFGCLONERS": 0xC0106978,
    "SIOCSIFNAME": 0x80206928,
    "SIOCSIFDESCR": 0x80206929,
    "SIOCGIFDESCR": 0xC020692A,
    "SIOCGIFFLAGS": 0xC0206911,
    "SIOCSIFFLAGS": 0x80206910,
    "SIOCGIFINDEX": 0xC0206920,
    "SIOCSIFMTU": 0x80206934,
    "SIOCAIFADDR": 0x8044692B,
    "SIOCDIFADDR": 0x80206919,
    "SIOCAIFADDR_IN6": 0x8088691B,
    "SIOCDIFADDR_IN6": 0x81206919,
    "SIOCGIFINFO_IN6": 0xC048696C,
    "SIOCSIFINFO_IN6": 0xC048696D,
    "SIOCAIFGROUP": 0x80286987,
    "SIOCGIFSTATUS": 0xC331693B,
    "TUNSIFMODE": 0x8004745E,
    "TUNSIFHEAD": 0x80047460,
    "TUNSTRANSIENT": 0x80047462,
}


def requests() -> dict[str, int]:
    found = (value for value in vars(ioctl).values() if isinstance(value, ioctl.Request))
    return {request.name: request.code for request in found}


def test_codes() -> None:
    assert requests() == CODES


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (rtsock.RT_MSGHDR, 152),
        (rtsock.IFA_MSGHDR, 20),
        (rtsock.IF_ANNOUNCEMSGHDR, 24),
        (rtsock.SOCKADDR_DL, 54),
        (process.KINFO_PROC, 1088),
        (process.XUCRED, 88),
        (ioctl.IN_ALIASREQ, 68),
        (ioctl.IN6_ALIASREQ, 136),
        (ioctl.IN6_IFREQ, 288),
        (ioctl.IN6_NDIREQ, 72),
        (ioctl.IFGROUPREQ, 40),
        (ioctl.IFSTAT, 817),
    ],
)
def test_sizes(layout: struct.Struct, size: int) -> None:
    assert layout.size == size


def test_a_32_bit_kernel_is_refused_with_a_reason() -> None:
    with pytest.raises(UnavailableError, match="32 bits") as caught:
        ioctl.check_platform(pointer_bytes=4)
    assert "amd64" in caught.value.cure


def test_an_ipv4_alias() -> None:
    assert ioctl.alias_request("wg0", Prefix(4, 0xC0A8DE01, 24)) == (
        b"wg0".ljust(16, b"\0")
        + bytes.fromhex("10020000c0a8de010000000000000000")
        + bytes(16)  # the broadcast address is for the kernel to fill in
        + bytes.fromhex("10020000ffffff000000000000000000")
        + bytes(4)
    )


def test_an_ipv6_alias() -> None:
    address = 0xFD000222 << 96 | 1
    assert ioctl.alias_request("wg0", Prefix(6, address, 64)) == (
        b"wg0".ljust(16, b"\0")
        + bytes.fromhex("1c1c000000000000fd00022200000000000000000000000100000000")
        + bytes(28)
        + bytes.fromhex("1c1c000000000000ffffffffffffffff000000000000000000000000")
        + bytes.fromhex("20000000")  # no duplicate address detection
        + bytes(16)
        + bytes.fromhex("ffffffffffffffff")  # for ever
        + bytes(8)
    )


def test_a_deletion_names_the_address_at_16() -> None:
    packed = ioctl.delete_address_request("wg0", Prefix(4, 0xC0A8DE01, 24))
    assert packed[16:] == bytes.fromhex("10020000c0a8de010000000000000000")
    packed = ioctl.delete_address_request("wg0", Prefix(6, 1, 128))
    assert packed[16:44] == bytes.fromhex("1c1c" + "00" * 21 + "01" + "00" * 4)
    assert len(packed) == 288


@pytest.mark.parametrize("name", ["", "sixteen-bytes-xx", "wg\0x", "wg0-äöüäöü"])
def test_an_impossible_name_never_reaches_the_kernel(name: str) -> None:
    with pytest.raises(OSFailureError):
        ioctl.packed_name(name)


def test_the_longest_name_has_15_bytes() -> None:
    assert ioctl.packed_name("fifteen-bytes-x") == b"fifteen-bytes-x"
