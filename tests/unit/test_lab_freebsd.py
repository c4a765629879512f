"""What the lab reads on FreeBSD: bpf buffers, netstat and sockstat."""

from __future__ import annotations

import struct

from wgsvc.lab.freebsd_capture import BIOCSETIF, parse
from wgsvc.lab.freebsd_hosts import _addressing, _cables
from wgsvc.lab.freebsd_snapshot import _interfaces, _ports, routes_of

NETSTAT = """\
Routing tables

Internet:
Destination        Gateway            Flags   Nhop#    Mtu      Netif Expire
default            172.31.1.1         UGS         6   1500  vi1_vpnr1
192.168.2.0/24     link#5             US          8   1420        wg0
"""
NETSTAT_12 = """\
Destination        Gateway            Flags       Use    Mtu      Netif Expire
192.168.2.0/24     wg0                US            0   1420        wg0
"""
SOCKSTAT = """\
USER     COMMAND    PID   FD PROTO  LOCAL ADDRESS         FOREIGN ADDRESS
root     wireguard- 751   13 udp4   *:51820               *:*
root     sshd       600   4  tcp6   *:22                  *:*
"""


def record(payload: bytes, seconds: int) -> bytes:
    header = struct.pack("@qqIIH", seconds, 5, len(payload), len(payload), 26)
    return (header + payload).ljust(-(-(26 + len(payload)) // 8) * 8, b"\0")


def test_frames_of_a_bpf_buffer_are_found_behind_their_padding() -> None:
    data = record(b"a" * 42, 1) + record(b"b" * 61, 2) + record(b"c", 3)
    frames = parse(data)
    assert [frame.data for frame in frames] == [b"a" * 42, b"b" * 61, b"c"]
    assert frames[1].time_ns == 2_000_005_000
    assert parse(b"") == []


def test_the_ioctl_is_the_kernels() -> None:
    # _IOW('B', 108, struct ifreq): net/bpf.h
    assert 0x80000000 | 32 << 16 | ord("B") << 8 | 108 == BIOCSETIF


def test_routes_of_either_release() -> None:
    assert routes_of(NETSTAT) == [
        ("default", "172.31.1.1", "vi1_vpnr1"),
        ("192.168.2.0/24", "link#5", "wg0"),
    ]
    assert routes_of(NETSTAT_12) == [("192.168.2.0/24", "wg0", "wg0")]


def test_sockets_of_these_processes_only() -> None:
    assert _ports(SOCKSTAT, None) == {"udp4 port 51820", "tcp6 port 22"}
    assert _ports(SOCKSTAT, {751}) == {"udp4 port 51820"}


def test_interfaces_with_their_addresses() -> None:
    shown = "wg0: flags=8043<UP> metric 0 mtu 1420\n\tinet 10.0.0.1 netmask 0xff\nlo0: flags=8\n"
    assert _interfaces(shown) == {"wg0 10.0.0.1", "lo0"}


def test_every_cable_is_silent_before_it_is_up() -> None:
    for script in (_cables(), _addressing("vpnr1")):
        lines = script.splitlines()
        ups = [line for line in lines if line.endswith(" up") and "_" in line]
        assert ups
        for line in ups:
            name = line.split()[1]
            silent = lines.index(f"ifconfig {name} inet6 -auto_linklocal ifdisabled")
            assert silent < lines.index(line)
