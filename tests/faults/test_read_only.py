"""D02: file systems that become read-only in mid-flight."""

from __future__ import annotations

import subprocess

import pytest

from tests.faults.rows import row
from tests.faults.test_resources import mount_run_dir
from tests.tunnels import CONFIG_DIR, RUN_DIR, Host, eventually
from tests.witnesses import replace, wg

pytestmark = pytest.mark.root

OVER = "mount --bind {0} {0} && mount -o remount,bind,ro {0}"
"""
A read-only mount over a folder, in one line of shell.

The supervisor's lock is open for writing, so the kernel refuses to make the file system
itself read-only (EBUSY); whatever goes by a path finds this one.
"""


def make_read_only(folder: str) -> None:
    """Mount a folder read-only over itself."""
    subprocess.run(["sh", "-c", OVER.format(folder)], check=True)


def make_writable(folder: str) -> None:
    """Take the read-only mount away again."""
    subprocess.run(["umount", folder], check=True)


def remount(folder: str, how: str) -> None:
    """Remount a whole file system `ro` or `rw`."""
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


@row(
    "the file system of the run directory is remounted read-only after a stop",
    "start refuses before any effect and says why",
)
def test_d02_run_dir_read_only_before_a_start(host: Host) -> None:
    mount_run_dir("size=64k")
    host.tunnel()
    host.ok("start", "wg0")
    host.ok("stop", "wg0")
    eventually(lambda: not host.strangers(), what="nobody has a file open there")
    remount(str(RUN_DIR), "ro")

    result = host.wgsvc("start", "wg0")

    assert result.code == 71, result.said
    assert "EROFS" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    remount(str(RUN_DIR), "rw")
    host.ok("start", "wg0")
    host.ok("stop", "wg0")
    eventually(lambda: not host.strangers())
    subprocess.run(["umount", str(RUN_DIR)], check=True)


@row(
    "the run directory becomes read-only amid a start (PostUp does it)",
    "the start fails and says why, all is rolled back",
)
def test_d02_run_dir_read_only_amid_a_start(host: Host) -> None:
    host.tunnel("wg0", f"PostUp = {OVER.format(RUN_DIR)}")

    result = host.wgsvc("start", "wg0")

    assert result.code == 71, result.said
    assert f"{RUN_DIR}/wg0.json: Read-only file system" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    make_writable(str(RUN_DIR))
    host.tunnel()


@row(
    "the run directory becomes read-only while a tunnel runs",
    "it goes on, wireguard-go is respawned, another tunnel's start is refused; reload applies the "
    "file and says what it could not note; stop takes it down",
)
def test_d02_run_dir_read_only_while_running(host: Host) -> None:
    path = host.tunnel("wg0")
    host.tunnel("wg1", number=2)
    host.ok("start", "wg0")
    old, before = host.daemon(), host.shown()
    make_read_only(str(RUN_DIR))

    refused = host.wgsvc("start", "wg1")
    assert refused.code == 71, refused.said
    assert "EROFS" in refused.err
    assert (host.daemon(), host.shown()) == (old, before)
    assert host.status("wg0")["exit"] == 0

    host.kill(old)
    eventually(lambda: host.daemons() not in ([], [old]), what="respawned")
    eventually(lambda: host.state()["state"] == "up")
    assert host.shown() == before

    replace(path, ("192.168.1.0/24", "192.168.7.0/24"))
    reloaded = host.wgsvc("reload", "wg0")
    assert reloaded.code == 71, reloaded.said
    assert f"{RUN_DIR}/wg0.json: Read-only file system" in reloaded.err
    assert "192.168.7.0/24" in "".join(host.shown()["routes"])
    assert host.status("wg0")["exit"] == 0

    host.ok("stop", "wg0")
    eventually(lambda: not host.strangers())
    host.untouched()
    assert f"{RUN_DIR}/wg0.json stays: Read-only file system" in host.log()
    make_writable(str(RUN_DIR))


@pytest.mark.parametrize("then", ["stop", "kill"])
@row(
    "the whole of /run becomes read-only while a tunnel runs, sockets included; then a stop, or "
    "kill -9 of wireguard-go",
    "stop takes it down; what can't be respawned is `failed` with its reason, start has it back",
)
def test_d02_all_of_run_read_only_while_running(host: Host, then: str) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid = host.daemon()
    make_read_only("/run")
    assert host.status("wg0")["exit"] == 0

    if then == "stop":
        host.ok("stop", "wg0")
        eventually(lambda: not host.strangers())
        host.untouched()
        make_writable("/run")
        return
    host.kill(pid)
    eventually(lambda: host.state()["state"] == "failed", within_s=30)
    assert host.state()["reason"]
    make_writable("/run")
    host.ok("start", "wg0")
    assert host.status("wg0")["exit"] == 0


@row(
    "the file system of the configuration folder is remounted read-only while a tunnel runs",
    "status and reload go on; save says why it can't and leaves the file; a stop that has to save "
    "says so and takes all down",
)
def test_d02_config_dir_read_only_while_running(host: Host) -> None:
    path = host.tunnel("wg0", "SaveConfig = true")
    host.ok("start", "wg0")
    replace(path, ("192.168.1.0/24", "192.168.7.0/24"))
    edited, pid = path.read_bytes(), host.daemon()
    remount(str(CONFIG_DIR), "ro")

    host.ok("reload", "wg0")
    assert "192.168.7.0/24" in "".join(host.shown()["routes"])
    assert host.daemon() == pid
    (key,) = wg("show", "wg0", "peers").split()
    wg("set", "wg0", "peer", key, "persistent-keepalive", "25")
    saved = host.wgsvc("save", "wg0")
    assert saved.code == 71, saved.said
    assert "Read-only file system" in saved.err
    assert host.state()["state"] == "up"

    stopped = host.wgsvc("stop", "wg0")
    assert stopped.code == 71, stopped.said
    assert f"write {path}: Read-only file system" in stopped.err
    eventually(lambda: not host.strangers())
    host.untouched()
    assert path.read_bytes() == edited
    assert [entry.name for entry in CONFIG_DIR.iterdir()] == [path.name]
    remount(str(CONFIG_DIR), "rw")
