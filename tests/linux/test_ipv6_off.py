"""IPv6 is switched off and a file wants it: refused with the cause, as wg-quick refuses it late."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tunnels import Host, some_public_key
from tests.witnesses import replace

pytestmark = pytest.mark.root

CONF = Path("/proc/sys/net/ipv6/conf")
ALL, DEFAULT = CONF / "all" / "disable_ipv6", CONF / "default" / "disable_ipv6"
CAUSE = "IPv6 is switched off: net.ipv6.conf.all.disable_ipv6 = 1"


@pytest.fixture(name="off")
def _off(host: Host) -> Host:
    """Give a host on which it is off; where addresses went with it, that is how it was before."""
    ALL.write_text("1")
    host.before = host.shown()
    return host


def written(host: Host, address: str, allowed: str, *more: str) -> Path:
    peer = f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = {allowed}\n"
    path = host.tunnel("wg0", *more, peer=peer)
    replace(path, ("10.1.0.1/24, fd00:1::1/64", address))
    return path


def by_wg_quick(path: Path) -> int:
    """Return how wg-quick fares; down again if it is up."""
    up = ["wg-quick", "up", str(path)]
    done = subprocess.run(up, capture_output=True, timeout=20, check=False)
    if done.returncode == 0:
        subprocess.run(["wg-quick", "down", str(path)], capture_output=True, timeout=20, check=True)
    return done.returncode


@pytest.mark.parametrize(
    ("address", "allowed", "what"),
    [
        ("10.1.0.1/24, fd00:1::1/64", "10.2.0.0/24", "wg0 is to have the address fd00:1::1/64"),
        ("fe80::1/64", "10.2.0.0/24", "wg0 is to have the address fe80::1/64"),
        ("10.1.0.1/24", "0.0.0.0/0, ::/0", "wg0 is to have a route to ::/0"),
        ("10.1.0.1/24", "fd00:2::/64", "wg0 is to have a route to fd00:2::/64"),
    ],
)
def test_it_is_refused_before_anything_is_touched(
    off: Host, address: str, allowed: str, what: str
) -> None:
    path = written(off, address, allowed, "PostDown = touch /run/touched")
    off.startable.clear()
    assert by_wg_quick(path) != 0
    Path("/run/touched").unlink(missing_ok=True)

    result = off.wgsvc("start", "wg0")

    assert result.code == 69
    assert f"{what}, but {CAUSE}\n" in result.err
    assert "root" not in result.err
    assert "[#]" not in result.err
    assert not Path("/run/touched").exists()
    off.untouched()


def test_the_cure_is_one(off: Host) -> None:
    written(off, "10.1.0.1/24, fd00:1::1/64", "10.2.0.0/24, ::/0")
    cure = "sysctl -w net.ipv6.conf.default.disable_ipv6=0"
    assert cure in off.wgsvc("start", "wg0").err

    subprocess.run(cure.split(), check=True, capture_output=True)

    off.ok("start", "wg0")
    assert "fd00:1::1/64" in off.shown()["links"]["wg0"][2]
    assert ALL.read_text() == "1\n"


@pytest.mark.parametrize("more", [[], ["Table = off"]])
def test_a_file_without_ipv6_is_no_business_of_it(off: Host, more: list[str]) -> None:
    allowed = "10.2.0.0/24, fd00:2::/64" if more else "10.2.0.0/24"
    path = written(off, "10.1.0.1/24", allowed, *more)
    assert by_wg_quick(path) == 0

    off.ok("start", "wg0")

    assert off.state()["state"] == "up"


def test_a_hook_may_switch_it_on_first(off: Host) -> None:
    path = written(
        off, "10.1.0.1/24, fd00:1::1/64", "10.2.0.0/24, fd00:2::/64",
        "PreUp = echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
        "PostDown = echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
    )  # fmt: skip
    assert by_wg_quick(path) == 0

    off.ok("start", "wg0")

    assert "fd00:1::1/64" in off.shown()["links"]["wg0"][2]


@pytest.mark.parametrize(
    ("address", "allowed", "what"),
    [
        ("fd00:1::1/64", "10.2.0.0/24", "wg0 can't have fd00:1::1/64"),
        ("10.1.0.1/24", "fd00:2::/64", "wg0 can't have fd00:2::/64"),
    ],
)
def test_where_it_can_not_be_known_before_the_cause_is_told_all_the_same(
    off: Host, address: str, allowed: str, what: str
) -> None:
    path = written(off, address, allowed, "PreUp = true")
    off.startable.clear()
    assert by_wg_quick(path) != 0

    result = off.wgsvc("start", "wg0")

    assert result.code == 69
    assert f"{what}, but {CAUSE}\n" in result.err
    assert "root" not in result.err
    off.untouched()


def test_a_reload_tells_the_cause_and_a_cure_for_this_interface(host: Host) -> None:
    path = written(host, "10.1.0.1/24", "10.2.0.0/24")
    host.ok("start", "wg0")
    (CONF / "wg0" / "disable_ipv6").write_text("1")
    replace(path, ("10.1.0.1/24", "10.1.0.1/24, fd00:1::1/64"))

    result = host.wgsvc("reload", "wg0")

    assert result.code == 69
    told = "wg0 can't have fd00:1::1/64, but IPv6 is switched off: "
    assert f"{told}net.ipv6.conf.wg0.disable_ipv6 = 1\n" in result.err
    cure = "sysctl -w net/ipv6/conf/wg0/disable_ipv6=0"
    assert cure in result.err
    subprocess.run(cure.split(), check=True, capture_output=True)
    host.ok("reload", "wg0")
