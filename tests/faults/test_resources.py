"""D01 to D04: no disk, no descriptors, no processes, nobody who reads."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.faults.test_children import cpu_ticks
from tests.tunnels import RUN_DIR, Host, descriptors, eventually

pytestmark = pytest.mark.root


def mount_run_dir(options: str) -> None:
    """Mount a file system of its own there."""
    RUN_DIR.mkdir(0o750, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"mode=0750,{options}", "tmpfs", str(RUN_DIR)]
    subprocess.run(words, check=True)


def fill(keep_bytes: int = 0) -> None:
    """Fill the run directory to the last page but `keep_bytes`."""
    free = os.statvfs(RUN_DIR)
    (RUN_DIR / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - keep_bytes))


@pytest.mark.parametrize("pages", [1, 2, 3])
@row(
    "run directory with room for 1, 2, 3 pages",
    "start works or fails before any effect; stop works",
)
def test_d01_hardly_any_disk(host: Host, pages: int) -> None:
    mount_run_dir(f"size={4 * pages}k")
    host.tunnel()

    result = host.wgsvc("start", "wg0")

    assert result.code in (0, 71), result.said
    if result.code:
        assert "ENOSPC" in result.err
        host.untouched()
    else:
        host.ok("stop", "wg0")
    eventually(lambda: not host.strangers())
    subprocess.run(["umount", str(RUN_DIR)], check=True)


@row("the disk fills up while a tunnel runs", "it goes on; wireguard-go is respawned; stop works")
def test_d01_full_while_running(host: Host) -> None:
    mount_run_dir("size=64k")
    host.tunnel()
    host.ok("start", "wg0")
    fill()
    old = host.daemon()

    host.kill(old)

    eventually(lambda: host.daemons() not in ([], [old]), what="respawned")
    eventually(lambda: host.state()["state"] == "up")
    host.ok("stop", "wg0")
    host.untouched()
    eventually(lambda: not host.strangers())
    subprocess.run(["umount", str(RUN_DIR)], check=True)


@row("no inode left in the run directory while a tunnel runs", "it is respawned; stop works")
def test_d02_no_inodes_while_running(host: Host) -> None:
    mount_run_dir("size=64k,nr_inodes=5")
    host.tunnel()
    host.ok("start", "wg0")
    for number in range(9):
        try:
            (RUN_DIR / f"filler{number}").touch()
        except OSError:
            break
    else:
        pytest.fail("there are inodes left")
    old = host.daemon()

    host.kill(old)

    eventually(lambda: host.daemons() not in ([], [old]), what="respawned")
    host.ok("stop", "wg0")
    host.untouched()
    eventually(lambda: not host.strangers())
    subprocess.run(["umount", str(RUN_DIR)], check=True)


def limit(pid: int, what: int, most: int) -> None:
    """Set a soft limit of another process."""
    hard = resource.prlimit(pid, what)[1]
    resource.prlimit(pid, what, (most, hard))


@row(
    "the supervisor has no descriptor left (EMFILE)",
    "it says so and lives; with some again all works",
)
def test_d02_no_descriptors(host: Host) -> None:
    host.tunnel("wg0")
    host.tunnel("wg1", number=2)
    host.ok("start", "wg0")
    supervisor, pid = host.supervisor(), host.daemon()
    highest = max(map(int, os.listdir(f"/proc/{supervisor}/fd")))
    before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)[0]
    for room in (2, 3, 4, 6):
        limit(supervisor, resource.RLIMIT_NOFILE, highest + room)
        result = host.wgsvc("start", "wg1")
        assert result.code in (0, 71), result.said
        assert (result.code == 0) == ("wg1" in host.links())
        if result.code == 0:
            host.wgsvc("stop", "wg1")
    limit(supervisor, resource.RLIMIT_NOFILE, before)

    host.ok("start", "wg1")
    assert (host.supervisor(), host.daemon()) == (supervisor, pid)


@row(
    "wireguard-go dies while the supervisor has no descriptor left",
    "it is back when there are some again, or `failed`",
)
def test_d02_no_descriptors_at_respawn(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    supervisor, old = host.supervisor(), host.daemon()
    before = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)[0]
    highest = max(map(int, os.listdir(f"/proc/{supervisor}/fd")))
    limit(supervisor, resource.RLIMIT_NOFILE, highest + 1)
    host.kill(old)
    began = cpu_ticks(supervisor)
    time.sleep(0.5)  # this time without descriptors is the fault
    assert cpu_ticks(supervisor) - began < 25  # and it does not spin meanwhile
    limit(supervisor, resource.RLIMIT_NOFILE, before)

    eventually(lambda: host.state()["state"] in ("up", "failed"), within_s=20)
    host.ok("start", "wg0")
    assert host.state()["state"] == "up"


@row(
    "fork fails (EAGAIN) when wireguard-go is to be started",
    "told, rolled back; the next start works",
)
def test_d02_no_processes(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, os\n"
        "def short(real):\n"
        "    def call(*words, **named):\n"
        f"        if os.path.exists('{tmp_path}/none'):\n"
        "            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n"
        "        return real(*words, **named)\n"
        "    return call\n"
        "os.fork, os.posix_spawn = short(os.fork), short(os.posix_spawn)\n"
    )
    host.tunnel("wg0")
    host.tunnel("wg1", number=2)
    host.ok("start", "wg0", env={"PYTHONPATH": f"{tmp_path}:{host.environment()['PYTHONPATH']}"})
    supervisor = host.supervisor()
    assert host.state()["state"] == "up"  # now the route monitor is there, too
    held = min(len(descriptors(supervisor)) for _ in range(50))  # without that call's own
    (tmp_path / "none").touch()

    for _ in range(3):
        result = host.wgsvc("start", "wg1")

    eventually(lambda: len(descriptors(supervisor)) == held, what="no descriptor lost")
    assert result.code == 71, result.said
    assert "EAGAIN" in result.err
    assert host.links() == {"lo", "wg0"}
    (tmp_path / "none").unlink()


@row("`status --json | head -1`, a closed stdout, a full disk behind it", "no traceback, no harm")
def test_d03_nobody_reads(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")

    for line in ("wgsvc status --json | head -1", "wgsvc status >&-", "wgsvc status >/dev/full"):
        result = host.sh(line)
        assert "Traceback" not in result.said, (line, result.said)
        assert "Exception ignored" not in result.said, (line, result.said)


@row(
    "`wgsvc start wg0 | cat`, and stderr into the pipe as well",
    "the pipeline ends: the daemon holds none of it",
)
def test_d03_a_pipeline_ends(host: Host) -> None:
    host.tunnel()

    result = host.sh("set -o pipefail; wgsvc start wg0 2>&1 | cat", timeout_s=10)

    assert result.code == 0
    assert "ip tuntap add dev wg0" in result.out


@row("the one who asked for a start does not read what it says", "the tunnel comes up all the same")
def test_d03_a_caller_that_does_not_read(host: Host) -> None:
    host.tunnel("wg0")
    host.tunnel("wg1", "PostUp = (yes || true) | head -c 10M", number=2)
    host.ok("start", "wg0")
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(str(RUN_DIR / "control.sock"))
    caller.sendall(b'{"verb": "start", "names": ["wg1"], "options": {}}\n')

    eventually(lambda: host.state("wg1")["state"] == "up")
    caller.close()
    assert host.state("wg0")["state"] == "up"


@row(
    "callers that say nothing, half a request, nonsense, 10 MiB",
    "each is turned away; the daemon goes on",
)
def test_d03_callers_of_all_sorts(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    held = []
    for text in (
        b"",
        b'{"verb"',
        b"\xff\xfe\n",
        b"[]\n",
        b'{"verb": "format"}\n',
        b"x" * (10 << 20),
    ):
        caller = socket.socket(socket.AF_UNIX)
        caller.settimeout(10)
        caller.connect(str(RUN_DIR / "control.sock"))
        held.append(caller)
        try:
            caller.sendall(text)
        except OSError:
            continue

    assert host.state()["state"] == "up"
    for caller in held:
        caller.close()


@row("no syslogd", "all works")
def test_d04_no_syslog(host: Host) -> None:
    Path("/dev/log").unlink()
    host.tunnel()

    host.ok("start", "wg0")

    assert host.state()["state"] == "up"


@row("a syslogd that does not read (stopped, its disk full)", "nothing waits for it")
def test_d04_syslog_hangs(host: Host) -> None:
    Path("/dev/log").unlink()
    Path("/proc/sys/net/unix/max_dgram_qlen").write_text("1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hung:
        hung.bind("/dev/log")
        host.tunnel("wg0", "PostUp = seq 100")

        began = host.ok("start", "wg0")
        stopped = host.ok("stop", "wg0")

    assert began.took_s < 5
    assert stopped.took_s < 5
