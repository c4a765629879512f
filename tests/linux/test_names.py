"""Endpoints that are names: known before routes and DNS go in, and kept right afterwards."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.linux.far_side import NAME_SERVER, SERVER, FarSide
from tests.linux.full_client import (
    ELSEWHERE,
    INSIDE,
    NAME,
    _client,
    _far,
    client_tunnel,
    leaving,
    pings,
    wg_quick,
)
from tests.tunnels import CONFIG_DIR, Host, eventually, ip
from tests.witnesses import pinging, replace, wg

__all__ = ["_client", "_far"]

pytestmark = pytest.mark.root

MOVED = "198.51.100.9"
DNS = ["", f"DNS = {INSIDE}"]
WAYS = ["auto", "halves"]


def servers() -> list[str]:
    return [
        line
        for line in Path("/etc/resolv.conf").read_text().splitlines()
        if line.startswith("nameserver")
    ]


def rules() -> str:
    return ip("-4", "rule") + ip("-6", "rule")


@pytest.mark.parametrize("dns", DNS)
@pytest.mark.parametrize("way", WAYS)
def test_a_full_tunnel_comes_up_and_again_by_restart(client: Host, way: str, dns: str) -> None:
    client.options = ["--set", f"full_tunnel={way}"]
    client_tunnel(client, dns)
    with wg_quick() as theirs:
        assert theirs.returncode == 0, theirs.stderr
        assert pings()

    client.ok("start", "wg0")
    assert pings()
    assert pings(ELSEWHERE)
    client.ok("restart", "wg0")

    assert pings()
    status = client.status("wg0")
    assert (status["exit"], status["tunnels"][0]["peers"][0]["endpoint"]) == (0, f"{SERVER}:51820")
    assert servers() == ([f"nameserver {INSIDE}"] if dns else [f"nameserver {NAME_SERVER}"])


@pytest.mark.parametrize(
    "hook", [f"PostUp = ping -c1 -W3 {INSIDE}", "PostUp = wg show %i endpoints | grep :51820"]
)
def test_post_up_finds_the_endpoint_set(client: Host, hook: str) -> None:
    client_tunnel(client, hook)
    with wg_quick() as theirs:
        assert theirs.returncode == 0, theirs.stderr

    client.ok("start", "wg0")


@pytest.mark.parametrize("way", WAYS)
def test_what_would_swallow_the_resolver_waits(client: Host, far: FarSide, way: str) -> None:
    far.dns.names.pop(NAME)
    client.options = ["--set", f"full_tunnel={way}", "--set", "resolve_timeout_s=1"]
    client_tunnel(client, f"DNS = {INSIDE}", allowed="0.0.0.0/0, 10.66.0.0/16")
    with wg_quick() as theirs:
        assert theirs.returncode != 0  # it gives up

    started = client.ok("start", "wg0")
    held = client.status("wg0")

    assert f"waiting for the address of {NAME}" in started.err
    assert held["exit"] == 1
    (tunnel,) = held["tunnels"]
    assert tunnel["degraded"]
    assert tunnel["waiting_for"] == [NAME]
    assert f"waiting for the address of {NAME}" in tunnel["reason"]
    assert f"waiting for the address of {NAME}" in client.wgsvc("status").out
    assert rules() == client.before["rules"]
    assert servers() == [f"nameserver {NAME_SERVER}"]
    assert "10.66.0.0/16" in ip("route", "show", "dev", "wg0")  # it swallows nothing
    assert "0.0.0.0/1" not in ip("route", "show", "table", "all")

    far.dns.names[NAME] = (SERVER,)
    eventually(lambda: client.status("wg0")["exit"] == 0, what="it goes in by itself")

    assert servers() == [f"nameserver {INSIDE}"]
    assert pings(wait_s=1)  # though WireGuard has tried a handshake with nobody just before
    assert pings(ELSEWHERE)


def test_a_killed_supervisor_s_heir_goes_on_waiting(client: Host, far: FarSide) -> None:
    far.dns.names.pop(NAME)
    client.options = ["--set", "resolve_timeout_s=1"]
    client_tunnel(client, f"DNS = {INSIDE}")
    client.ok("start", "wg0")
    client.kill(client.supervisor())

    client.ok("start", "wg0")
    assert client.state()["waiting_for"] == [NAME]
    far.dns.names[NAME] = (SERVER,)

    eventually(lambda: client.status("wg0")["exit"] == 0, what="it goes in by itself")
    assert servers() == [f"nameserver {INSIDE}"]
    eventually(lambda: pings(ELSEWHERE), what="packets pass")


def test_a_stop_while_it_waits_leaves_nothing(client: Host, far: FarSide) -> None:
    far.dns.names.pop(NAME)
    client.options = ["--set", "resolve_timeout_s=1"]
    client_tunnel(client, f"DNS = {INSIDE}")
    client.ok("start", "wg0")

    client.ok("stop", "wg0")

    client.untouched()
    assert servers() == [f"nameserver {NAME_SERVER}"]
    client.startable.clear()


@pytest.mark.parametrize("keepalive", ["25", "off"])
def test_packets_pass_as_soon_as_the_address_is_known(
    client: Host, far: FarSide, keepalive: str
) -> None:
    """WireGuard begins a handshake with nobody once in 5 s, for these packets and by itself."""
    far.dns.names.pop(NAME)
    client.options = ["--set", "resolve_timeout_s=0.1"]
    client_tunnel(client, allowed="10.9.0.0/24")
    replace(CONFIG_DIR / "wg0.conf", ("= 25", f"= {keepalive}"))
    client.ok("start", "wg0")
    before = wg("showconf", "wg0")
    with pinging(INSIDE) as seen:
        far.dns.names[NAME] = (SERVER,)
        eventually(lambda: "Endpoint" in wg("showconf", "wg0"), what="the address")
        eventually(lambda: seen.answered, within_s=1, what="packets pass")

    after = wg("showconf", "wg0").replace(f"Endpoint = {SERVER}:51820\n", "")
    assert after == before
    assert client.status("wg0")["exit"] == 0


@pytest.mark.parametrize("dns", DNS)
@pytest.mark.parametrize("way", WAYS)
def test_a_name_that_moves_is_found_around_the_tunnel(
    client: Host, far: FarSide, way: str, dns: str
) -> None:
    """By the name servers that were there before; nothing but that query leaves in clear."""
    client.options = ["--set", f"full_tunnel={way}", "--set", "endpoint_stale_s=2"]
    client_tunnel(client, dns)
    client.ok("start", "wg0")
    assert pings(ELSEWHERE)
    asked = len(far.dns.asked)

    far.run("ip", "address", "add", f"{MOVED}/32", "dev", "lo")
    far.run("ip", "address", "delete", f"{SERVER}/32", "dev", "lo")
    far.dns.names[NAME] = (MOVED,)
    with (
        leaving() as seen,
        subprocess.Popen(
            ["ping", "-n", "-q", "-i", "0.1", ELSEWHERE], stdout=subprocess.DEVNULL
        ) as pinging,
    ):
        try:
            eventually(
                lambda: client.state()["peers"][0]["endpoint"] == f"{MOVED}:51820",
                within_s=40,
                what="the new address",
            )
            eventually(lambda: pings(ELSEWHERE), within_s=20, what="packets pass again")
        finally:
            pinging.kill()

    assert len(far.dns.asked) > asked
    assert seen <= {f"udp {NAME_SERVER} 53", f"udp {SERVER} 51820", f"udp {MOVED} 51820"}
    assert f"udp {NAME_SERVER} 53" in seen
    # No way for the name server is left beside the tunnel.
    eventually(lambda: f"{NAME_SERVER} " not in ip("route", "show"), what="its route is gone")


def test_reload_to_a_name_looks_it_up_first(client: Host, far: FarSide) -> None:
    """A tunnel that becomes a full one with a named endpoint gets through."""
    client_tunnel(client, allowed="10.9.0.0/24", endpoint=f"{SERVER}:51820")
    client.ok("start", "wg0")
    client_tunnel(client, f"DNS = {INSIDE}", allowed="0.0.0.0/0")

    client.ok("reload", "wg0")

    assert pings(ELSEWHERE)
    assert client.status("wg0")["exit"] == 0
    assert NAME in far.dns.asked
    client_tunnel(client, allowed="10.9.0.0/24")
    client.ok("reload", "wg0")
    assert rules() == client.before["rules"]
    assert client.status("wg0")["exit"] == 0
    assert pings()
