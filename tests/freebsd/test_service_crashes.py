"""What ends by itself or by others on a real FreeBSD kernel, and what comes of it."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.freebsd.machines import TUNNEL, eventually, is_gone, stop_process, why_no_jails
from wgsvc.lab import freebsd_jails

if TYPE_CHECKING:
    from tests.freebsd.conftest import Pair
    from tests.freebsd.machines import Machine

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]


def comes_back(machine: Machine, daemon: int) -> None:
    """Wait for another wireguard-go, up and bound."""

    def back() -> bool:
        state = machine.state()
        pids = [one["pid"] for one in state["children"] if one["role"] == "wireguard-go"]
        return state["state"] == "up" and bool(pids) and pids != [daemon]

    eventually(back, what="wireguard-go is back")
    eventually(lambda: machine.ports() == ["*:51820"], what="it listens")


def answers(machine: Machine, address: str) -> bool:
    """Whether one ping comes back."""
    return machine.run("ping", "-c", "1", "-t", "3", address).code == 0


def waits_for(pid: int) -> str:
    """Return the wait channel of a process."""
    return freebsd_jails.run(["ps", "-o", "mwchan=", "-p", str(pid)]).output


def host_can_destroy() -> None:
    """Make and destroy an epair on the host: no destroy anywhere may be blocked."""
    name = freebsd_jails.output(["ifconfig", "epair", "create"]).strip()
    began = time.monotonic()
    done = freebsd_jails.run(["ifconfig", name, "destroy"], timeout_s=15)
    assert done.code == 0, (done.errors, time.monotonic() - began)


def test_a_crash_of_wireguard_go_changes_nothing_but_its_pid(pair: Pair) -> None:
    for machine in pair:
        machine.ok("start", TUNNEL)
    assert answers(pair.one, "192.168.222.2")
    before, routes = pair.one.ifconfig(), pair.one.routes()
    daemon = pair.one.daemon()
    stop_process(daemon, signal.SIGKILL)
    comes_back(pair.one, daemon)
    pid = pair.one.daemon()
    assert pair.one.ifconfig() == before.replace(f"PID {daemon}", f"PID {pid}")
    assert pair.one.routes() == routes
    eventually(lambda: answers(pair.one, "192.168.222.2"), what="it carries again")
    for machine in pair:
        machine.ok("stop", TUNNEL)


def test_wireguard_go_ended_by_somebody_else_blocks_nobody(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    daemon = jail.daemon()
    stop_process(daemon, signal.SIGTERM)
    host_can_destroy()
    eventually(lambda: is_gone(daemon), what="it has ended")
    comes_back(jail, daemon)
    routes = jail.routes()
    assert {routes["192.168.2.0/24"][1], routes["192.168.222.2"][1]} == {TUNNEL}
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_the_interface_destroyed_by_somebody_else_blocks_nobody_for_long(jail: Machine) -> None:
    """
    `ifconfig wg0 destroy` by hand waits until both copies of the tun are closed.

    The supervisor cannot see that coming; stop must end it all the same.
    """
    before = jail.shown()
    jail.ok("start", TUNNEL)
    waiting = ["jexec", jail.jail.name if jail.jail else "", "ifconfig", TUNNEL, "destroy"]
    with subprocess.Popen(waiting) as destroying:
        eventually(lambda: "tun_cond" in waits_for(destroying.pid), what="it waits for us")
        jail.ok("stop", TUNNEL)
        assert destroying.wait(15) is not None
    host_can_destroy()
    jail.nothing_left(before)


def test_a_crash_of_the_supervisor_leaves_the_tunnel_and_start_adopts_it(pair: Pair) -> None:
    before = pair.one.shown()
    for machine in pair:
        machine.ok("start", TUNNEL)
    daemon, monitor = pair.one.daemon(), pair.one.child("route-monitor")
    stop_process(pair.one.supervisor(), signal.SIGKILL)
    eventually(lambda: is_gone(monitor), what="the route monitor goes with it")
    assert answers(pair.one, "192.168.222.2")
    assert pair.one.state()["state"] == "unsupervised"
    assert "already running" in pair.one.ok("start", TUNNEL).errors
    assert pair.one.daemon() == daemon
    assert answers(pair.one, "192.168.222.2")
    # The tun can't be taken out of another process: a crash now takes routes along.
    stop_process(daemon, signal.SIGKILL)
    comes_back(pair.one, daemon)
    eventually(lambda: answers(pair.one, "192.168.222.2"), what="it carries again")
    for machine in pair:
        machine.ok("stop", TUNNEL)
    pair.one.nothing_left(before)


def test_an_adopted_tunnel_is_stopped(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    stop_process(jail.supervisor(), signal.SIGKILL)
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_after_a_crash_of_both_start_cleans_and_works(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    daemon = jail.daemon()
    stop_process(jail.supervisor(), signal.SIGKILL)
    stop_process(daemon, signal.SIGKILL)
    assert jail.files("/var/run/wireguard") in ([f"{TUNNEL}.sock"], [])
    jail.ok("start", TUNNEL)
    assert jail.daemon() != daemon
    assert jail.ports() == ["*:51820"]
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_after_a_crash_of_both_stop_cleans(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    daemon = jail.daemon()
    stop_process(jail.supervisor(), signal.SIGKILL)
    stop_process(daemon, signal.SIGKILL)
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_a_crash_of_the_route_monitor(jail: Machine) -> None:
    jail.ok("start", TUNNEL)
    monitor = jail.child("route-monitor")
    stop_process(monitor, signal.SIGKILL)

    def another() -> bool:
        pids = [one["pid"] for one in jail.state()["children"] if one["role"] == "route-monitor"]
        return bool(pids) and pids != [monitor]

    eventually(another, what="another route monitor")
    jail.ok("stop", TUNNEL)


def test_stopping_a_hung_wireguard_go_is_bounded(jail: Machine) -> None:
    before = jail.shown()
    jail.ok("start", TUNNEL)
    daemon = jail.daemon()
    stop_process(daemon, signal.SIGSTOP)
    done = jail.wgsvc("stop", TUNNEL)
    assert done.code == 0, done.errors
    assert done.duration_s < 40
    assert is_gone(daemon)
    jail.nothing_left(before)


def test_a_crash_left_by_wireguard_go_alone_is_cleaned(jail: Machine) -> None:
    """wg-quick's dead end: its wireguard-go died, the interface stays (observed-13.2: 1, 4-7)."""
    before = jail.shown()
    jail.said("wireguard-go", TUNNEL)
    (daemon,) = jail.processes()
    stop_process(daemon, signal.SIGKILL)
    assert jail.ifconfig() != ""
    jail.ok("start", TUNNEL)
    assert jail.ports() == ["*:51820"]
    jail.ok("stop", TUNNEL)
    jail.nothing_left(before)


def test_what_a_kill_left_half_made_is_cleaned(jail: Machine) -> None:
    before = jail.shown()
    half_made = jail.said("ifconfig", "tun", "create").strip()
    jail.said("ifconfig", half_made, "description", f"WireGuard tunnel {TUNNEL}")
    foreign = jail.said("ifconfig", "tun", "create").strip()
    jail.said("ifconfig", foreign, "description", "WireGuard tunnel wg01")
    jail.ok("start", TUNNEL)
    assert half_made not in jail.interfaces()
    assert foreign in jail.interfaces()
    jail.ok("stop", TUNNEL)
    jail.said("ifconfig", foreign, "destroy")
    jail.nothing_left(before)


def test_a_foreign_wireguard_go_is_refused_and_untouched(jail: Machine) -> None:
    jail.said("wireguard-go", TUNNEL)
    processes, shown = jail.processes(), jail.ifconfig()
    done = jail.wgsvc("start", TUNNEL)
    assert done.code == 73, done.errors
    assert jail.processes() == processes
    assert jail.ifconfig() == shown


def test_a_foreign_interface_is_refused_and_untouched(jail: Machine) -> None:
    jail.said("ifconfig", "epair", "create", "name", TUNNEL)
    shown = jail.ifconfig()
    done = jail.wgsvc("start", TUNNEL)
    assert done.code == 73, done.errors
    assert "epair" in done.errors
    assert jail.ifconfig() == shown
    jail.said("ifconfig", TUNNEL, "destroy")
