"""What can't work on this FreeBSD is refused with its cure, and nothing is touched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import TUNNEL, sysctl, why_no_jails
from wgsvc.lab import network

if TYPE_CHECKING:
    from tests.freebsd.conftest import Builder
    from tests.freebsd.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]

FILE = network.CONFIGS["vpnr1"]


def refused(machine: Machine, name: str = TUNNEL) -> tuple[int, str]:
    """Start what can't start; return exit status and text. Nothing may be there afterwards."""
    before = machine.shown()
    done = machine.wgsvc("start", name)
    assert done.code != 0
    machine.nothing_left(before)
    return done.code, done.errors


def test_a_jail_that_hides_tun(builder: Builder) -> None:
    jail = builder.jail("one", hidden=True)
    jail.write(FILE)
    for _ in range(3):  # each look at /dev/tun would leak a tunN here (observed-13.2: 1.13)
        code, said = refused(jail)
        assert code == 69
        assert "hidden from this jail" in said
        assert "path 'tun*' unhide" in said


def test_a_jail_without_a_network_stack(builder: Builder) -> None:
    jail = builder.jail("one", vnet=False)
    jail.write(FILE)
    code, said = refused(jail)
    assert code == 77
    assert "vnet in jail.conf" in said


def test_a_name_that_the_kernel_gives(jail: Machine) -> None:
    jail.write(FILE, "tun77")
    code, said = refused(jail, "tun77")
    assert code == 78
    assert "tun77" in said


def test_the_name_of_another_interface(jail: Machine) -> None:
    jail.write(FILE, "lo0")
    code, said = refused(jail, "lo0")
    assert code == 73
    assert "lo0" in said


def test_a_fib_that_is_not_there(jail: Machine) -> None:
    jail.write(FILE.replace("[Peer]", "Table = 4711\n\n[Peer]"))
    code, said = refused(jail)
    assert code == 69
    assert "4711" in said
    assert "net.fibs" in said


def test_a_port_that_is_taken(jail: Machine) -> None:
    jail.ok("start", TUNNEL)
    jail.write(FILE, "wg1")
    code, said = refused(jail, "wg1")
    assert code == 75
    assert "51820" in said
    assert "sockstat" in said
    jail.ok("stop", TUNNEL)


def test_a_route_that_is_taken_is_rolled_back(jail: Machine) -> None:
    jail.said("route", "add", "-net", "192.168.2.0/24", "127.0.0.1")
    code, said = refused(jail)
    assert code == 71
    assert "192.168.2.0/24" in said
    assert jail.routes()["192.168.2.0/24"][0] == "127.0.0.1"


def test_a_bad_file(jail: Machine) -> None:
    jail.write(FILE.replace("192.168.2.0/24", "192.168.2.0/44"))
    code, said = refused(jail)
    assert code == 78
    assert "wg0.conf:8" in said


def test_wireguard_go_that_ends_at_once(jail: Machine) -> None:
    before = jail.shown()
    done = jail.wgsvc("--set", "wireguard_go=/usr/bin/false", "start", TUNNEL)
    assert done.code == 69
    assert "exited with 1" in done.errors
    jail.nothing_left(before)


@pytest.mark.skipif(sysctl("net.fibs") in ("", "1"), reason="needs net.fibs of 2 or more")
def test_a_fib_of_its_own(builder: Builder) -> None:
    jail = builder.jail("one")
    jail.write(FILE.replace("[Peer]", "Table = 1\n\n[Peer]"))
    before = jail.shown()
    if int(jail.said("sysctl", "-n", "net.fibs")) < 2:
        assert refused(jail)[0] == 69
        return
    jail.ok("start", TUNNEL)
    assert jail.routes(fib=1)["192.168.2.0/24"][1] == TUNNEL
    assert "192.168.2.0/24" not in jail.routes()
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)
