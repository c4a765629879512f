"""The check that r1 can't read the tunnel has to be able to fail: lead the pings around it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from wgsvc.lab import checks, network
from wgsvc.lab.check import Check
from wgsvc.lab.checks import Trial
from wgsvc.lab.linux_hosts import LinuxHosts
from wgsvc.lab.record import Record

pytestmark = pytest.mark.root


@pytest.fixture(name="hosts")
def _hosts(tmp_path: Path) -> Iterator[LinuxHosts]:
    hosts = LinuxHosts(Record(str(tmp_path / "lab")), was_root=True)
    hosts.claim()
    try:
        hosts.create(lambda _: None)
        yield hosts
    finally:
        hosts.remove()


def ip(hosts: LinuxHosts, host: str, *words: str) -> None:
    done = hosts.run(host, ["ip", *words])
    assert done.code == 0, done.errors


def lead_around_the_tunnel(hosts: LinuxHosts) -> None:
    """Let the sites reach each other in clear through r1."""
    for router, far, near_gateway, far_gateway in (
        ("vpnr1", "192.168.2.0/24", "172.31.1.1", "172.31.2.11"),
        ("vpnr2", "192.168.1.0/24", "172.31.2.1", "172.31.1.11"),
    ):
        ip(hosts, router, "route", "replace", far, "via", near_gateway)
        ip(hosts, "r1", "route", "add", far, "via", far_gateway)


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def test_pings_around_the_tunnel_are_found_in_clear(hosts: LinuxHosts) -> None:
    trial = Trial(hosts)
    assert checks.starts(trial).passed
    assert by_name(checks.tunnel_carries(trial))["inside: r1 can't read it"].passed

    lead_around_the_tunnel(hosts)
    found = by_name(checks.tunnel_carries(trial))
    assert found["pings through the tunnel"].passed  # they do arrive, and only r1 knows how
    verdict = found["inside: r1 can't read it"]
    assert not verdict.passed
    assert "ICMP in clear" in verdict.measured
    assert "PLAIN: 0" not in verdict.measured
    assert any("PLAIN" in line for shown in verdict.shown for line in shown.lines)


def test_no_tunnel_at_all_is_no_secret_kept(
    hosts: LinuxHosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "TUNNEL_PINGS", network.TUNNEL_PINGS[:1])
    found = by_name(checks.tunnel_carries(Trial(hosts)))
    assert not any(check.passed for check in found.values())
    assert not checks.handshake(Trial(hosts)).passed
    assert not checks.routing_table(Trial(hosts)).passed


def test_a_way_in_for_r1_is_found(hosts: LinuxHosts) -> None:
    assert checks.stranger_stays_out(Trial(hosts)).passed
    ip(hosts, "r1", "route", "add", "192.168.2.0/24", "via", "172.31.2.11")
    assert not checks.stranger_stays_out(Trial(hosts)).passed


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param("sleep 60 &", id="process"),
        pytest.param("ip link add name left type bridge", id="interface"),
        pytest.param("ip route add blackhole 10.9.9.0/24", id="route"),
        pytest.param("mount -t tmpfs none /mnt", id="mount"),
    ],
)
def test_what_a_stop_leaves_is_found(
    hosts: LinuxHosts, monkeypatch: pytest.MonkeyPatch, leave: str
) -> None:
    monkeypatch.setattr(checks, "_SETTLE_TIMEOUT_S", 0.1)
    trial = Trial(hosts)
    trial.before = {host: hosts.inside(host) for host in network.HOSTS}
    assert checks.nothing_left_in_hosts(trial).passed
    hosts.run("vpnr1", ["sh", "-c", f"exec >/dev/null 2>&1 </dev/null; {leave}"])
    assert not checks.nothing_left_in_hosts(trial).passed
