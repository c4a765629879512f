"""The laboratory as an ordinary user, in a user namespace."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.tunnels import eventually
from wgsvc.lab.linux_namespaces import start_id

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ROOT = str(Path(__file__).parents[2])
UID = 54321
RECORD = f"/tmp/wgsvc-lab-{UID}"  # noqa: S108  # where such a user's lab is on record
AS_USER = ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", "--inh-caps=-all"]


def as_user(*words: str, tun_mode: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an ordinary user, with a /dev/net/tun of this mode (in octal)."""
    script = (
        "mount -t tmpfs none /srv && mknod -m $0 /srv/tun c 10 200 &&"
        f' mount --bind /srv/tun /dev/net/tun && exec {shlex.join(AS_USER)} env "$@"'
    )
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, tun_mode, *words],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture(name="python", scope="module")
def _python() -> str:
    """Return an interpreter that an ordinary user may run, with this tree in reach."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        probe = as_user(candidate, "-c", "import wgsvc, daemon", tun_mode="666")
        if probe.returncode == 0:
            return candidate
    pytest.skip("an ordinary user can't reach Python or this tree here")


@pytest.fixture(name="_user_namespaces", scope="module")
def _may_use_user_namespaces() -> None:
    probe = subprocess.run([*AS_USER, "unshare", "-Urnm", "true"], check=False, timeout=20)
    if probe.returncode != 0:
        pytest.skip("no user namespaces for ordinary users here")


@pytest.mark.usefixtures("_user_namespaces")
def test_ordinary_user_runs_the_lab_keeps_it_enters_it_and_removes_it(python: str) -> None:
    lab = [python, "-m", "wgsvc", "lab"]
    done = as_user(*lab, "--keep", tun_mode="666")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        (enter,) = (
            line.split()[1:] for line in done.stdout.splitlines() if "vpnr1  nsenter" in line
        )
        inside = as_user(*enter, "wg", "show", "wg0", "latest-handshakes", tun_mode="666")
        assert inside.returncode == 0, inside.stderr
    finally:
        removed = as_user(*lab, "--remove", tun_mode="666")
    assert "vpnr1" in removed.stdout
    assert not os.path.exists(RECORD)
    eventually(lambda: processes_of_the_user() == [])


def processes_of_the_user() -> list[int]:
    """Return what runs as the user; a dead process that its parent has yet to collect doesn't."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    alive = [pid for pid in pids if start_id(pid) is not None]
    return [pid for pid in alive if os.stat(f"/proc/{pid}").st_uid == UID]


def test_what_is_missing_is_said_and_the_exit_status_is_69(python: str) -> None:
    done = as_user(python, "-m", "wgsvc", "lab", tun_mode="600")
    assert done.returncode == 69
    assert "/dev/net/tun" in done.stderr
    assert not os.path.exists(RECORD)
    bare = as_user("PATH=/nonexistent", python, "-m", "wgsvc", "lab", tun_mode="666")
    assert bare.returncode == 69
    assert "apt-get install wireguard-go" in bare.stderr
