"""The laboratory end to end, as people run it: in processes of its own, namespaces of its own."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from wgsvc.errors import OSFailureError, WgsvcError
from wgsvc.lab import pcap
from wgsvc.lab.linux_namespaces import made_inside, namespaces_of, start_id
from wgsvc.lab.network import HOSTS, PATTERN

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ROOT = str(Path(__file__).parents[2])


def wgsvc(run_dir: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "wgsvc", "--run-dir", str(run_dir), "lab", *words]


def lab(run_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        wgsvc(run_dir, *words), cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )


def holders(run_dir: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(Path(f"{run_dir}-lab/hosts.json").read_text())["holders"])
    except FileNotFoundError:
        return []


def inhabitants(entries: list[dict[str, Any]]) -> list[int]:
    """Return who lives in the network namespaces on record: read here, not by what is tested."""
    networks = {entry["namespaces"][0] for entry in entries if entry["namespaces"]}
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if set(namespaces_of(pid)[:1]) & networks]


@pytest.fixture(name="run_dir")
def _run_dir(tmp_path: Path) -> Iterator[Path]:
    run_dir = tmp_path / "run"
    yield run_dir
    assert lab(run_dir, "--remove").returncode == 0
    assert os.listdir(tmp_path) == ["captures"] * ("captures" in os.listdir(tmp_path))


def test_why_a_socket_could_not_be_made_in_a_namespace_is_told() -> None:
    def fails() -> NoReturn:
        raise OSFailureError("bind", "eth9", errno.ENODEV)

    with pytest.raises(WgsvcError, match="bind eth9: No such device"):
        made_inside(os.getpid(), fails)
    with pytest.raises(WgsvcError, match="No such file or directory"):
        made_inside(2**22 + 1, fails)


def test_all_checks_pass_and_the_report_says_what_was_measured(
    run_dir: Path, tmp_path: Path
) -> None:
    done = lab(run_dir, "--json", "--capture", str(tmp_path / "captures"))
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if not check["passed"]] == []
    assert done.returncode == 0
    assert report["schema"] == 1
    assert report["passed"] is True
    assert set(report["hosts"]) == set(HOSTS)
    assert len(report["checks"]) == 11
    assert all(check["measured"] for check in report["checks"])
    assert lab_captures(report) == {
        "outside.vi1_r1": True,
        "tunnel.vi1_r1": False,
        "tunnel.vi2_r1": False,
        "tunnel.vri2_vpnr2": True,
    }


def lab_captures(report: dict[str, Any]) -> dict[str, bool]:
    """Return capture -> whether it holds the pattern, after tcpdump(8) has read it too."""
    found = {}
    for path in report["captures"]:
        frames = pcap.decode(Path(path).read_bytes())
        said = subprocess.run(
            ["tcpdump", "-nr", path], capture_output=True, text=True, check=True, timeout=20
        )
        assert len(said.stdout.splitlines()) == len(frames) > 0
        found[Path(path).stem] = any(PATTERN in frame.data for frame in frames)
    return found


def test_output_for_people_has_the_drawing_the_evidence_and_a_table(run_dir: Path) -> None:
    done = lab(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    head, _, tail = done.stdout.partition("vpnr1# wgsvc start wg0")
    assert "192.168.222.1" in head
    assert "PLAIN" in tail
    assert "11 of 11 checks passed" in tail
    assert "\x1b" not in done.stdout
    assert "pinging through the tunnel" in done.stderr


def test_kept_lab_can_be_entered_is_not_disturbed_and_is_removed(run_dir: Path) -> None:
    done = lab(run_dir, "--keep", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, report["checks"]
    enter = shlex.split(report["enter"]["vpnh1"])
    ping = [*enter, "ping", "-c1", "-W5", "192.168.2.11"]
    assert subprocess.run(ping, stdout=subprocess.DEVNULL, check=False, timeout=20).returncode == 0

    second = lab(run_dir)
    assert second.returncode == 75
    assert "lab --remove" in second.stderr
    assert subprocess.run(ping, stdout=subprocess.DEVNULL, check=False, timeout=20).returncode == 0

    entries = holders(run_dir)
    assert len(inhabitants(entries)) > len(entries)  # a supervisor, a wireguard-go
    removed = lab(run_dir, "--remove")
    assert removed.returncode == 0
    assert set(HOSTS) <= set(removed.stdout.replace(",", "").split())
    assert inhabitants(entries) == []
    assert "there is no lab" in lab(run_dir, "--remove").stdout


def start_and_wait_for(run_dir: Path, words: str) -> subprocess.Popen[str]:
    """Start a lab and return once it says that it is doing `words`."""
    process = subprocess.Popen(
        wgsvc(run_dir),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return process
    pytest.fail(f"the lab never said {words!r}")


STAGES = ("making vpnr2", "plugging in cables", "starting wg0", "pinging through the tunnel")


@pytest.mark.parametrize("stage", STAGES)
def test_killed_run_leaves_nothing_after_remove(run_dir: Path, stage: str) -> None:
    process = start_and_wait_for(run_dir, stage)
    process.kill()
    process.communicate(timeout=20)
    entries = holders(run_dir)
    assert entries
    assert lab(run_dir).returncode == 75
    assert lab(run_dir, "--remove").returncode == 0
    assert inhabitants(entries) == []
    assert [entry for entry in entries if start_id(entry["pid"]) == entry["start_id"]] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("stage", STAGES[1:])
def test_interrupted_run_removes_itself(run_dir: Path, stage: str, number: signal.Signals) -> None:
    process = start_and_wait_for(run_dir, stage)
    entries = holders(run_dir)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert inhabitants(entries) == []
    assert holders(run_dir) == []


def test_second_lab_waits_for_nobody(run_dir: Path) -> None:
    process = start_and_wait_for(run_dir, "making vpnr1")
    for words in ((), ("--remove",)):
        second = lab(run_dir, *words)
        assert second.returncode == 75
        assert "runs already" in second.stderr
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_capture_directory_that_cannot_be_made_changes_nothing(
    run_dir: Path, tmp_path: Path
) -> None:
    done = lab(run_dir, "--capture", "/dev/null/captures")
    assert done.returncode == 71
    assert "/dev/null/captures" in done.stderr
    assert os.listdir(tmp_path) == []


def test_record_of_processes_that_are_others_now_is_harmless(run_dir: Path) -> None:
    """PIDs and inode numbers are given again; `--remove` must not take that for its own."""
    bystander = subprocess.Popen(["unshare", "-n", "sleep", "60"])
    try:
        deadline = time.monotonic() + 10
        while namespaces_of(bystander.pid)[0] == namespaces_of("self")[0]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        folder = Path(f"{run_dir}-lab")
        folder.mkdir(mode=0o700)
        namespaces = [namespaces_of(bystander.pid)[0], "mnt:[1]", "uts:[1]"]
        entry = {"host": "r1", "pid": bystander.pid, "start_id": "x/1", "namespaces": namespaces}
        (folder / "hosts.json").write_text(json.dumps({"schema": 1, "holders": [entry]}))
        assert lab(run_dir, "--remove").returncode == 0
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
