"""T03: suspend and resume. CLOCK_BOOTTIME and the wall clock go on, CLOCK_MONOTONIC stands."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.faults.test_children import came_back, connections
from tests.tunnels import ROOT, UAPI_DIR, Host, eventually

pytestmark = pytest.mark.root

SLEPT_S = 8 * 3600
CLOCKS = """\
import os, time
wall, mono, get = time.time, time.monotonic, time.clock_gettime
def frozen():
    try:
        with open("{0}") as file:
            return float(file.read())
    except (OSError, ValueError):
        return 0.0
def clock(which):
    slept = {1} if frozen() else 0
    if which == time.CLOCK_MONOTONIC:
        return time.monotonic()
    return get(which) + (slept if which in (time.CLOCK_BOOTTIME, time.CLOCK_REALTIME) else 0)
time.time = lambda: wall() + ({1} if frozen() else 0)
time.monotonic = lambda: mono() - frozen()
time.clock_gettime = clock
"""


def suspend(pids: list[int], slept: Path) -> None:
    """Stop processes; let them go on 8 hours later, as their clocks say."""
    began = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        eventually(partial(stopped, pid), what=f"{pid} is stopped")
    time.sleep(2)  # it is this time that is the fault
    slept.write_text(f"{time.monotonic() - began:.3f}")
    for pid in reversed(pids):
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: not any(map(stopped, pids)), what="all go on")


def stopped(pid: int) -> bool:
    """Return whether a process is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def ours(host: Host) -> list[int]:
    """Return all processes of the host."""
    return [process.pid for process in host.strangers()]


@row(
    "a suspend of 8 hours while a tunnel runs: SIGSTOP of every process, the clocks as after it, "
    "SIGCONT",
    "nothing is restarted or counted as a death; status, reload, respawn and stop work",
)
def test_t03_suspended_while_running(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCKS.format(tmp_path / "slept", SLEPT_S))
    host.tunnel()
    host.ok("start", "wg0", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    eventually(lambda: len(host.state()["children"]) == 2, what="the route monitor, too")
    pid, before, pids = host.daemon(), host.shown(), ours(host)
    assert len(pids) == 3
    os.kill(pid, signal.SIGSTOP)  # the first to stop: the supervisor sees it
    eventually(lambda: connections(UAPI_DIR / "wg0.sock"), what="it is asked what ails it")

    suspend([other for other in pids if other != pid], tmp_path / "slept")
    assert host.status("wg0")["exit"] == 1  # two seconds without an answer, not 8 hours
    os.kill(pid, signal.SIGCONT)  # the last to go on

    eventually(lambda: host.status("wg0")["exit"] == 0, what="all is well")
    assert sorted(ours(host)) == sorted(pids)
    assert host.state()["deaths"] == 0
    assert host.shown() == before
    host.ok("reload", "wg0")
    old = host.daemon()
    host.kill(old)
    came_back(host, old)
    assert host.state()["deaths"] == 1
    host.ok("stop", "wg0")
    host.untouched()


@row(
    "a suspend of 8 hours amid a start, while PostUp runs with a hook_timeout_s of 20",
    "the time asleep is no time of the hook's: the start succeeds",
)
def test_t03_suspended_amid_a_start(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCKS.format(tmp_path / "slept", SLEPT_S))
    host.tunnel("wg0", "PostUp = touch /run/began; until [ -e /run/go ]; do sleep 0.05; done")
    host.options = ["--set", "hook_timeout_s=20"]
    command = host.begin("start", "wg0", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    eventually(Path("/run/began").exists, what="PostUp runs")
    pid = host.daemon()

    suspend([pid, host.supervisor()], tmp_path / "slept")
    Path("/run/go").touch()

    result = host.finish(command)
    assert result.code == 0, result.said
    assert host.daemon() == pid
    assert host.state()["state"] == "up"


@row(
    "a host that has been asleep for ten days since its boot (a time namespace: CLOCK_BOOTTIME "
    "ahead of CLOCK_MONOTONIC)",
    "start, adoption after kill -9 of the supervisor, respawn and stop as ever",
)
def test_t03_a_boottime_ahead(host: Host) -> None:
    host.tunnel()
    ahead = ["unshare", "--time", "--boottime", str(10 * 86400), "--fork"]

    def wgsvc(*words: str) -> str:
        done = subprocess.run(
            [*ahead, *host.command(*words)],
            env=host.environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=40,
        )
        host.said.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    wgsvc("start", "wg0")
    pid = host.daemon()
    assert Path(f"/proc/{host.supervisor()}/timens_offsets").read_text().split()[4] == "864000"
    host.kill(host.supervisor())

    assert "already running" in wgsvc("start", "wg0")

    assert host.daemon() == pid
    assert host.state()["children"][0] == {"role": "wireguard-go", "pid": pid, "adopted": True}
    host.kill(pid)
    came_back(host, pid)
    wgsvc("stop", "wg0")
    host.untouched()
