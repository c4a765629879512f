"""What status tells: the order of things, the same keys for all, and what no supervisor watches."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest

from tests.tunnels import Host, eventually, ip, some_public_key
from tests.witnesses import wg

pytestmark = pytest.mark.root


def test_names_come_in_the_order_in_which_people_count(host: Host) -> None:
    names = ["wg1", "wg2", "wg10"]
    for name in reversed(names):
        host.tunnel(name, number=int(name[2:]))

    started = json.loads(host.ok("start", "--json", "all").out)["results"]
    checked = json.loads(host.ok("check", "--json").out)["files"]
    told = host.status()["tunnels"]

    assert [one["name"] for one in started] == names
    assert [one["what"] for one in checked] == names
    assert [one["name"] for one in told] == names
    host.kill(host.supervisor())
    assert [one["name"] for one in host.status()["tunnels"]] == names
    stopped = json.loads(host.ok("stop", "--json").out)["results"]
    assert [one["name"] for one in stopped] == names


def peers(keys: list[str]) -> str:
    """Return the sections of peers."""
    return "".join(
        f"# peer {number}\n[Peer]\nPublicKey = {key}\nAllowedIPs = 192.168.{number}.0/24\n"
        for number, key in enumerate(keys)
    )


def test_peers_come_in_the_order_of_the_file_and_then_by_key(host: Host) -> None:
    keys = sorted((some_public_key() for _ in range(6)), reverse=True)
    host.tunnel("wg0", peer=peers(keys))
    host.ok("start", "wg0")
    foreign = sorted(some_public_key() for _ in range(3))
    for key in foreign:
        wg("set", "wg0", "peer", key)

    def told() -> list[str]:
        return [peer["public_key"] for peer in host.state()["peers"]]

    first = told()
    assert first[:6] == keys
    assert first[6:] == sorted(foreign, key=base64.b64decode)
    assert all(told() == first for _ in range(5))  # wireguard-go has another order each time
    host.kill(host.supervisor())
    assert told() == first


def test_a_tunnel_has_the_same_keys_in_every_state(host: Host) -> None:
    host.tunnel("wg0")
    tables = [host.state("wg0")]
    host.ok("start", "wg0")
    tables.append(host.state("wg0"))
    ip("address", "add", "10.50.0.1/24", "dev", "wg0")
    tables.append(host.state("wg0"))
    host.kill(host.supervisor())
    tables.append(host.state("wg0"))
    host.ok("start", "wg0")
    tables.append(host.state("wg9"))

    assert [table["state"] for table in tables] == ["down", "up", "up", "unsupervised", "down"]
    assert [table["drift"] for table in tables] == [False, False, True, False, False]
    assert len({tuple(table) for table in tables}) == 1
    assert len({tuple(peer) for table in tables for peer in table["peers"]}) == 1
    assert len({tuple(child) for table in tables for child in table["children"]}) == 1


def test_an_unsupervised_tunnel_still_has_what_can_be_asked(host: Host) -> None:
    host.tunnel("wg0", "ListenPort = 51822", "MTU = 1380")
    host.ok("start", "wg0")
    before = host.state()
    host.kill(host.supervisor())

    told = host.state()

    assert told["state"] == "unsupervised"
    assert "wgsvc start wg0" in told["reason"]
    same = ("listen_port", "peers", "addresses", "mtu", "ifindex", "config", "backend", "since")
    assert {key: told[key] for key in same} == {key: before[key] for key in same}
    assert told["children"] == [{"role": "wireguard-go", "pid": host.daemon(), "adopted": False}]
    assert str(host.daemon()) in host.wgsvc("status").out


def test_of_a_dead_one_it_is_said_that_nothing_runs(host: Host) -> None:
    host.tunnel("wg0")
    host.ok("start", "wg0")
    pid = host.daemon()
    host.kill(host.supervisor())
    host.kill(pid)
    eventually(lambda: "wg0" not in host.links())

    told = host.state()

    assert told["state"] == "unsupervised"
    assert "WireGuard too" in told["reason"]
    assert told["peers"] == told["children"] == []


def test_one_that_somebody_else_started_is_not_called_down(host: Host) -> None:
    host.tunnel("wg0")
    subprocess.run(["wg-quick", "up", "wg0"], check=True, capture_output=True)

    told = host.state()

    assert told["state"] == "unsupervised"
    assert "not started by wgsvc; wgsvc stop wg0" in told["reason"]
    assert host.status()["tunnels"] == []  # it is asked for by its name alone
    subprocess.run(["wg-quick", "down", "wg0"], check=True, capture_output=True)
