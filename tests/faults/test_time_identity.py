"""T01 to T05: PIDs that came round, clocks that jump, numbers in files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rows import row
from tests.tunnels import ROOT, RUN_DIR, Host, alive, eventually

pytestmark = pytest.mark.root

INNER = """\
import json, os, subprocess, sys
def wgsvc(*words):
    return subprocess.run([sys.executable, "-m", "wgsvc", *words], capture_output=True, text=True)
def next_pid(pid):
    open("/proc/sys/kernel/ns_last_pid", "w").write(str(pid - 1))
open("/proc/sys/kernel/pid_max", "w").write("400")
next_pid(350)  # below 300 the kernel gives no PID a second time
began = wgsvc("start", "wg0")
assert began.returncode == 0, began.stderr
told = json.loads(wgsvc("status", "--json").stdout)
daemon, supervisor = told["tunnels"][0]["children"][0]["pid"], told["supervisor"]["pid"]
strangers = []
for pid in (supervisor, daemon):
    os.kill(pid, 9)
    os.waitpid(pid, 0)  # as PID 1 of the namespace this process inherits and reaps them
for pid in (supervisor, daemon):
    next_pid(pid)
    strangers.append(subprocess.Popen(["sleep", "1000"]))
    assert strangers[-1].pid == pid
next_pid(380)
done = wgsvc(sys.argv[1], "wg0")
print(json.dumps({"code": done.returncode, "said": done.stderr, "pid": daemon,
                  "alive": [child.poll() is None for child in strangers]}))
wgsvc("stop", "wg0")
for child in strangers:
    child.kill()
    child.wait()
"""


@pytest.mark.parametrize("verb", ["start", "stop"])
@row(
    "supervisor and wireguard-go die, and in a PID namespace of 400 their PIDs become others'",
    "those are never signalled; start and stop succeed",
)
def test_t01_pid_reuse(host: Host, verb: str) -> None:
    host.tunnel()
    done = subprocess.run(
        [
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            sys.executable,
            "-c",
            INNER,
            verb,
        ],
        env=host.environment(),
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    host.said.append(done.stdout + done.stderr)

    told = json.loads(done.stdout)

    assert told["code"] == 0, told
    assert told["alive"]
    assert all(told["alive"]), told


@pytest.mark.parametrize("step_s", [3600, -3600, 315_360_000, -315_360_000])
@row(
    "the clock jumps by an hour or by ten years, forward and back",
    "nothing is restarted, stop works",
)
def test_t02_clock_steps(host: Host, tmp_path: Path, step_s: int) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\n"
        "real = time.time\n"
        f"time.time = lambda: real() + ({step_s} if os.path.exists('{tmp_path}/stepped') else 0)\n"
    )
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    host.tunnel()
    host.ok("start", "wg0", env=env)
    pid, supervisor = host.daemon(), host.supervisor()

    (tmp_path / "stepped").touch()

    assert host.state()["state"] == "up"
    host.ok("start", "wg0", env=env)
    assert (host.daemon(), host.supervisor()) == (pid, supervisor)
    host.kill(pid)
    eventually(lambda: host.daemons() not in ([], [pid]), within_s=5)
    host.ok("stop", "wg0", env=env)
    host.untouched()


BAD_PIDS = [-1, 0, 1, "self", "parent", 99999999999, "12", 1.5, None, True, [1], 10**400]


@pytest.mark.parametrize("verb", ["start", "stop"])
@pytest.mark.parametrize("pid", BAD_PIDS, ids=lambda pid: str(pid)[:12])
@row(
    "a journal names PID -1, 0, 1, the test's own, its parent's, 99999999999, text, ...",
    "nothing is ever signalled because of it; start and stop succeed",
)
def test_t04_pids_in_a_journal(host: Host, pid: Any, verb: str) -> None:
    number = {"self": os.getpid(), "parent": os.getppid()}.get(pid, pid) if pid != [1] else pid
    stranger = subprocess.Popen(["sleep", "1000"])
    host.foreign.append(stranger)
    host.tunnel()
    host.ok("start", "wg0")
    journal = RUN_DIR / "wg0.json"
    entry = json.loads(journal.read_text())
    os.kill(host.supervisor(), signal.SIGKILL)
    host.kill(host.daemon())
    journal.write_text(json.dumps({**entry, "pid": number}))

    host.ok(verb, "wg0")

    assert stranger.poll() is None
    assert alive(1)


@row(
    "a journal names a foreign process with its right start time",
    "it does not serve our socket: not signalled",
)
def test_t05_a_stranger_with_the_right_start_time(host: Host) -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    host.foreign.append(stranger)
    host.tunnel()
    host.ok("start", "wg0")
    entry = json.loads((RUN_DIR / "wg0.json").read_text())
    os.kill(host.supervisor(), signal.SIGKILL)
    host.kill(host.daemon())
    fields = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()
    forged = {**entry, "pid": stranger.pid, "start_id": fields[19], "boot_id": "another"}
    (RUN_DIR / "wg0.json").write_text(json.dumps(forged))

    host.ok("start", "wg0")

    assert stranger.poll() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"x"',
        "{}",
        '{"schema": 1}',
        '{"schema": 99}',
        "\x00" * 100,
        "9" * 10000,
    ],
    ids=repr,
)
@pytest.mark.parametrize("verb", ["start", "stop"])
@row(
    "a journal that is empty, cut short, of another version, or no journal", "as if there were none"
)
def test_t04_forged_journals(host: Host, text: str, verb: str) -> None:
    host.tunnel()
    RUN_DIR.mkdir(0o750)
    (RUN_DIR / "wg0.json").write_text(text)

    result = host.ok(verb, "wg0")

    assert "Traceback" not in result.said
    assert "internal" not in host.log()


@row("a lock file that holds -1, text, a MiB", "it is only a text: never a PID to signal")
def test_t04_lock_file_contents(host: Host) -> None:
    host.tunnel()
    RUN_DIR.mkdir(0o750)
    for text in ("-1\n", "text", "1\n", "9" * (1 << 20)):
        (RUN_DIR / "wgsvc.pid").write_text(text)
        host.ok("start", "wg0")
        host.ok("stop", "wg0")
