"""What the supervisor is as a process: its limits, environment and name, whoever started it."""

from __future__ import annotations

import resource
import shutil
import socket
from pathlib import Path

import pytest

from tests.tunnels import Host, eventually, script, some_public_key
from tests.witnesses import wg

pytestmark = pytest.mark.root


def limits(pid: int, name: str) -> list[str]:
    """Return the soft and the hard limit."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith(name)).split()[-3:-1]


def umask(pid: int) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line for line in lines if line.startswith("Umask")).split()[1]


@pytest.mark.parametrize("foreground", [True, False])
def test_it_takes_nothing_over_from_its_caller(host: Host, *, foreground: bool) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    host.tunnel()
    strange = {"LOCALDOMAIN": "evil.example", "RES_OPTIONS": "ndots:9", "LD_DEBUG": ""}
    if foreground:
        daemon = host.begin("daemon", "--foreground", env=strange)
        eventually(host.supervisors, what="a supervisor")
    host.ok("start", "wg0", env=strange)

    pid = host.supervisor()

    assert limits(pid, "Max core file size") == ["0", "0"]
    assert umask(pid) == "0077"
    for child in host.state()["children"]:
        environ = Path(f"/proc/{child['pid']}/environ").read_bytes()
        assert b"evil.example" not in environ or child["role"] == "route-monitor"
    if foreground:
        host.ok("stop", "wg0")
        host.kill(pid, 15)
        host.finish(daemon)


def test_the_wireguard_go_that_is_examined_is_the_one_that_runs(host: Host, tmp_path: Path) -> None:
    """Another one, earlier in the caller's PATH, says nothing of what ours expects of its tun."""
    script(tmp_path / "wireguard-go", "#!/bin/sh\nexit 1\n")
    host.tunnel()

    host.ok("start", "wg0", env={"PATH": f"{tmp_path}:/usr/bin:/bin"})

    real = shutil.which("wireguard-go", path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert Path(f"/proc/{host.daemon()}/exe").resolve() == Path(str(real)).resolve()
    assert wg("show", "wg0", "listen-port")


def titles(host: Host) -> set[str]:
    """Return what ps shows of our own processes."""
    return {" ".join(process.argv).strip() for process in host.processes()}


def test_ps_tells_who_is_who(host: Host) -> None:
    host.options = ["--set", "resolve_timeout_s=1"]
    peer = (
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = 192.168.7.0/24\n"
        "Endpoint = vpn.example.test:51820\n"
    )
    Path("/etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:5 attempts:1\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 53))
        host.tunnel("wg0", peer=peer)
        host.ok("start", "wg0")

        eventually(lambda: "wgsvc: supervisor" in titles(host), what="the supervisor")
        eventually(lambda: "wgsvc: route monitor" in titles(host), what="the route monitor")
        eventually(lambda: "wgsvc: resolver vpn.example.test" in titles(host), what="the resolver")
        comm = Path(f"/proc/{host.supervisor()}/comm").read_text()
        assert comm.startswith("wgsvc: supervi")
