"""C15, S06: whoever asks gets an answer, also where a supervisor or a wireguard-go is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.faults.rows import row
from tests.faults.test_concurrency import at_once
from tests.tunnels import CONFIG_DIR, RUN_DIR, Host, eventually

pytestmark = pytest.mark.root

ASKING = [
    ("status",), ("status", "wg0"), ("status", "--json"), ("status", "--metrics"), ("stop",),
    ("stop", "wg0"), ("start", "wg0"), ("restart", "wg0"), ("reload",), ("reload", "all"),
    ("save", "wg0"), ("plan", "wg0"), ("daemon", "--replace"),
]  # fmt: skip


@row(
    "SIGSTOP of the supervisor, and each command that asks it",
    "75 after 10 s: `supervisor (PID n) does not answer`, and what to type; after SIGCONT it goes "
    "on, and does not make room for a supervisor that has given up",
)
def test_c15_supervisor_stopped(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid, supervisor = host.daemon(), host.supervisor()
    os.kill(supervisor, signal.SIGSTOP)
    began = time.monotonic()

    results = at_once(host, ASKING)

    assert time.monotonic() - began < 20
    for words, result in zip(ASKING, results, strict=True):
        assert result.code == 75, (words, result.said)
        assert result.out == ""
        assert f"supervisor (PID {supervisor}) does not answer" in result.err
        assert f"kill -CONT {supervisor}" in result.err
    os.kill(supervisor, signal.SIGCONT)
    eventually(lambda: host.wgsvc("status").code in (0, 3), what="what was asked for is done")
    host.ok("start", "wg0")
    assert host.state()["state"] == "up"
    assert host.daemon() != pid
    assert "supervisor ends: another one takes over" not in host.log()


@row("a supervisor that does not answer is killed, as the message says", "the tunnel is taken over")
def test_c15_what_the_message_says_helps(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid = host.daemon()
    os.kill(host.supervisor(), signal.SIGSTOP)
    told = host.wgsvc("status")
    assert told.code == 75

    subprocess.run(["kill", "-9", told.err.split("kill -9 ")[1].split(":")[0]], check=True)

    eventually(lambda: not host.supervisors())
    host.ok("start", "wg0")
    assert host.daemon() == pid


@pytest.mark.parametrize("words", [("stop",), ("stop", "wg0"), ("restart", "wg0")], ids=" ".join)
@pytest.mark.parametrize("supervisor", ["its own", "one that adopted it"])
@row("stop of a tunnel whose wireguard-go is stopped (SIGSTOP)", "it ends at once, not by SIGKILL")
def test_s06_wireguard_go_stopped(host: Host, words: tuple[str, ...], supervisor: str) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    if supervisor != "its own":
        host.kill(host.supervisor())
        host.ok("start", "wg0")
    os.kill(host.daemon(), signal.SIGSTOP)

    stopped = host.ok(*words)

    assert stopped.took_s < 2
    assert "SIGKILL" not in host.log()
    if words[0] == "stop":
        host.untouched()


@row(
    "stop of 5 tunnels whose wireguard-go are stopped, their supervisor killed",
    "adopted at the same time, 2 s together, and taken down at once",
)
def test_s06_all_stopped_and_no_supervisor(host: Host) -> None:
    names = [f"wg{number}" for number in range(5)]
    for number, name in enumerate(names):
        host.tunnel(name, number=number + 1)
    host.ok("start", *names)
    host.kill(host.supervisor())
    for name in names:
        os.kill(host.daemon(name), signal.SIGSTOP)

    stopped = host.ok("stop")

    assert stopped.took_s < 5
    host.untouched()


@row("status of 5 tunnels whose wireguard-go are stopped", "2 s together: all are asked at a time")
def test_s06_status_of_many_that_hang(host: Host) -> None:
    names = [f"wg{number}" for number in range(5)]
    for number, name in enumerate(names):
        host.tunnel(name, number=number + 1)
    host.ok("start", *names)
    for name in names:
        os.kill(host.daemon(name), signal.SIGSTOP)

    told = host.wgsvc("status")

    assert (told.code, told.out.count("unresponsive")) == (1, 5)
    assert told.took_s < 4
    for name in names:
        os.kill(host.daemon(name), signal.SIGCONT)
    eventually(lambda: host.status()["exit"] == 0)


@pytest.mark.timeout(120)
@row(
    "a start that takes longer than a supervisor may be silent (a hook of 12 s that says nothing)",
    "it is waited for: the supervisor lets the command know that it still works",
)
def test_c15_a_long_start_is_waited_for(host: Host) -> None:
    host.tunnel("wg0", "PostUp = sleep 12")
    host.startable.clear()

    assert host.ok("start", "wg0").took_s > 12
    host.ok("stop", "wg0")
    (CONFIG_DIR / "wg0.conf").unlink()
    host.names.clear()


@row(
    "the run directory is read-only by the time of a stop, so that the journal stays; then stop "
    "and status once more",
    "`not running` (0) and 3: what is gone is not called unsupervised",
)
def test_d02_after_a_stop_with_a_read_only_run_dir(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    subprocess.run(["mount", "--bind", RUN_DIR, RUN_DIR], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", RUN_DIR], check=True)
    host.ok("stop", "wg0")
    assert (RUN_DIR / "wg0.json").exists()
    eventually(lambda: not host.strangers())

    again = host.wgsvc("stop", "wg0")
    everything = host.wgsvc("stop")
    told, named = host.wgsvc("status"), host.status("wg0")

    assert (again.code, again.err) == (0, "wg0: not running\n")
    assert (everything.code, everything.said) == (0, "")
    assert (told.code, told.out) == (3, "no tunnel is running\n")
    assert (named["exit"], named["tunnels"][0]["state"]) == (3, "down")
    assert host.wgsvc("reload", "all").code == 71  # it would start wg0
    assert json.loads((RUN_DIR / "wg0.json").read_text())["phase"]
    subprocess.run(["umount", RUN_DIR], check=True)
