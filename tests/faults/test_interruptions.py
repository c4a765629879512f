"""D02: EINTR. A signal every millisecond, whatever is being done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.faults.test_overflow import monitor
from tests.tunnels import ROOT, Host, eventually
from tests.witnesses import replace

pytestmark = pytest.mark.root

STORM = """\
import signal
from wgsvc.supervise import daemon, process
def begin():
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
signal.signal(signal.SIGALRM, lambda *_: None)  # and so every call it meets fails with EINTR
begin()  # the command itself; a fork has no timer of its parent's
run, fork = daemon.run, process.Children.fork
def running(*words, **named):
    begin()
    run(*words, **named)
def forking(self, what, **named):
    def child():
        begin()
        what()
    return fork(self, child, **named)
daemon.run, process.Children.fork = running, forking
"""


def wakes(pid: int) -> int:
    """Return how often a process has waited for something."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("voluntary_ctxt_switches:")[2].split()[0])


def interrupted(pid: int) -> Callable[[], bool]:
    """Return what tells that a process that has nothing to do was woken 100 times from now."""
    began = wakes(pid)
    return lambda: wakes(pid) > began + 100


@row(
    "a signal every millisecond to command, supervisor, route monitor and every other fork of "
    "theirs, from start over reload and respawn to stop",
    "each does what it does otherwise; nothing ends but what should",
)
def test_d02_signals_all_the_time(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STORM)
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    path = host.tunnel("wg0", "PostUp = sleep 0.3", "PreDown = sleep 0.3")

    host.ok("start", "wg0", env=env)
    supervisor = host.supervisor()
    ear = eventually(lambda: monitor(host), what="the route monitor")
    for pid in (supervisor, ear):
        eventually(interrupted(pid), what=f"{pid} is interrupted")
    replace(path, ("192.168.1.0/24", "192.168.7.0/24"))
    host.ok("reload", "wg0", env=env)
    assert "192.168.7.0/24" in "".join(host.shown()["routes"])
    old = host.daemon()
    host.kill(old)
    eventually(lambda: host.daemons() not in ([], [old]), what="respawned")
    eventually(lambda: host.state()["state"] == "up")
    assert (host.supervisor(), monitor(host)) == (supervisor, ear)
    assert host.state()["deaths"] == 1

    host.ok("stop", "wg0", env=env)

    eventually(lambda: not host.strangers())
    host.untouched()
    assert "internal error" not in host.log()
    assert "the route monitor ended" not in host.log()
