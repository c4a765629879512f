"""wg-quick's leftovers, found and ended: with processes that look just like them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from wgsvc.doctor import interfaces, processes
from wgsvc.doctor.finding import INFO, WARNING, Finding, Host
from wgsvc.settings import Settings
from wgsvc.supervise import journal
from wgsvc.system import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from wgsvc.system.base import Interface

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")

# `bash -n monitor`, called route, waits for somebody to write to the FIFO `monitor`.
WG_QUICK = """#!/bin/bash
cd "${0%/*}"
export TMPDIR="$PWD/tmp.x"
trap 'touch cleaned; exit 0' TERM
(exec -a route bash -n monitor) &
echo $! >route.pid
echo $$ >bash.pid
wait
"""


def until(condition: Callable[[], Any], timeout_s: float = 10) -> Any:
    """Return what `condition` gives as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)
    return found


class WgQuick:
    """A wg-quick that was called, and whose caller is gone."""

    def __init__(self, folder: Path, interface: str) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "wg-quick").write_text(WG_QUICK)
        os.mkfifo(folder / "monitor")
        command = f"bash {folder}/wg-quick up {interface} &"
        subprocess.run(["setsid", "sh", "-c", command], check=True, stdin=subprocess.DEVNULL)
        self.bash = self._pid("bash.pid")
        self.route = self._pid("route.pid")
        until(lambda: psutil.Process(self.route).cmdline() == ["route", "-n", "monitor"])

    def _pid(self, name: str) -> int:
        path = self.folder / name
        until(lambda: path.exists() and path.read_text().strip())
        return int(path.read_text())

    def finding(self, host: Host) -> Finding | None:
        """Return what the doctor says of it."""
        words = (str(self.bash), str(self.route))
        found = [each for each in processes.find(host) if set(words) & set(each.what.split())]
        found += [each for each in processes.find(host) if f"PID {self.route}," in each.what]
        return found[0] if found else None

    def alive(self) -> set[str]:
        """Return which of its processes there are."""
        pids = {"bash": self.bash, "route": self.route}
        return {name for name, pid in pids.items() if _runs(pid)}


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(name="wg_quick")
def _wg_quick(tmp_path: Path) -> Iterator[Callable[[str], WgQuick]]:
    made: list[WgQuick] = []

    def make(interface: str) -> WgQuick:
        made.append(WgQuick(tmp_path / f"q{len(made)}", interface))
        return made[-1]

    yield make
    for each in made:
        for pid in (each.bash, each.route):
            if _runs(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> Host:
    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o750)
    return Host(Settings(run_dir=str(run_dir), uapi_dir=str(tmp_path)), current(), ())


def test_monitor_of_an_interface_that_is_gone(
    host: Host, wg_quick: Callable[[str], WgQuick]
) -> None:
    leftover = wg_quick("/etc/wireguard/gone9.conf")
    finding = leftover.finding(host)
    assert finding is not None
    assert finding.severity == WARNING
    assert "gone9, which is gone" in finding.what
    assert {str(leftover.bash), str(leftover.route)} <= set(finding.cure.split())
    assert finding.fix is not None
    assert finding.fix().startswith("ended ")
    until(lambda: not leftover.alive())
    assert (leftover.folder / "cleaned").exists()  # it could remove the routes it had made
    assert leftover.finding(host) is None
    assert finding.fix() == "gone by themselves"


def test_what_wg_quick_still_uses_is_left_alone(
    host: Host, wg_quick: Callable[[str], WgQuick]
) -> None:
    working = wg_quick("lo")  # an interface that is there
    finding = working.finding(host)
    assert finding is not None
    assert (finding.severity, finding.fix) == (INFO, None)
    assert finding.cure == "wg-quick down lo"


def test_monitor_of_what_wgsvc_runs_by_now_gets_no_chance_to_clean_up(
    host: Host, wg_quick: Callable[[str], WgQuick]
) -> None:
    journal.write(host.settings.run_dir, journal.Entry("lo", host.system.boot_id(), "up"))
    leftover = wg_quick("lo")
    finding = leftover.finding(host)
    assert finding is not None
    assert finding.fix is not None
    assert finding.cure.startswith("kill -KILL ")
    finding.fix()
    until(lambda: not leftover.alive())
    assert not (leftover.folder / "cleaned").exists()


def test_route_monitor_that_lost_its_bash(host: Host, wg_quick: Callable[[str], WgQuick]) -> None:
    leftover = wg_quick("gone9")
    os.kill(leftover.bash, signal.SIGKILL)
    until(lambda: leftover.alive() == {"route"})
    finding = until(lambda: leftover.finding(host))
    assert "route -n monitor" in finding.what
    finding.fix()
    until(lambda: not leftover.alive())


def test_route_monitor_that_nothing_ties_to_wg_quick_is_only_told(
    host: Host, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "monitor")
    command = "(exec -a route bash -n monitor) & echo $!"
    with (tmp_path / "pid").open("w") as output:
        subprocess.run(
            ["setsid", "bash", "-c", command],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            stdout=output,
            check=True,
        )
    pid = int((tmp_path / "pid").read_text())
    try:
        found = until(lambda: [each for each in processes.find(host) if str(pid) in each.what])
        assert [(each.severity, each.fix) for each in found] == [(INFO, None)]
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_wg_quick_at_work_is_no_leftover(host: Host, tmp_path: Path) -> None:
    (tmp_path / "wg-quick").write_text("read -r _\n")
    argv = ["bash", str(tmp_path / "wg-quick"), "up", "gone9"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as child:
        until(lambda: processes.watched_interface(tuple(psutil.Process(child.pid).cmdline())))
        assert [each for each in processes.find(host) if str(child.pid) in each.what] == []
        child.kill()


@pytest.mark.parametrize("change", ["start_id", "cmdline"])
def test_another_process_with_that_pid_is_not_signalled(host: Host, change: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        until(lambda: psutil.Process(child.pid).cmdline() == ["sleep", "60"])
        start_id = host.system.start_id(child.pid)
        assert start_id is not None
        right = processes.Suspect(child.pid, start_id, ("sleep", "60"))
        wrong = right._replace(start_id="1")
        if change == "cmdline":
            wrong = right._replace(cmdline=("other",))
        assert processes.end_all(host.system, [wrong], signal.SIGTERM) == "gone by themselves"
        assert child.poll() is None
        assert processes.end_all(host.system, [right], signal.SIGTERM) == f"ended {child.pid}"
        assert child.wait(10) == -signal.SIGTERM


def test_who_ignores_sigterm_is_killed(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_TERM_S", 0.05)
    script = f"trap '' TERM; touch {tmp_path}/ready; while :; do sleep 60; done"
    with subprocess.Popen(["bash", "-c", script], start_new_session=True) as child:
        until((tmp_path / "ready").exists)
        start_id = host.system.start_id(child.pid)
        assert start_id is not None
        cmdline = tuple(psutil.Process(child.pid).cmdline())
        suspect = processes.Suspect(child.pid, start_id, cmdline)
        processes.end_all(host.system, [suspect], signal.SIGTERM)
        assert child.wait(10) == -signal.SIGKILL
        os.killpg(child.pid, signal.SIGKILL)


def test_dead_sockets(tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "_YOUNG_S", 0)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(tmp_path / "ours.sock"))
    journal.write(host.settings.run_dir, journal.Entry("ours", host.system.boot_id(), "up"))
    (tmp_path / "file.sock").touch()
    with socket.socket(socket.AF_UNIX) as alive:
        alive.bind(str(tmp_path / "alive.sock"))
        alive.listen()
        (finding,) = [each for each in interfaces.find(host) if each.subject == "sockets"]
        assert finding.cure == f"rm {tmp_path}/dead.sock"
        assert finding.fix is not None
        assert finding.fix() == f"removed {tmp_path}/dead.sock"
        assert sorted(path.name for path in tmp_path.glob("*.sock")) == [
            "alive.sock",
            "file.sock",
            "ours.sock",
        ]


def test_a_socket_that_came_to_life_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "wg9.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        young = interfaces.dead_sockets(str(tmp_path), without=set())
        assert young == {}  # bound, but perhaps about to listen
        monkeypatch.setattr(interfaces, "_YOUNG_S", 0)
        ((_, inode),) = interfaces.dead_sockets(str(tmp_path), without=set()).values()
        other.listen()
        assert "is another by now" in interfaces.remove_socket(str(path), inode)
        assert path.exists()


class NobodyHasIt:
    """The real system, which tells of every interface that no process has it open."""

    def __init__(self) -> None:
        self.real = current()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def interface(self, name: str) -> Interface | None:
        """Return the interface, without an opener, as FreeBSD shows a dead daemon's."""
        found = self.real.interface(name)
        return found and found._replace(opener_pid=0)

    def interfaces(self) -> list[Interface]:
        """Return them all, as `interface` does."""
        return [each._replace(opener_pid=0) for each in self.real.interfaces()]


@pytest.mark.root
@pytest.mark.usefixtures("own_network")
def test_interface_nobody_has_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("wg9", "tap7"):
        subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tun"], check=True)
    monkeypatch.setattr(interfaces, "_YOUNG_S", 0)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "wg9.sock"))
    system: Any = NobodyHasIt()
    host = Host(Settings(run_dir=str(tmp_path), uapi_dir=str(tmp_path)), system, ())
    found = [each for each in interfaces.find(host) if each.subject == "interfaces"]
    assert [each.cure for each in found] == ["ifconfig wg9 destroy"]
    fix = found[0].fix
    assert fix is not None
    assert fix() == "destroyed wg9"
    assert system.interface("wg9") is None
    assert system.interface("tap7") is not None
    assert fix() == "wg9 is another by now"
