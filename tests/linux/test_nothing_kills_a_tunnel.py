"""Crashes and a moving default route under a running ping, in the lab's network."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from wgsvc.lab import network
from wgsvc.lab.linux_hosts import LinuxHosts
from wgsvc.lab.packets import summarize
from wgsvc.lab.record import Record

pytestmark = pytest.mark.root

PING_INTERVAL_S = 0.01
ENDPOINTS = (network.ENDPOINTS["vpnr1"], network.ENDPOINTS["vpnr2"])


@pytest.fixture(name="hosts")
def _hosts(tmp_path: Path) -> Iterator[LinuxHosts]:
    hosts = LinuxHosts(Record(str(tmp_path / "lab")), was_root=True)
    hosts.claim()
    try:
        hosts.create(lambda _: None)
        for router in network.VPN_ROUTERS:
            assert hosts.service(router, "start", "wg0").code == 0
        yield hosts
    finally:
        hosts.remove()


def shell(hosts: LinuxHosts, host: str, line: str) -> str:
    done = hosts.run(host, ["sh", "-c", line])
    assert done.code == 0, done.errors
    return done.output


def child(hosts: LinuxHosts, host: str, role: str) -> int:
    """Return the PID of a child of the tunnel, as status tells it."""
    tunnel = json.loads(hosts.service(host, "status", "--json").output)["tunnels"][0]
    return next(int(c["pid"]) for c in tunnel["children"] if c["role"] == role)


def supervisor(hosts: LinuxHosts, host: str) -> int:
    return int(shell(hosts, host, "cat /var/run/wgsvc/wgsvc.pid"))


def eventually(true: Callable[[], bool], within_s: float) -> float:
    """Return how long it took until it was true."""
    started = time.monotonic()
    while not true():
        if time.monotonic() - started > within_s:
            pytest.fail(f"not within {within_s} s")
        time.sleep(0.005)
    return time.monotonic() - started


class Pinging:
    """A ping from vpnh1 to vpnh2 every 10 ms."""

    def __init__(self, hosts: LinuxHosts, count: int) -> None:
        self._hosts, self._count = hosts, count
        shell(hosts, "vpnh1", "ping -c1 -W2 192.168.2.11")  # the session is there
        shell(
            hosts, "vpnh1",
            f"ping -q -i {PING_INTERVAL_S} -c {count} -W1 -p 504c41494e 192.168.2.11"
            " >/run/ping.txt 2>&1 </dev/null &",
        )  # fmt: skip

    def lost(self) -> int:
        """Wait for its end; return how many were not answered."""
        summary = ""

        def ended() -> bool:
            nonlocal summary
            summary = shell(self._hosts, "vpnh1", "cat /run/ping.txt")
            return "received" in summary

        eventually(ended, self._count * PING_INTERVAL_S * 3 + 10)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", summary)
        assert found, summary
        assert int(found[1]) == self._count
        return int(found[1]) - int(found[2])


def test_wireguard_go_is_killed(hosts: LinuxHosts) -> None:
    """Back within 500 ms; no route or address moved, and nothing went out in clear."""
    wire = hosts.capture("r1", "vi1_r1")
    shell(hosts, "vpnr1", "ip monitor link address route >/run/monitor.txt 2>&1 </dev/null &")
    victim = child(hosts, "vpnr1", "wireguard-go")
    pinging = Pinging(hosts, 200)
    time.sleep(0.3)  # in the middle of the pings
    shell(hosts, "vpnr1", f"kill -9 {victim}")
    lost = pinging.lost()
    frames = wire.read()
    assert wire.dropped() == 0
    wire.close()

    assert child(hosts, "vpnr1", "wireguard-go") != victim
    assert lost * PING_INTERVAL_S <= 0.5, f"{lost} pings lost"
    assert shell(hosts, "vpnr1", "cat /run/monitor.txt") == ""
    seen = summarize(frames, ENDPOINTS, network.PORT)
    assert seen.messages[1] >= 1, "no new handshake was captured: nothing was killed"
    assert not seen.icmp_clear
    assert seen.pattern == 0


def test_the_supervisor_is_killed_and_another_adopts_its_tunnel(hosts: LinuxHosts) -> None:
    """No ping is lost, and it is the same wireguard-go."""
    before = child(hosts, "vpnr1", "wireguard-go")
    old = supervisor(hosts, "vpnr1")
    pinging = Pinging(hosts, 200)
    shell(hosts, "vpnr1", f"kill -9 {old}")
    adopted = hosts.service("vpnr1", "start", "wg0")
    assert adopted.code == 0, adopted.errors
    assert pinging.lost() == 0
    assert supervisor(hosts, "vpnr1") != old
    assert child(hosts, "vpnr1", "wireguard-go") == before
    shell(hosts, "vpnr1", f"kill -9 {before}")  # held again: it comes back in place
    eventually(lambda: "wg0" in shell(hosts, "vpnr1", "ip route show 192.168.2.0/24"), 0)
    eventually(lambda: hosts.run("vpnh1", ["ping", "-c1", "-W1", "192.168.2.11"]).code == 0, 5)


def test_a_supervisor_is_replaced_without_a_lost_ping(hosts: LinuxHosts) -> None:
    """The way of an upgrade: service wireguard restart --supervisor."""
    old = supervisor(hosts, "vpnr1")
    pinging = Pinging(hosts, 200)
    assert hosts.service("vpnr1", "daemon", "--replace").code == 0
    assert pinging.lost() == 0
    assert supervisor(hosts, "vpnr1") != old


@pytest.mark.parametrize("monitor", ["alive", "killed"])
def test_the_endpoint_follows_the_default_route_of_a_tunnel_for_everything(
    hosts: LinuxHosts, monitor: str
) -> None:
    """Within 200 ms; without any gateway it is a blackhole, never the tunnel itself."""
    config = network.CONFIGS["vpnr1"].replace(
        "AllowedIPs = 192.168.222.2/32, 192.168.2.0/24", "AllowedIPs = 0.0.0.0/1, 128.0.0.0/1"
    )
    hosts.run("vpnr1", ["tee", "/usr/local/etc/wireguard/wg0.conf"], text=config)
    shell(hosts, "r1", "ip address add 172.31.1.2/24 dev vi1_r1")
    restarted = hosts.service("vpnr1", "restart", "wg0")
    assert restarted.code == 0, restarted.errors
    endpoint = network.ENDPOINTS["vpnr2"]

    def way() -> str:
        return shell(hosts, "vpnr1", f"ip route show {endpoint}")

    assert "via 172.31.1.1 " in way()
    eventually(lambda: hosts.run("vpnh1", ["ping", "-c1", "-W1", "192.168.2.11"]).code == 0, 5)
    if monitor == "killed":
        victim = child(hosts, "vpnr1", "route-monitor")
        shell(hosts, "vpnr1", f"kill -9 {victim}; ip route replace default via 172.31.1.2")
    else:
        shell(hosts, "vpnr1", "ip route replace default via 172.31.1.2")
    limit_s = 0.2 if monitor == "alive" else 3.0
    eventually(lambda: "via 172.31.1.2 " in way(), limit_s)
    assert hosts.run("vpnh1", ["ping", "-c1", "-W1", "192.168.2.11"]).code == 0

    eventually(lambda: child_or_none(hosts) is not None, 5)
    shell(hosts, "vpnr1", "ip route delete default")
    eventually(lambda: "blackhole" in shell(hosts, "vpnr1", "ip route"), 0.5)
    before = sent(hosts)
    hosts.run("vpnh1", ["ping", "-c3", "-i0.1", "-W1", "192.168.2.11"])
    assert sent(hosts) - before <= 3, "the tunnel carries its own packets"
    shell(hosts, "vpnr1", "ip route add default via 172.31.1.1")
    eventually(lambda: "via 172.31.1.1 " in way(), 0.5)
    eventually(lambda: hosts.run("vpnh1", ["ping", "-c1", "-W1", "192.168.2.11"]).code == 0, 5)
    assert hosts.service("vpnr1", "stop", "wg0").code == 0
    assert way() == ""


def sent(hosts: LinuxHosts) -> int:
    """Return how many packets went into the tunnel."""
    links = json.loads(shell(hosts, "vpnr1", "ip -s -j link show wg0"))
    return int(links[0]["stats64"]["tx"]["packets"])


def child_or_none(hosts: LinuxHosts) -> int | None:
    try:
        return child(hosts, "vpnr1", "route-monitor")
    except StopIteration:
        return None
