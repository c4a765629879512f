"""DNS servers of a tunnel through Debian's own openresolv."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.tunnels import Host, eventually, script
from tests.witnesses import kernel_heard, replace, uapi_recorded

pytestmark = pytest.mark.root


def servers(file: Path) -> list[str]:
    """Return what a resolver reads of it."""
    lines = file.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_added_at_start_and_gone_after_stop(host: Host, openresolv: Path) -> None:
    host.tunnel("wg0", "DNS = 192.0.2.53, fd00::53, corp.example, lab.example")

    host.ok("start", "wg0")

    assert servers(openresolv) == [
        "search corp.example lab.example", "nameserver 192.0.2.53", "nameserver fd00::53"
    ]  # fmt: skip
    host.ok("stop", "wg0")
    assert servers(openresolv) == []
    host.startable.clear()


def test_exclusive_hides_others_and_gives_them_back(host: Host, openresolv: Path) -> None:
    _uplink()
    host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    assert servers(openresolv) == ["nameserver 192.0.2.53"]

    host.ok("stop", "wg0")

    assert servers(openresolv) == ["nameserver 198.51.100.1"]
    host.startable.clear()


@pytest.mark.parametrize("mode", ["metric", "plain"])
def test_how_they_are_added_is_a_setting(host: Host, openresolv: Path, mode: str) -> None:
    _uplink()
    host.options = ["--set", f"dns_mode={mode}"]
    host.tunnel("wg0", "DNS = 192.0.2.53")

    host.ok("start", "wg0")

    found = servers(openresolv)
    assert set(found) == {"nameserver 192.0.2.53", "nameserver 198.51.100.1"}
    if mode == "metric":
        assert found[0] == "nameserver 192.0.2.53"


def _uplink() -> None:
    subprocess.run(
        ["resolvconf", "-a", "eth9", "-m", "100"],
        input="nameserver 198.51.100.1\n",
        text=True,
        check=True,
    )


def test_reload_changes_them_and_nothing_else(host: Host, openresolv: Path) -> None:
    path = host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    replace(path, ("DNS = 192.0.2.53", "DNS = 192.0.2.54, fd00::54, corp.example"))

    with kernel_heard() as heard, uapi_recorded() as sets:
        host.ok("reload", "wg0")
        assert servers(openresolv) == [
            "search corp.example", "nameserver 192.0.2.54", "nameserver fd00::54"
        ]  # fmt: skip
        replace(path, ("DNS = 192.0.2.54, fd00::54, corp.example\n", ""))
        host.ok("reload", "wg0")

    assert servers(openresolv) == []
    assert (heard, sets) == ([], [])
    replace(path, ("[Interface]\n", "[Interface]\nDNS = 192.0.2.55\n"))
    host.ok("reload", "wg0")
    assert servers(openresolv) == ["nameserver 192.0.2.55"]
    host.ok("stop", "wg0")
    assert servers(openresolv) == []


def test_after_a_crash_of_everything_stop_takes_them_back(host: Host, openresolv: Path) -> None:
    host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    supervisor, daemon = host.supervisor(), host.daemon()
    host.kill(supervisor)
    host.kill(daemon)
    assert servers(openresolv) == ["nameserver 192.0.2.53"]

    host.ok("stop", "wg0")

    assert servers(openresolv) == []


def test_a_crash_of_wireguard_go_keeps_them(host: Host, openresolv: Path) -> None:
    host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    old = host.daemon()
    host.kill(old)
    eventually(lambda: host.state()["state"] == "up" and host.daemons() not in ([], [old]))

    assert servers(openresolv) == ["nameserver 192.0.2.53"]


def test_without_resolvconf_it_is_an_error_before_anything_is_touched(
    host: Host, tmp_path: Path
) -> None:
    _no_resolvconf(tmp_path)
    host.tunnel("wg0", "DNS = 192.0.2.53", "PreUp = touch /run/touched")

    result = host.wgsvc("start", "wg0")

    assert result.code == 69
    assert "resolvconf" in result.err
    assert not Path("/run/touched").exists()
    host.untouched()
    host.startable.clear()


def test_without_resolvconf_it_can_be_optional(host: Host, tmp_path: Path) -> None:
    _no_resolvconf(tmp_path)
    host.options = ["--set", "dns=optional"]
    host.tunnel("wg0", "DNS = 192.0.2.53")

    result = host.ok("start", "wg0")

    assert "resolvconf" in result.err + host.log()
    assert host.state()["state"] == "up"
    host.ok("stop", "wg0")
    host.startable.clear()


def test_a_resolvconf_that_fails_rolls_the_start_back(host: Host, tmp_path: Path) -> None:
    fails = script(tmp_path / "resolvconf", '#!/bin/sh\n[ "$1" = -a ] && exit 3\nexit 0\n')
    _in_place_of_resolvconf(fails)
    host.tunnel("wg0", "DNS = 192.0.2.53")

    result = host.wgsvc("start", "wg0")

    assert result.code == 71
    assert "resolvconf -a wg0" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    host.startable.clear()


def test_a_resolvconf_that_is_switched_off_is_an_error(host: Host, openresolv: Path) -> None:
    """It succeeds and does nothing: nobody resolves by the servers that the file wants."""
    Path("/etc/resolvconf.conf").write_text("resolv_conf=/run/resolv.conf\nresolvconf=NO\n")
    host.tunnel("wg0", "DNS = 192.0.2.53", "PreUp = touch /run/touched")

    result = host.wgsvc("start", "wg0")

    assert result.code == 69
    assert "resolvconf=NO" in result.err
    assert not Path("/run/touched").exists()
    host.untouched()
    assert servers(openresolv) == []
    host.startable.clear()


def test_dns_off_leaves_resolvconf_alone(host: Host, openresolv: Path) -> None:
    host.options = ["--set", "dns=off"]
    path = host.tunnel("wg0", "DNS = 192.0.2.53")
    host.ok("start", "wg0")
    replace(path, ("DNS = 192.0.2.53", "DNS = 192.0.2.54"))

    host.ok("reload", "wg0")

    assert servers(openresolv) == []


def _in_place_of_resolvconf(program: str) -> None:
    """Put something else where resolvconf is, in this mount namespace."""
    found = subprocess.run(
        ["which", "-a", "resolvconf"], capture_output=True, text=True, check=True
    )
    for path in {os.path.realpath(line) for line in found.stdout.split()}:
        subprocess.run(["mount", "--bind", program, path], check=True)


def _no_resolvconf(tmp_path: Path) -> None:
    empty = tmp_path / "nothing"
    empty.write_text("")
    _in_place_of_resolvconf(str(empty))
