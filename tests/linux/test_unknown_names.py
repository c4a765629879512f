"""Names that mean nothing, and tunnels whose file or supervisor has gone: each is told."""

from __future__ import annotations

import json

import pytest

from tests.tunnels import CONFIG_DIR, Host, eventually

pytestmark = pytest.mark.root

UNKNOWN = "there is neither a tunnel nor a file of this name"


@pytest.mark.parametrize("runs", [True, False])
def test_status_of_a_name_that_means_nothing(host: Host, *, runs: bool) -> None:
    host.tunnel("wg0")
    if runs:
        host.ok("start", "wg0")

    told = host.wgsvc("status", "nope")
    both = host.status("wg0", "nope")

    assert (told.code, UNKNOWN in told.out) == (3, True), told.said
    assert both["exit"] == 3
    assert ["" if UNKNOWN not in one["reason"] else one["name"] for one in both["tunnels"]] == [
        "", "nope",
    ]  # fmt: skip


@pytest.mark.parametrize("runs", [True, False])
def test_stop_of_a_name_that_means_nothing(host: Host, *, runs: bool) -> None:
    host.tunnel("wg0")
    if runs:
        host.ok("start", "wg0")

    told = host.wgsvc("stop", "--json", "nope", "wg0")

    assert told.code == 64, told.said
    assert f"nope: {UNKNOWN}" in told.err
    outcomes = {one["name"]: one["outcome"] for one in json.loads(told.out)["results"]}
    assert outcomes == {"nope": "unknown", "wg0": "stopped" if runs else "not running"}
    assert host.wgsvc("stop", "/etc/wireguard/nope.conf").code == 64


def test_stop_of_what_runs_without_a_file_is_no_mistake(host: Host) -> None:
    path = host.tunnel("wg0")
    host.ok("start", "wg0")
    path.unlink()
    host.startable.clear()

    assert host.ok("stop", "wg0").code == 0


@pytest.mark.parametrize("verb", ["start", "restart", "reload", "plan", "status", "stop", "check"])
def test_a_setting_of_a_tunnel_that_there_is_not(host: Host, verb: str) -> None:
    host.tunnel("wg0")
    host.ok("start", "wg0")
    pid = host.daemon()

    told = host.wgsvc("--set", "nope.backend=kernel", verb, "wg0")

    assert told.code == 64, told.said
    assert f"--set nope.backend=kernel: {UNKNOWN}: nope" in told.err
    assert host.daemon() == pid


def test_a_setting_of_one_that_is_named_that_has_a_file_or_is_taken_back(host: Host) -> None:
    host.tunnel("wg0")
    host.tunnel("wg1", number=2)

    host.ok("--set", "wg1.fib=77", "--set", "nope.fib=", "start", "wg0")
    assert host.wgsvc("--set", "new.fib=1", "start", "wg0", "new").code == 78  # no such file
    assert host.ok("status", "wg0").code == 0


def test_tables_of_tunnels_that_there_are_not_are_the_doctors_business(host: Host) -> None:
    host.tunnel("wg0")
    (CONFIG_DIR / "wgsvc.toml").write_text("[tunnel.wg0]\nfib = 77\n[tunnel.nope]\nfib = 1\n")

    told = host.wgsvc("doctor").out

    assert "[tunnel.nope]: there is no file of a tunnel nope" in told
    assert "tunnel.wg0" not in told


def test_reload_all_after_the_last_file_has_gone(host: Host) -> None:
    paths = [host.tunnel(f"wg{number}", number=number + 1) for number in range(2)]
    host.ok("start", "wg0", "wg1")
    for path in paths:
        path.unlink()
    host.startable.clear()

    assert host.ok("reload", "all").code == 0

    eventually(lambda: not host.strangers(), what="both are taken down")
    host.untouched()
    assert host.ok("reload", "all").code == 0


def test_reload_all_of_what_no_supervisor_runs_any_more(host: Host) -> None:
    host.tunnel("wg0").unlink()
    path = host.tunnel("wg1", number=2)
    host.tunnel("wg0")
    host.ok("start", "wg0", "wg1")
    host.kill(host.supervisor())
    path.unlink()
    host.startable.discard("wg1")

    host.ok("reload", "all")

    assert (len(host.daemons("wg0")), host.daemons("wg1")) == (1, [])


def test_plan_of_an_unsupervised_tunnel(host: Host) -> None:
    path = host.tunnel("wg0")
    host.tunnel("wg1", number=2)
    host.ok("start", "wg0")
    host.kill(host.supervisor())
    path.write_text(path.read_text().replace("192.168.1.0/24", "192.168.77.0/24"))

    told = host.wgsvc("plan", "wg0", "wg1")

    assert told.code == 69, told.said
    assert "wg0 is unsupervised: its supervisor is gone; wgsvc start wg0" in told.err
    assert "wgsvc plan wg0 shows what wgsvc reload wg0 does" in told.err
    assert "wg0" not in told.out
    assert "dev wg1" in told.out
    assert not host.supervisors()
    host.ok("start", "wg0")
    assert "+ ip -4 route add 192.168.77.0/24" in host.ok("plan", "wg0").out


def test_plan_of_a_name_that_somebody_else_has_taken(host: Host) -> None:
    from tests.tunnels import ip

    host.tunnel("wg0")
    ip("tuntap", "add", "dev", "wg0", "mode", "tun")

    told = host.wgsvc("plan", "wg0")

    assert (told.code, told.out) == (73, ""), told.said
    ip("link", "delete", "wg0")


def test_plan_of_a_dead_one_is_a_start(host: Host) -> None:
    host.tunnel("wg0")
    planned = host.ok("plan", "wg0").out
    host.ok("start", "wg0")
    pid = host.daemon()
    host.kill(host.supervisor())
    host.kill(pid)
    eventually(lambda: "wg0" not in host.links())

    assert host.ok("plan", "wg0").out == planned
