"""
The kernel's own WireGuard (if_wg) on a real FreeBSD kernel, in VNET jails.

The module is loaded if the host has it, since a jail can't; it stays loaded, since unloading
it is no test's business.
"""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.freebsd.machines import TUNNEL, eventually, stop_process, why_no_jails
from wgsvc.lab import network

if TYPE_CHECKING:
    from tests.freebsd.conftest import Pair
    from tests.freebsd.machines import Machine
    from wgsvc.lab.hosts import Completed

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(why_no_jails()), reason=why_no_jails())]

PEER = "l/bRgqGEAzNtVq9JI3GyYnhFgCRXLNpakPxemH3mrA8="  # the article's
BOB = "4y4lBYyomcJ3Fu+jQKCIXuIWCJfLzIjGdPrVtbYFGHg="
PSK = "0pRsl0d0ECMuTPH9Nyn3DfJxmrxCFLtBQRLLHbqSwWM="
BOBS = f"\n[Peer]\nPublicKey = {BOB}\nPresharedKey = {PSK}\nAllowedIPs = 10.7.0.0/16\n"


@pytest.fixture(name="module", scope="module", autouse=True)
def _module() -> None:
    done = subprocess.run(["kldload", "-n", "if_wg"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no if_wg here: {done.stderr.strip()}")


@pytest.fixture(name="kernel")
def _kernel(pair: Pair) -> Machine:
    """Give the first of the two sites; its tunnels run in the kernel."""
    pair.one.options = ("--set", "backend=kernel")
    return pair.one


def ping(machine: Machine) -> Completed:
    return machine.run("ping", "-c", "2", "-i", "0.2", "-t", "20", "192.168.222.2")


def peers(machine: Machine) -> dict[str, Any]:
    return {peer["public_key"]: peer for peer in machine.state()["peers"]}


def sections(machine: Machine) -> list[list[str]]:
    """Return what `wg showconf` prints; neither peers nor AllowedIPs have an order."""
    parts = machine.said("wg", "showconf", TUNNEL).replace(",", "").split("\n\n")
    return sorted(
        sorted(" ".join(sorted(line.split())) for line in part.split("\n")) for part in parts
    )


def test_it_carries_and_goes_away(pair: Pair, kernel: Machine) -> None:
    before = [machine.shown() for machine in pair]
    for machine in pair:
        machine.ok("start", TUNNEL)
    done = ping(kernel)
    assert done.code == 0, done.output
    state = kernel.state()
    assert (state["state"], state["backend"], state["drift"]) == ("up", "kernel", False)
    assert state["listen_port"] == 51820
    assert [child["role"] for child in state["children"]] == ["route-monitor"]
    peer = peers(kernel)[PEER]
    assert peer["last_handshake"]
    assert peer["rx_bytes"] > 0
    assert peer["endpoint"] == "172.31.2.11:51820"
    assert kernel.routes()["192.168.2.0/24"][1] == TUNNEL
    assert "no change" in kernel.ok("reload", TUNNEL).errors
    for machine, shown in zip(pair, before, strict=True):
        machine.ok("stop", TUNNEL)
        machine.nothing_left(shown)


def test_reload_adds_moves_and_removes(pair: Pair, kernel: Machine) -> None:
    for machine in pair:
        machine.ok("start", TUNNEL)
    file = f"{kernel.config_dir}/{TUNNEL}.conf"
    kernel.put(file, kernel.read(file) + BOBS)
    kernel.ok("reload", TUNNEL)
    assert kernel.routes()["10.7.0.0/16"][1] == TUNNEL
    assert kernel.said("wg", "show", TUNNEL, "preshared-keys").splitlines()[-1].split()[1] == PSK
    kernel.edit(("192.168.2.0/24", "192.168.3.0/24"), ("10.7.0.0/16", "192.168.2.0/24"))
    planned = kernel.ok("plan", TUNNEL).output
    assert "+ route -q -n add -inet -net 192.168.3.0/24 -interface wg0" in planned
    kernel.ok("reload", TUNNEL)
    assert peers(kernel)[BOB]["allowed_ips"] == ["192.168.2.0/24"]
    assert set(peers(kernel)[PEER]["allowed_ips"]) == {"192.168.222.2/32", "192.168.3.0/24"}
    assert "10.7.0.0/16" not in kernel.routes()
    kernel.edit((BOBS.replace("10.7.0.0/16", "192.168.2.0/24"), ""))
    kernel.ok("reload", TUNNEL)
    assert BOB not in peers(kernel)
    assert "no change" in kernel.ok("reload", TUNNEL).errors
    done = ping(kernel)
    assert done.code == 0, done.output
    for machine in pair:
        machine.ok("stop", TUNNEL)


def test_drift_and_save(kernel: Machine) -> None:
    kernel.ok("start", TUNNEL)
    kernel.said("wg", "set", TUNNEL, "peer", PEER, "persistent-keepalive", "77")
    done = kernel.wgsvc("status", TUNNEL)
    assert done.code == 1
    assert "drift" in done.output
    kernel.ok("save", TUNNEL)
    assert "PersistentKeepalive = 77" in kernel.read(f"{kernel.config_dir}/{TUNNEL}.conf")
    assert kernel.wgsvc("status", TUNNEL).code == 0
    kernel.said("route", "-q", "-n", "delete", "-inet", "192.168.2.0/24")
    assert kernel.wgsvc("status", TUNNEL).code == 1
    kernel.ok("reload", TUNNEL)
    assert kernel.routes()["192.168.2.0/24"][1] == TUNNEL
    assert kernel.wgsvc("status", TUNNEL).code == 0
    kernel.ok("stop", TUNNEL)


def test_it_outlives_its_supervisor(pair: Pair, kernel: Machine) -> None:
    for machine in pair:
        machine.ok("start", TUNNEL)
    assert ping(kernel).code == 0
    ifindex, handshake = kernel.state()["ifindex"], peers(kernel)[PEER]["last_handshake"]
    stop_process(kernel.supervisor(), signal.SIGKILL)
    assert ping(kernel).code == 0
    kernel.ok("start", TUNNEL)
    state = kernel.state()
    assert (state["state"], state["ifindex"]) == ("up", ifindex)
    assert peers(kernel)[PEER]["last_handshake"] == handshake
    assert kernel.wgsvc("status", TUNNEL).code == 0
    for machine in pair:
        machine.ok("stop", TUNNEL)


def test_a_restart_begins_a_handshake_with_a_peer_that_only_answers(
    pair: Pair, kernel: Machine
) -> None:
    for machine in pair:
        machine.ok("start", TUNNEL)
    assert ping(kernel).code == 0
    kernel.ok("restart", TUNNEL)
    eventually(lambda: peers(kernel)[PEER]["last_handshake"], what="a session", within_s=2)
    assert kernel.said("wg", "show", TUNNEL, "persistent-keepalive").split()[1] == "off"
    assert kernel.wgsvc("status", TUNNEL).code == 0
    for machine in pair:
        machine.ok("stop", TUNNEL)


def test_what_somebody_destroyed_comes_back(pair: Pair, kernel: Machine) -> None:
    before = kernel.shown()
    for machine in pair:
        machine.ok("start", TUNNEL)
    kernel.said("ifconfig", TUNNEL, "destroy")
    eventually(lambda: kernel.ifconfig() and kernel.state()["state"] == "up", what="wg0 is back")
    eventually(lambda: ping(kernel).code == 0, what="it carries again")
    for machine in pair:
        machine.ok("stop", TUNNEL)
    kernel.nothing_left(before)


def test_a_taken_port_is_said_and_nothing_left(kernel: Machine) -> None:
    before = kernel.shown()
    holder = subprocess.Popen(
        ["jexec", kernel.jail.name if kernel.jail else "", "nc", "-u", "-l", "51820"],
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: "51820" in kernel.said("sockstat", "-l", "-P", "udp"))
        done = kernel.wgsvc("start", "--json", TUNNEL)
        result = json.loads(done.output)["results"][0]
        assert result["error"]["kind"] == "busy"
        assert "51820" in result["error"]["message"]
    finally:
        holder.kill()
        holder.wait()
    kernel.nothing_left(before)


def test_a_file_is_the_same_for_both_back_ends(kernel: Machine) -> None:
    """Configured by the one, read by the other: the same tunnel."""
    text = network.CONFIGS["vpnr1"].replace("[Peer]", "FwMark = 7\n[Peer]", 1) + BOBS
    kernel.write(text)
    kernel.ok("start", TUNNEL)
    by_kernel = sections(kernel)
    kernel.ok("stop", TUNNEL)
    kernel.options = ()
    kernel.ok("start", TUNNEL)
    by_wireguard_go = sections(kernel)
    kernel.ok("stop", TUNNEL)
    assert by_kernel == by_wireguard_go
    assert len(by_kernel) == 3
