"""`wgsvc lab` in VNET jails, for real; also when it is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.freebsd.conftest import outside
from tests.freebsd.machines import eventually, why_no_jails
from wgsvc.lab import freebsd_jails, network, pcap
from wgsvc.lab.freebsd_hosts import SWITCH, missing
from wgsvc.lab.packets import summarize
from wgsvc.lab.wire import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LACKING = why_no_jails() or "; ".join(missing())
pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(LACKING), reason=LACKING)]


@pytest.fixture(name="run_dir")
def _run_dir() -> Iterator[str]:
    """Give the lab a place; afterwards the host is as it was, whatever the test did."""
    before = outside()
    place = f"/var/run/wgsvc-test-{os.getpid()}"
    yield place
    remove(place)
    assert outside() == before
    assert not os.path.exists(f"{place}-lab")


def lab(run_dir: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "wgsvc", "--run-dir", run_dir, "lab", *words],
        env={**os.environ, "PYTHONPATH": freebsd_jails.package_folder()},
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def remove(run_dir: str) -> list[str]:
    """Run `lab --remove`; return what it removed."""
    process = lab(run_dir, "--remove", "--json")
    out, err = process.communicate(timeout=50)
    assert process.returncode == 0, err
    removed: dict[str, Any] = json.loads(out)
    names: list[str] = removed["removed"]
    return names


def jails() -> list[str]:
    return [name for name in outside()[1].split() if name.startswith(SWITCH)]


def test_all_checks_pass_and_the_captures_prove_it(run_dir: str, tmp_path: Path) -> None:
    process = lab(run_dir, "--json", "--capture", str(tmp_path))
    out, err = process.communicate(timeout=170)
    assert process.returncode == 0, (out, err)
    found = json.loads(out)
    assert found["passed"]
    assert found["platform"] == "freebsd"
    names = {check["name"] for check in found["checks"]}
    assert {"nothing left in the hosts", "nothing left on the machine"} <= names
    clear = pcap.decode((tmp_path / "outside.vi1_r1.pcap").read_bytes())
    assert any(network.PATTERN in frame.data for frame in clear)
    tunnel = pcap.decode((tmp_path / "tunnel.vi1_r1.pcap").read_bytes())
    assert summarize(tunnel, ENDPOINTS, network.PORT).only_ciphertext


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_it_is_removed(run_dir: str, number: signal.Signals) -> None:
    process = lab(run_dir)
    eventually(lambda: f"{SWITCH}.vpnh1" in jails(), what="it is being made")
    process.send_signal(number)
    process.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert remove(run_dir) == []
    else:
        second = lab(run_dir)
        _, err = second.communicate(timeout=30)
        assert second.returncode == 75
        assert "wgsvc lab --remove" in err
        assert {"r1", "vpnr1"} <= set(remove(run_dir))
    assert jails() == []


def test_killed_with_tunnels_up_it_is_removed(run_dir: str) -> None:
    """A tun that stays keeps a jail dying (observed-13.2: section 1, row 15)."""
    process = lab(run_dir)

    def up() -> bool:
        done = freebsd_jails.run(["jexec", f"{SWITCH}.vpnr2", "ifconfig", network.TUNNEL])
        return "Opened by PID" in done.output and "inet " in done.output

    eventually(up, what="the second tunnel is up", within_s=90)
    process.kill()
    process.communicate(timeout=60)
    assert "vpnr2" in remove(run_dir)
    assert jails() == []
