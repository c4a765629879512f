"""Settings that a command brings: how long they hold, for whom, and what a bad file stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tunnels import CONFIG_DIR, RUN_DIR, ip, private_key, some_public_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tunnels import Host

pytestmark = pytest.mark.root

PEER = some_public_key()
OFF = ("--set", "wg0.routes=off")


def written(host: Host, name: str = "wg0", net: str = "10.8.0.0/16") -> Path:
    address = "10.1.0.1/32" if name == "wg0" else "10.1.0.2/32"
    return host.write(
        name,
        f"[Interface]\nPrivateKey = {private_key()}\nAddress = {address}\n"
        f"[Peer]\nPublicKey = {PEER}\nAllowedIPs = {net}\n",
    )


def clean(host: Host) -> bool:
    return host.state()["drift"] is False and "no change" in host.ok("reload", "wg0").said


def test_they_outlive_the_supervisor(host: Host) -> None:
    written(host)
    host.ok(*OFF, "start", "wg0")
    assert clean(host)
    host.ok("daemon", "--replace")
    assert clean(host)
    host.kill(host.supervisor())
    host.ok("start", "wg0")
    assert clean(host)
    assert "10.8.0.0/16" not in ip("route")


def test_one_without_a_value_takes_it_back(host: Host) -> None:
    written(host)
    host.ok(*OFF, "start", "wg0")
    host.ok("--set", "wg0.routes=", "restart", "wg0")
    assert "10.8.0.0/16" in ip("route")
    assert clean(host)


def test_another_table_in_wgsvc_toml_is_no_drift(host: Host) -> None:
    written(host)
    host.ok("start", "wg0")
    (CONFIG_DIR / "wgsvc.toml").write_text('[tunnel.wg0]\nroutes = "off"\n')
    host.ok("daemon", "--replace")
    assert host.state()["drift"] is False
    result = host.wgsvc("reload", "wg0")
    assert result.code == 75
    assert "that takes a restart" in result.err


def test_plan_heeds_them_and_leaves_them(host: Host) -> None:
    written(host)
    host.ok("start", "wg0")
    planned = host.ok("--set", "wg0.routes=10.8.1.0/24", "plan", "wg0").out
    assert "+ ip -4 route add 10.8.1.0/24 dev wg0" in planned
    assert "- ip -4 route del 10.8.0.0/16 dev wg0" in planned
    assert "# wg0: no change" in host.ok("plan", "wg0").out


def test_plan_says_that_another_table_takes_a_restart(host: Host) -> None:
    path = written(host)
    written(host, "wg1", "10.9.0.0/16")
    host.ok("start", "wg0", "wg1")
    path.write_text(path.read_text().replace("[Peer]", "Table = 77\n[Peer]"))
    result = host.wgsvc("plan", "wg0", "wg1")
    assert result.code == 75
    assert "wg0: Table has changed: that takes a restart" in result.err
    assert result.out.strip() == "# wg1: no change"


def test_stop_works_with_a_file_that_can_not_be_used(host: Host) -> None:
    written(host)
    host.ok("start", "wg0")
    toml = CONFIG_DIR / "wgsvc.toml"
    toml.write_text('on_exit = "never"\nhooks = "off"\n')
    assert host.wgsvc("start", "wg0").code == 78
    result = host.wgsvc("stop", "wg0")
    assert result.code == 78
    assert "wgsvc.toml: on_exit: must be one of" in result.err
    assert host.daemons() == []
    toml.unlink()


def test_of_a_file_in_part_readable_stop_takes_the_rest(host: Host) -> None:
    elsewhere = RUN_DIR.parent / "elsewhere"
    toml = CONFIG_DIR / "wgsvc.toml"
    toml.write_text(f'run_dir = "{elsewhere}"\n')
    written(host)
    host.ok("start", "wg0")
    toml.write_text(f'run_dir = "{elsewhere}"\nsurprise = 1\n')
    assert host.wgsvc("stop").code == 78
    assert host.daemons() == []
    toml.write_text("run_dir = \n")
    result = host.wgsvc("stop")
    assert result.code == 78
    assert "not valid TOML" in result.err
    toml.unlink()
