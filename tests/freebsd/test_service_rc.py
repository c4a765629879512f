"""`service wireguard` through the real service(8), rc.subr and sysrc(8)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import (
    HOST_FILE,
    TUNNEL,
    eventually,
    service,
    set_rc,
    why_no_jails,
)
from wgsvc.lab import freebsd_jails, network

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.freebsd.machines import Machine
    from wgsvc.lab.hosts import Completed

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]

SCRIPT = "/usr/local/etc/rc.d/wireguard"
FILE = network.CONFIGS["vpnr1"]


def test_start_status_restart_stop(site: Machine) -> None:
    set_rc(site, wireguard_enable="YES", wireguard_interfaces=TUNNEL)
    before = site.shown()
    done = service(site, "start")
    assert done.code == 0, done.errors
    done = service(site, "status")
    assert done.code == 0, done.errors
    assert TUNNEL in done.output
    first = site.daemon()
    done = service(site, "restart")
    assert done.code == 0, done.errors
    assert site.daemon() != first
    assert site.ports() == ["*:51820"]
    done = service(site, "stop")
    assert done.code == 0, done.errors
    assert service(site, "status").code != 0
    site.nothing_left(before)


def test_one_of_two(site: Machine) -> None:
    set_rc(site, wireguard_enable="YES", wireguard_interfaces=f"{TUNNEL} wg1")
    before = site.shown()
    assert service(site, "start").code == 0
    kept, other = site.daemon(), site.daemon("wg1")
    assert service(site, "restart", "wg1").code == 0
    assert site.daemon() == kept
    assert site.daemon("wg1") != other
    assert service(site, "stop", "wg1").code == 0
    assert site.ifconfig("wg1") == ""
    assert site.daemon() == kept
    assert service(site, "status", TUNNEL).code == 0
    assert service(site, "status", "wg1").code != 0
    assert service(site, "stop").code == 0
    site.nothing_left(before)


def test_all_is_every_file(site: Machine) -> None:
    set_rc(site, wireguard_enable="YES", wireguard_interfaces="all")
    before = site.shown()
    assert service(site, "start").code == 0
    assert {TUNNEL, "wg1"} <= set(site.interfaces())
    assert service(site, "stop").code == 0
    site.nothing_left(before)


def test_nothing_configured(site: Machine) -> None:
    set_rc(site, wireguard_enable="YES")
    done = service(site, "start")
    assert done.code == 1
    assert "sysrc wireguard_interfaces" in done.output + done.errors


def test_disabled(site: Machine) -> None:
    set_rc(site, wireguard_interfaces=TUNNEL)
    before = site.shown()
    service(site, "start")
    assert site.shown() == before
    assert service(site, "status").code != 0
    assert service(site, "onestart").code == 0
    assert service(site, "status").code == 0
    assert service(site, "stop").code == 0
    site.nothing_left(before)


def test_a_bad_file_fails_the_start_and_reload_keeps_what_runs(site: Machine) -> None:
    set_rc(site, wireguard_enable="YES", wireguard_interfaces=TUNNEL)
    assert service(site, "start").code == 0
    daemon = site.daemon()
    site.write(FILE.replace("192.168.2.0/24", "192.168.2.0/44"))
    assert service(site, "reload").code != 0
    assert site.daemon() == daemon
    assert "192.168.2.0/24" in site.routes()
    site.write(FILE.replace("192.168.2.0/24", "192.168.2.0/24, 192.168.3.0/24"))
    done = service(site, "reload")
    assert done.code == 0, done.errors
    assert site.daemon() == daemon
    assert site.routes()["192.168.3.0/24"][1] == TUNNEL
    assert service(site, "stop").code == 0
    site.write(FILE.replace("192.168.2.0/24", "192.168.2.0/44"))
    done = service(site, "start")
    assert done.code != 0
    assert "wg0.conf:8" in done.output + done.errors


def test_where_rcorder_puts_it(site: Machine) -> None:
    set_rc(site, wireguard_enable="YES")
    order = site.said("service", "-r").split()
    assert (
        order.index("/etc/rc.d/NETWORKING") < order.index(SCRIPT) < order.index("/etc/rc.d/LOGIN")
    )
    assert SCRIPT in site.said("service", "-e").split()


def test_from_the_host_script_and_all(here: Callable[[], Machine]) -> None:
    """The script itself, with the host's rc.subr and service(8)'s environment."""
    host = here()
    name = f"wgt{os.getpid()}"
    host.write(HOST_FILE, name)
    folder = os.path.dirname(host.config_dir)
    program = host.program(f"{folder}/wgsvc")
    script = os.path.join(freebsd_jails.package_folder(), "rc.d", "wireguard")
    environment = (
        "HOME=/",
        "PATH=/sbin:/bin:/usr/sbin:/usr/bin",
        f"wireguard_wgsvc={program}",
        f"wireguard_config_dir={host.config_dir}",
        f"WGSVC_RUN_DIR={host.run_dir}",
    )
    before = host.shown()

    def rc(*words: str) -> Completed:
        return host.run("env", "-i", *environment, "/bin/sh", script, *words)

    done = rc("onestart", name)
    assert done.code == 0, done.errors
    assert name in host.interfaces()
    assert rc("onestatus", name).code == 0
    done = rc("onestop", name)
    assert done.code == 0, done.errors
    eventually(lambda: name not in host.interfaces(), what="gone")
    host.nothing_left(before)
