"""
A session that is lost is begun anew at once, whoever speaks first.

WireGuard alone takes 15 s for that: the far side goes on with the session that it has, hears
nothing, and only then tries a new handshake. Two real wireguard-go, a ping in one direction.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.tunnels import eventually
from wgsvc.lab import network
from wgsvc.lab.linux_hosts import LinuxHosts
from wgsvc.lab.record import Record

pytestmark = pytest.mark.root

INTERVAL_S = 0.1
WINDOW_S = float(os.environ.get("GREET_WINDOW_S", "2.5"))
LIMIT_S = 1.0


@pytest.fixture(name="hosts")
def _hosts(tmp_path: Path) -> Iterator[LinuxHosts]:
    hosts = LinuxHosts(Record(str(tmp_path / "lab")), was_root=True)
    hosts.claim()
    try:
        hosts.create(lambda _: None)
        for router in network.VPN_ROUTERS:
            service(hosts, router, "start")
        yield hosts
    finally:
        hosts.remove()


def service(hosts: LinuxHosts, router: str, verb: str) -> None:
    done = hosts.service(router, verb, network.TUNNEL)
    assert done.code == 0, done.errors


def shell(hosts: LinuxHosts, host: str, line: str) -> str:
    done = hosts.run(host, ["sh", "-c", line])
    assert done.code == 0, done.errors
    return done.output


class Ping:
    """A ping from vpnh1 to vpnh2 that notes when each answer came."""

    def __init__(self, hosts: LinuxHosts, written: Path) -> None:
        shell(hosts, "vpnh1", "ping -n -c1 -w10 192.168.2.11")  # the session is there
        self._written = written
        words = ["ping", "-n", "-D", "-i", str(INTERVAL_S), "192.168.2.11"]
        with written.open("wb") as output:
            self._process = subprocess.Popen(
                [*hosts.entering("vpnh1").split(), *words], stdout=output
            )
        eventually(lambda: len(self.answers()) >= 3, what="pings are answered")

    def answers(self) -> list[float]:
        """Return the UNIX times of the answers so far."""
        found = re.findall(r"^\[([\d.]+)\].* icmp_seq=", self._written.read_text(), re.MULTILINE)
        return [float(at) for at in found]

    def longest_gap_s(self, since: float) -> float:
        """Return the longest time without an answer from the one before `since` until now."""
        now = time.time()
        answers = [at for at in self.answers() if at <= now]
        first = max(at for at in answers if at <= since)
        times = [*(at for at in answers if at >= first), now]
        return max(later - earlier for earlier, later in pairwise(times))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def kill_wireguard_go(hosts: LinuxHosts, router: str) -> None:
    shell(hosts, router, f"kill -9 {wireguard_go(hosts, router)}")


def restart(hosts: LinuxHosts, router: str) -> None:
    service(hosts, router, "restart")


def kill_both_and_start(hosts: LinuxHosts, router: str) -> None:
    """Kill the supervisor first: it would bring wireguard-go back."""
    pid = wireguard_go(hosts, router)
    shell(hosts, router, f"kill -9 $(cat /run/wgsvc/wgsvc.pid) && kill -9 {pid}")
    service(hosts, router, "start")


def wireguard_go(hosts: LinuxHosts, router: str) -> int:
    """Return the PID, as it is in the journal: nothing is asked of the supervisor."""
    found = re.search(r'"pid": ?(\d+)', shell(hosts, router, "cat /run/wgsvc/wg0.json"))
    assert found
    return int(found[1])


def forget_endpoint(hosts: LinuxHosts) -> None:
    """Make vpnr2 one that is called, as a server of many clients is; vpnr1 then calls it."""
    service(hosts, "vpnr2", "stop")
    text = network.CONFIGS["vpnr2"].partition("Endpoint")[0]
    hosts.run("vpnr2", ["tee", "/usr/local/etc/wireguard/wg0.conf"], text=text)
    service(hosts, "vpnr2", "start")
    restart(hosts, "vpnr1")


@pytest.mark.parametrize("event", [kill_wireguard_go, restart, kill_both_and_start])
@pytest.mark.parametrize(("router", "speaks"), [("vpnr1", "this side"), ("vpnr2", "the far side")])
def test_pings_of_one_direction_are_answered_again_within_a_second(
    hosts: LinuxHosts,
    tmp_path: Path,
    event: Callable[[LinuxHosts, str], None],
    router: str,
    speaks: str,  # noqa: ARG001 - for whoever reads the names of the tests
) -> None:
    ping = Ping(hosts, tmp_path / "ping")
    try:
        before = time.time()
        event(hosts, router)
        time.sleep(WINDOW_S)
        gap_s = ping.longest_gap_s(before)
        print(f"GAP {event.__name__} {router}: {gap_s:.3f} s")
        assert gap_s < LIMIT_S
    finally:
        ping.close()


@pytest.mark.parametrize("event", [kill_wireguard_go, restart])
def test_a_peer_is_found_again_whose_endpoint_the_file_leaves_open(
    hosts: LinuxHosts, tmp_path: Path, event: Callable[[LinuxHosts, str], None]
) -> None:
    forget_endpoint(hosts)
    ping = Ping(hosts, tmp_path / "ping")
    try:
        if event is kill_wireguard_go:  # nobody can ask it any more; this one is seen at once
            assert "172.31.1.11" in hosts.service("vpnr2", "status", "--json").output
        before = time.time()
        event(hosts, "vpnr2")
        time.sleep(WINDOW_S)
        assert ping.longest_gap_s(before) < LIMIT_S
        assert hosts.service("vpnr2", "status").code == 0
    finally:
        ping.close()
