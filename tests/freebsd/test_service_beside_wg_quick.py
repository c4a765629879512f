"""The same file through wg-quick and through wgsvc: the same tunnel, a thousand routes of it."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.freebsd.machines import TUNNEL, why_no_jails
from tests.freebsd.test_service_routes import file_with

if TYPE_CHECKING:
    from tests.freebsd.machines import Machine

LACKING = why_no_jails() or ", ".join(
    f"no {program}" for program in ("bash", "wg-quick", "wg") if shutil.which(program) is None
)
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(LACKING), reason=LACKING)]

WGSVC = (sys.executable, "-m", "wgsvc")
SAID = "/tmp/said"  # noqa: S108 - a jail's own
ROUTES = 1000
FORKS_A_ROUTE = 2  # of wg-quick
BOUND_S = 20.0


def affordable(jail: Machine) -> int:
    """Return how many routes wg-quick can be given on this host within a test's time."""
    started = time.monotonic()
    jail.said("sh", "-c", "for n in 1 2 3 4 5 6 7 8 9 10; do route -n get 127.0.0.1; done")
    fork_s = (time.monotonic() - started) / 10
    return ROUTES if ROUTES * FORKS_A_ROUTE * fork_s < BOUND_S else ROUTES // 10


def carried(jail: Machine) -> dict[str, Any]:
    """Return what both have to make, with what differs by design left out."""
    shown = [line.strip() for line in jail.ifconfig().splitlines()]
    ours = [line for line in jail.table("inet") + jail.table("inet6") if line[3] == TUNNEL]
    return {
        # The kernel's wg has no broadcast address, a tun has; wg-quick takes what there is.
        "addresses": [line.partition(" broadcast")[0] for line in shown if "inet" in line],
        "mtu": shown[0].rpartition(" mtu ")[2],
        "routes": [(prefix, flags) for prefix, _gateway, flags, _interface in ours],
        "wireguard": sorted(jail.said("wg", "showconf", TUNNEL).replace(",", "").split()),
    }


def test_the_same_tunnel_from_the_same_file(
    jail: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    before = jail.shown()
    count = affordable(jail)
    prefixes = [f"10.{n // 250}.{n % 250}.0/24" for n in range(count)]
    # One line of them all would keep bash busy for minutes before it begins.
    jail.write(file_with("\nAllowedIPs = ".join(prefixes)))
    took = {}

    def run(*words: str) -> None:
        # wg-quick's route monitor keeps what it writes to open, hence a file.
        started = time.monotonic()
        done = jail.run("sh", "-c", f'exec "$@" >{SAID} 2>&1 </dev/null', "sh", *words)
        took[f"{words[-3:][0]} {words[-2]}"] = time.monotonic() - started
        assert done.code == 0, jail.read(SAID)[-2000:]

    run("wg-quick", "up", TUNNEL)
    theirs = carried(jail)
    run("wg-quick", "down", TUNNEL)
    jail.nothing_left(before)
    run(*WGSVC, "start", TUNNEL)
    ours = carried(jail)
    run(*WGSVC, "stop", TUNNEL)

    with capsys.disabled():
        told = ", ".join(f"{words} {seconds:.2f} s" for words, seconds in took.items())
        print(f"\n{count} routes: {told}")
    assert len(theirs["routes"]) >= count
    assert ours == theirs
    jail.nothing_left(before)
