"""S01 to S05: stop, whatever is missing or in the way."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.tunnels import CONFIG_DIR, RUN_DIR, Host, eventually, ip, script

pytestmark = pytest.mark.root

# A shell that ignores SIGTERM hands that on to the program it becomes; Go keeps it only if
# it does not ask for the signal itself, so a wrapper stands between.
DEAF = (
    "#!/usr/bin/env python3\n"
    "import os, signal, sys\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
    "os.execvp('wireguard-go', ['wireguard-go', *sys.argv[1:]])\n"
)


@row(
    "stop of what does not run, twice, and of what has neither a tunnel nor a file",
    "exit 0, and it says so; of the latter 64",
)
def test_s01_absent(host: Host) -> None:
    host.tunnel()

    for name in ("wg0", "wg0", "/etc/wireguard/wg0.conf"):
        result = host.wgsvc("stop", name)
        assert (result.code, "wg0: not running" in result.err) == (0, True), result.said
    nope = host.wgsvc("stop", "wg0", "nope")
    assert nope.code == 64, nope.said
    assert "wg0: not running" in nope.err
    assert "nope: there is neither a tunnel nor a file of this name" in nope.err
    assert host.wgsvc("stop").code == 0
    host.untouched()


@pytest.mark.parametrize("supervisor", ["runs", "killed"])
@pytest.mark.parametrize("gone", ["file", "journal", "both"])
@row(
    "stop without the file, without the journal, without both, with and without the supervisor",
    "everything goes",
)
def test_s02_without_file_and_journal(host: Host, gone: str, supervisor: str) -> None:
    path = host.tunnel()
    host.ok("start", "wg0")
    if supervisor == "killed":
        host.kill(host.supervisor())
    text = path.read_text()
    if gone in ("file", "both"):
        path.unlink()
    if gone in ("journal", "both"):
        (RUN_DIR / "wg0.json").unlink()

    host.ok("stop", "wg0")

    host.untouched()
    path.write_text(text)


@row(
    "stop after the file was replaced by another tunnel's",
    "what was started goes, by what was recorded",
)
def test_s02_with_another_file(host: Host) -> None:
    host.tunnel("wg0", "PostDown = touch /run/old-post-down")
    host.ok("start", "wg0")
    host.tunnel("wg0", "PostDown = touch /run/new-post-down", number=5)

    host.ok("stop", "wg0")

    host.untouched()
    assert Path("/run/old-post-down").exists()
    assert not Path("/run/new-post-down").exists()


@row("stop after the file became unreadable nonsense", "everything goes")
def test_s02_with_a_broken_file(host: Host) -> None:
    path = host.tunnel()
    host.ok("start", "wg0")
    text = path.read_text()
    path.write_text("nonsense\n")

    host.ok("stop", "wg0")

    host.untouched()
    path.write_text(text)


@row("wireguard-go that ignores SIGTERM", "killed after step_timeout_s; nothing is left")
def test_s03_term_ignored(host: Host, tmp_path: Path) -> None:
    program = script(tmp_path / "wireguard-go", DEAF)
    host.tunnel()
    host.options = ["--set", f"wireguard_go={program}", "--set", "step_timeout_s=1"]
    host.ok("start", "wg0")

    stopped = host.ok("stop", "wg0")

    assert stopped.took_s < 5
    host.untouched()


@row(
    "somebody's own route over wg0, and a default route elsewhere",
    "the first goes with wg0, the other stays",
)
def test_s04_foreign_routes(host: Host) -> None:
    ip("route", "add", "default", "dev", "lo", "metric", "7")
    host.before = host.shown()
    host.tunnel()
    host.ok("start", "wg0")
    ip("route", "add", "203.0.113.0/24", "dev", "wg0")

    host.ok("stop", "wg0")

    host.untouched()
    host.ok("start", "wg0")


@row("somebody's own address on wg0, its MTU and state changed by hand", "all goes with wg0")
def test_s04_foreign_changes(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    ip("address", "add", "10.50.0.1/24", "dev", "wg0")
    ip("link", "set", "wg0", "mtu", "1300", "down")

    host.ok("stop", "wg0")

    host.untouched()


@row("wg0 deleted by somebody else under its wireguard-go, then stop", "nothing is left")
def test_s04_interface_deleted_by_others(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    ip("link", "delete", "wg0")

    host.ok("stop", "wg0")

    host.untouched()


@row(
    "8 tunnels whose wireguard-go ignores SIGTERM are stopped",
    "in parallel: within the time of one",
)
def test_s05_shutdown(host: Host, tmp_path: Path) -> None:
    program = script(tmp_path / "wireguard-go", DEAF)
    names = [f"wg{number}" for number in range(8)]
    for number, name in enumerate(names):
        host.tunnel(name, number=number + 1)
    host.options = ["--set", f"wireguard_go={program}", "--set", "step_timeout_s=2"]
    host.ok("start", *names)

    stopped = host.ok("stop")

    assert stopped.took_s < 8
    host.untouched()
    host.options = []


@row("SIGTERM to the supervisor", "all tunnels are taken down, it ends")
def test_s05_sigterm(host: Host) -> None:
    host.tunnel("wg0")
    host.tunnel("wg1", number=2)
    host.ok("start", "wg0", "wg1")

    subprocess.run(["kill", str(host.supervisor())], check=True)

    eventually(lambda: not host.strangers(), what="all have ended")
    host.untouched()
    assert CONFIG_DIR.is_dir()
