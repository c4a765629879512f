"""C20 to C27: wireguard-go, the route monitor and hooks die, hang, or misbehave."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.tunnels import CONFIG_DIR, UAPI_DIR, Host, Result, alive, eventually, ip, script

pytestmark = pytest.mark.root


MESSAGES = {
    16: "NEWLINK",
    17: "DELLINK",
    20: "NEWADDR",
    21: "DELADDR",
    24: "NEWROUTE",
    25: "DELROUTE",
}
"""rtnetlink(7), linux/rtnetlink.h."""
GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE."""


class Announcements:
    """What the kernel announces of links, addresses and routes from now on."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._socket.bind((0, GROUPS))

    def so_far(self) -> list[str]:
        """Return the kinds of messages since the last time."""
        kinds: list[str] = []
        while True:
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return kinds
            while data:
                length, kind = struct.unpack_from("=IH", data)
                kinds.append(MESSAGES[kind])
                data = data[length + 3 & ~3 :]

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


def came_back(host: Host, old: int, name: str = "wg0") -> int:
    """Wait until another wireguard-go serves the tunnel; return its PID."""
    eventually(lambda: host.daemons(name) not in ([], [old]), what="another wireguard-go")
    eventually(lambda: host.state(name)["state"] == "up", what="up again")
    return host.daemon(name)


def wg_show(name: str = "wg0") -> list[str]:
    """Return what wg(8) shows of a tunnel's setting, without keys of ours and counters."""
    dump = subprocess.run(
        ["wg", "show", name, "dump"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return [dump[0], *("\t".join(line.split("\t")[:4] + line.split("\t")[7:]) for line in dump[1:])]


DEATHS = [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGHUP, signal.SIGQUIT]


@pytest.mark.parametrize("number", DEATHS, ids=lambda number: number.name)
@row(
    "wireguard-go dies by a signal (KILL, SEGV, ABRT, HUP, QUIT)",
    "it is back on the same interface with the same keys, port and peers; not one address or "
    "route is announced as gone or new",
)
def test_c20_killed(host: Host, number: signal.Signals) -> None:
    host.tunnel("wg0", "ListenPort = 51820", "MTU = 1380")
    host.ok("start", "wg0")
    before, shown, old = host.shown(), wg_show(), host.daemon()
    heard = Announcements()

    os.kill(old, number)

    came_back(host, old)
    eventually(lambda: host.shown() == before, what="the same MTU")
    assert wg_show() == shown
    # NEWLINK is the MTU: wireguard-go sets its own when it gets the tun, we set it right again.
    assert set(heard.so_far()) <= {"NEWLINK"}
    heard.close()
    assert host.state()["deaths"] == 1


@row("a default route, then the check of the row above", "the check sees what it must not see")
def test_c20_the_check_can_fail(host: Host) -> None:
    heard = Announcements()
    ip("route", "add", "blackhole", "192.0.2.0/24")
    ip("route", "delete", "blackhole", "192.0.2.0/24")

    assert heard.so_far() == ["NEWROUTE", "DELROUTE"]
    heard.close()
    host.untouched()


@row("SIGTERM to wireguard-go by somebody else", "it is back, with all addresses and routes")
def test_c20_ended_by_somebody_else(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    old, before = host.daemon(), host.shown()["routes"]

    os.kill(old, signal.SIGTERM)

    came_back(host, old)
    eventually(lambda: host.shown()["routes"] == before)


@row("SIGTERM to wireguard-go under on_exit = stop", "that is taken as a wish: the tunnel is down")
def test_c20_ended_by_somebody_else_who_means_it(host: Host) -> None:
    host.tunnel()
    host.options = ["--set", "on_exit=stop"]
    host.ok("start", "wg0")

    os.kill(host.daemon(), signal.SIGTERM)

    eventually(lambda: host.links() == {"lo"})
    eventually(lambda: not host.strangers(), what="the supervisor has ended, too")


@row(
    "wireguard-go is killed again and again",
    "after more than 5 deaths in 60 s the tunnel is `failed`: status says so and exits 1, nothing "
    "spins; start clears it",
)
def test_c21_again_and_again(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    for _ in range(6):
        eventually(lambda: host.daemons() != [], within_s=20)
        for pid in host.daemons():
            host.kill(pid)
    eventually(lambda: host.state()["state"] == "failed", within_s=20)

    said = host.wgsvc("status")
    assert said.code == 1
    assert "failed" in said.out
    assert "6 times within 60 s" in said.out
    supervisor = host.supervisor()
    began = cpu_ticks(supervisor)
    time.sleep(1)  # nothing may happen in it
    assert cpu_ticks(supervisor) - began <= 1
    assert host.daemons() == []

    host.ok("start", "wg0")
    assert host.state()["state"] == "up"
    assert host.state()["deaths"] == 0


def cpu_ticks(pid: int) -> int:
    """Return the CPU time of a process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@row("stop of a failed tunnel", "everything of it goes")
def test_c21_stop_of_a_failed_one(host: Host, tmp_path: Path) -> None:
    program = flapping(tmp_path)
    host.tunnel()
    host.options = ["--set", f"wireguard_go={program}", "--set", "ready_timeout_s=2"]
    host.ok("start", "wg0")
    (tmp_path / "broken").touch()
    host.kill(host.daemon())
    eventually(lambda: host.state()["state"] == "failed", within_s=20)
    assert "no luck today" in host.wgsvc("status").out

    host.ok("stop", "wg0")

    host.untouched()
    (tmp_path / "broken").unlink()


def flapping(folder: Path) -> str:
    """Return a wireguard-go that works until a file `broken` is beside it."""
    return script(
        folder / "wireguard-go",
        f"#!/bin/sh\n[ -e {folder}/broken ] && {{ echo no luck today >&2; exit 5; }}\n"
        'exec wireguard-go "$@"\n',
    )


@row(
    "the wireguard-go binary is gone when it has to be respawned, and comes back",
    "`failed` with the reason; start brings the tunnel up again",
)
def test_c22_binary_gone_at_respawn(host: Host, tmp_path: Path) -> None:
    program = Path(script(tmp_path / "wireguard-go", '#!/bin/sh\nexec wireguard-go "$@"\n'))
    host.tunnel()
    host.options = ["--set", f"wireguard_go={program}"]
    host.ok("start", "wg0")
    program.rename(tmp_path / "away")
    host.kill(host.daemon())
    eventually(lambda: host.state()["state"] == "failed", within_s=20)
    program.with_name("away").rename(program)

    host.ok("start", "wg0")

    assert host.state()["state"] == "up"


@row("SIGSTOP of wireguard-go", "status says within its bound that it is unresponsive, and exits 1")
def test_c23_stopped(host: Host) -> None:
    host.tunnel()
    host.options = ["--set", "step_timeout_s=1"]
    host.ok("start", "wg0")
    pid = host.daemon()
    os.kill(pid, signal.SIGSTOP)

    eventually(lambda: host.status("wg0")["exit"] == 1)
    said = host.wgsvc("status", "wg0")

    assert "unresponsive" in said.out
    assert said.took_s < 5
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: host.status("wg0")["exit"] == 0)
    assert host.daemon() == pid


@row(
    "stop while wireguard-go is stopped by SIGSTOP", "it is killed, and the stop ends in its bound"
)
def test_c23_stop_of_a_stopped_one(host: Host) -> None:
    host.tunnel()
    host.options = ["--set", "step_timeout_s=1"]
    host.ok("start", "wg0")
    os.kill(host.daemon(), signal.SIGSTOP)

    stopped = host.ok("stop", "wg0")

    assert stopped.took_s < 5
    host.untouched()


@row(
    "wireguard-go stays stopped for longer than unresponsive_after_s", "it is killed and respawned"
)
def test_c23_hung_for_good(host: Host) -> None:
    host.tunnel()
    host.options = ["--set", "unresponsive_after_s=1"]
    host.ok("start", "wg0")
    old, before = host.daemon(), host.shown()
    os.kill(old, signal.SIGSTOP)

    eventually(lambda: host.wgsvc("status") and not alive(old), within_s=20)

    came_back(host, old)
    assert host.shown() == before


@row("kill -9 of the route monitor", "another one runs, the tunnel is not touched")
def test_c24_route_monitor(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    pid = host.daemon()

    def monitors() -> list[int]:
        told = host.status()
        children = [*told["supervisor"].get("children", ()), *told["tunnels"][0]["children"]]
        return [child["pid"] for child in children if child["role"] != "wireguard-go"]

    (old,) = eventually(monitors, what="a route monitor")
    host.kill(old)

    eventually(lambda: monitors() not in ([], [old]), what="another route monitor")
    assert host.daemon() == pid


# --- hooks


def start_with_hook(host: Host, hook: str, *options: str) -> Result:
    """Start wg0 with a PostUp."""
    host.tunnel("wg0", f"PostUp = {hook}")
    host.options = ["--set", "hook_timeout_s=1", *options]
    return host.wgsvc("start", "wg0")


@row(
    "PostUp that never ends, and its children",
    "killed with its group after hook_timeout_s, all rolled back",
)
def test_c25_hook_hangs(host: Host) -> None:
    result = start_with_hook(host, "sleep 1000 & sleep 1000")

    host.startable.clear()
    assert result.code == 75, result.said
    assert "PostUp did not end within 1 s" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()


@row("PostUp that ignores SIGTERM", "killed all the same, all rolled back")
def test_c25_hook_ignores_sigterm(host: Host) -> None:
    result = start_with_hook(host, "trap '' TERM; while :; do sleep 0.1; done")

    host.startable.clear()
    assert result.code == 75, result.said
    assert result.took_s < 10
    eventually(lambda: not host.strangers())
    host.untouched()


@row(
    "PostUp leaves a process in the background that holds its output open",
    "start does not wait for it",
)
def test_c25_hook_leaves_a_fork(host: Host) -> None:
    # setsid: a service of the user's own, not the hook's business any more.
    result = start_with_hook(host, "setsid sleep 1000 & echo $! >/run/left")
    left = int(Path("/run/left").read_text())

    assert result.code == 0, result.said
    assert result.took_s < 5
    # By argv[0]: what is to become it is called `setsid sleep 1000` or bash before.
    (sleeper,) = eventually(lambda: [p.pid for p in host.processes() if p.argv[0] == "sleep"])
    host.startable.clear()
    host.ok("stop", "wg0")
    assert alive(sleeper)
    assert left > 0
    host.kill(sleeper)


@row("PostUp writes 1 GiB", "it runs on, 64 KiB of it are shown, the daemon's memory stays small")
def test_c25_hook_floods(host: Host) -> None:
    host.tunnel("wg0", "PostUp = head -c 1G /dev/zero | tr '\\\\0' 'x'")
    host.options = ["--set", "hook_timeout_s=60"]

    result = host.ok("start", "wg0")

    assert len(result.said) < 200_000
    assert "the rest is dropped" in result.err
    status = Path(f"/proc/{host.supervisor()}/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    assert peak_kib < 64 << 10
    host.startable.clear()


@row(
    "wireguard-go is killed while a UAPI request is in flight",
    "an error, no hang; the tunnel is back",
)
def test_c26_dies_in_the_middle_of_a_get(host: Host) -> None:
    host.tunnel()
    host.options = ["--set", "step_timeout_s=30"]
    host.ok("start", "wg0")
    old = host.daemon()
    os.kill(old, signal.SIGSTOP)
    asking = host.begin("status", "wg0")
    eventually(lambda: connections(UAPI_DIR / "wg0.sock"), what="the question is asked")

    host.kill(old)

    answer = host.finish(asking, timeout_s=10)
    assert answer.code in (0, 1), answer.said
    came_back(host, old)


def connections(path: Path) -> int:
    """Return how many connections to a socket are there."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    return sum(line.endswith(f"{path}") for line in lines) - 1


@row("wireguard-go's socket is removed by somebody else", "it ends, and is back with a socket")
def test_c27_socket_removed(host: Host) -> None:
    host.tunnel()
    host.ok("start", "wg0")
    old = host.daemon()

    (UAPI_DIR / "wg0.sock").unlink()

    came_back(host, old)
    assert (UAPI_DIR / "wg0.sock").is_socket()


@row(
    "another process sits on the tunnel's socket path when it is started",
    "it is told, and left alone",
)
def test_c27_socket_taken(host: Host) -> None:
    host.tunnel()
    UAPI_DIR.mkdir()
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(str(UAPI_DIR / "wg0.sock"))
        squatter.listen()

        result = host.wgsvc("--set", "ready_timeout_s=1", "start", "wg0")

        assert result.code != 0
        assert "wg0" in result.err
    eventually(lambda: not host.strangers())
    host.untouched()
    (UAPI_DIR / "wg0.sock").unlink(missing_ok=True)
    assert CONFIG_DIR.is_dir()
