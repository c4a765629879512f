"""The command on a real FreeBSD kernel, on the host and in VNET jails: up, carrying, down."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import HOST_FILE, TUNNEL, eventually, why_no_jails
from wgsvc.lab import network

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.freebsd.conftest import Builder, Pair
    from tests.freebsd.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]


def test_up_and_down_in_a_jail(jail: Machine) -> None:
    before = jail.shown()
    started = jail.ok("start", TUNNEL)
    assert "[#] ifconfig wg0 inet 192.168.222.1/32 alias" in started.errors
    state = jail.state()
    assert state["state"] == "up"
    assert {child["role"] for child in state["children"]} == {"wireguard-go", "route-monitor"}
    shown = jail.ifconfig()
    assert re.search(r"flags=\w+<UP,BROADCAST,RUNNING,MULTICAST> metric 0 mtu 1420", shown)
    assert re.search(r"groups: tun wireguard\b", shown)
    assert jail.said("wg", "show", "interfaces").split() == [TUNNEL]
    assert "inet 192.168.222.1 netmask 0xffffffff" in shown
    assert "fe80" not in shown
    assert f"Opened by PID {jail.daemon()}" in shown
    assert jail.ports() == ["*:51820"]
    routes = jail.routes()
    assert {routes["192.168.2.0/24"][1], routes["192.168.222.2"][1]} == {TUNNEL}
    assert jail.said("wg", "show", TUNNEL, "listen-port").strip() == "51820"
    assert set(jail.processes()) == {
        jail.supervisor(),
        jail.daemon(),
        jail.child("route-monitor"),
    }
    jail.ok("stop", TUNNEL)
    assert jail.ifconfig() == ""
    jail.nothing_left(before)


@pytest.mark.parametrize(("group", "shown"), [("off", "groups: tun\n"), ("vpn", "groups: tun vpn")])
def test_the_interface_group_is_a_setting(jail: Machine, group: str, shown: str) -> None:
    jail.ok("--set", f"interface_group={group}", "start", TUNNEL)
    assert shown in jail.ifconfig()
    jail.ok("stop", TUNNEL)


def test_up_and_down_on_the_host(here: Callable[[], Machine]) -> None:
    host = here()
    name = f"wgt{os.getpid()}"
    host.write(HOST_FILE, name)
    before = host.shown()
    host.ok("start", name)
    shown = host.ifconfig(name)
    assert "inet 198.18.7.1 netmask 0xffffff00" in shown
    assert "inet6 fd00:7::1 prefixlen 64" in shown
    assert host.routes()["198.19.0.0/16"][1] == name
    assert host.state(name)["state"] == "up"
    host.ok("stop", name)
    assert host.ifconfig(name) == ""
    host.nothing_left(before)


def test_a_second_start_and_a_second_stop_do_nothing(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    daemon = jail.daemon()
    assert "already running" in jail.ok("start", TUNNEL).errors
    assert jail.daemon() == daemon
    jail.ok("stop", TUNNEL)
    assert "not running" in jail.ok("stop", TUNNEL).errors
    jail.nothing_left(before)


def test_two_sites_reach_each_other(pair: Pair) -> None:
    before = [machine.shown() for machine in pair]
    for machine in pair:
        machine.ok("start", TUNNEL)
    done = pair.one.run("ping", "-c", "3", "-i", "0.2", "-t", "15", "192.168.222.2")
    assert done.code == 0, done.output
    done = pair.two.run("ping", "-c", "1", "-t", "15", "192.168.222.1")
    assert done.code == 0, done.output
    (peer,) = pair.one.state()["peers"]
    assert peer["last_handshake"]
    assert peer["rx_bytes"] > 0
    for machine, shown in zip(pair, before, strict=True):
        machine.ok("stop", TUNNEL)
        machine.nothing_left(shown)


def test_the_same_name_in_two_jails_and_stop_touches_one(builder: Builder) -> None:
    jails = [builder.jail("one"), builder.jail("two")]
    for machine in jails:
        machine.write(network.CONFIGS["vpnr1"])
        machine.ok("start", TUNNEL)
    kept = jails[1].shown()
    jails[0].ok("stop", TUNNEL)
    assert jails[1].shown() == kept
    jails[1].ok("stop", TUNNEL)


def test_a_restart_of_the_tunnel(jail: Machine) -> None:
    jail.ok("start", TUNNEL)
    daemon, ifindex = jail.daemon(), jail.state()["ifindex"]
    jail.ok("restart", TUNNEL)
    assert jail.daemon() != daemon
    assert jail.state()["state"] == "up"
    assert jail.state()["ifindex"] != ifindex or jail.ports() == ["*:51820"]
    jail.ok("stop", TUNNEL)


def test_an_mtu_of_the_file(jail: Machine) -> None:
    path = jail.write(network.CONFIGS["vpnr1"].replace("[Peer]", "MTU = 1300\n\n[Peer]"))
    assert path.startswith("/usr/local/etc/wireguard/")
    jail.ok("start", TUNNEL)
    assert "mtu 1300" in jail.ifconfig()
    assert jail.ports() == ["*:51820"]
    jail.ok("stop", TUNNEL)


def test_the_supervisor_ends_with_its_last_tunnel(jail: Machine) -> None:
    jail.ok("start", TUNNEL)
    supervisor = jail.supervisor()
    jail.ok("stop", TUNNEL)
    eventually(lambda: supervisor not in jail.processes(), what="it has ended")
