"""D02: ENOBUFS. The kernel has more to say of routes than anybody reads."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.tunnels import ROOT, Host, eventually, ip, some_public_key, way_out
from tests.witnesses import replace

pytestmark = pytest.mark.root

TABLE = "77"  # nobody's: the route monitor has no word for what is in it
TINY = """\
import socket
from wgsvc.system.linux import monitor, netlink
make, listen = netlink.Connection.__init__, monitor.monitor_open
def made(self):
    make(self)
    self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel doubles it
def listening(table):
    found = listen(table)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)  # the kernel makes 2304 of it
    return found
netlink.Connection.__init__, monitor.monitor_open = made, listening
"""


def full_tunnel(host: Host) -> Path:
    """Write a tunnel for everything, whose endpoint has to be pinned to the way out."""
    peer = (
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = 0.0.0.0/1, 128.0.0.0/1\n"
        "Endpoint = 203.0.113.9:51820\n"
    )
    return host.tunnel("wg0", peer=peer)


def pinned_through(gateway: str) -> bool:
    """Return whether the endpoint is reached through a gateway, by its own route."""
    return f"via {gateway}" in ip("route", "show", "203.0.113.9/32")


def routes(change: str, count: int = 2000) -> None:
    """Add or delete many routes in one go, in a table that no tunnel has to do with."""
    lines = (
        f"route {change} blackhole 10.{99 + number // 65536}.{number // 256 % 256}.{number % 256}"
        f" table {TABLE}\n"
        for number in range(count)
    )
    subprocess.run(["ip", "-force", "-batch", "-"], input="".join(lines), text=True, check=True)


def monitor(host: Host) -> int:
    """Return the PID of the route monitor, 0 if there is none now."""
    children = host.state()["children"]
    return next((child["pid"] for child in children if child["role"] == "route-monitor"), 0)


def drops(pid: int) -> int:
    """Return how many messages the kernel could not give to a process' netlink sockets."""
    inodes = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(f"/proc/{pid}/fd/{number}").strip("socket:[]"))
    lines = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()[1:]]
    return sum(int(words[8]) for words in lines if words[9] in inodes)


@pytest.mark.timeout(120)
@row(
    "the route monitor's buffer overflows (ENOBUFS), and what is lost says that the default route "
    "has another gateway",
    "the endpoint is pinned to the new gateway; the monitor goes on",
)
def test_d02_the_monitor_overflows(host: Host) -> None:
    way_out(host)
    full_tunnel(host)
    host.ok("start", "wg0")
    assert pinned_through("198.51.100.1")
    ear = eventually(lambda: monitor(host), what="the route monitor")
    eventually(lambda: drops(ear) == 0, what="its socket is there")
    os.kill(ear, signal.SIGSTOP)
    for _ in range(50):  # its buffer holds thousands
        routes("add")
        routes("delete")
        if drops(ear):
            break
    lost = drops(ear)
    assert lost
    ip("route", "replace", "default", "via", "198.51.100.3")
    assert drops(ear) > lost

    os.kill(ear, signal.SIGCONT)

    eventually(lambda: pinned_through("198.51.100.3"), what="the pin follows")
    assert monitor(host) == ear
    assert host.status("wg0")["exit"] == 0
    host.ok("stop", "wg0")
    ip("route", "replace", "default", "via", "198.51.100.1")


@row(
    "the answers to a request overflow its buffer (ENOBUFS): 8 KiB, 200 refusals",
    "start says so, all is rolled back; without the refusals that buffer is enough",
)
def test_d02_a_request_overflows(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TINY)
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    allowed = [f"10.50.{number}.0/24" for number in range(200)]
    for prefix in allowed:
        ip("route", "add", "blackhole", prefix)
    there = host.shown()
    host.tunnel(
        peer=f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = {', '.join(allowed)}\n"
    )

    result = host.wgsvc("start", "wg0", env=env)

    assert result.code == 71, result.said
    assert "ENOBUFS" in result.err
    eventually(lambda: not host.strangers())
    assert host.shown() == there
    for prefix in allowed:
        ip("route", "delete", "blackhole", prefix)
    host.ok("start", "wg0", env=env)
    assert host.state()["state"] == "up"
    host.ok("stop", "wg0", env=env)
    host.untouched()


@pytest.mark.timeout(120)
@row(
    "start, reload, kill -9 of wireguard-go and stop amid a storm of route changes, the "
    "monitor's buffer 2304 bytes, a request's 8 KiB",
    "each does what it does otherwise; the pin follows the default route",
)
def test_d02_a_storm_of_routes(host: Host, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TINY)
    env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    way_out(host)
    path = full_tunnel(host)
    with storm():
        host.ok("start", "wg0", env=env)
        ear = eventually(lambda: monitor(host), what="the route monitor")
        eventually(lambda: drops(ear), what="it overflows")
        replace(path, ("128.0.0.0/1", "128.0.0.0/1, 192.168.9.0/24"))
        host.ok("reload", "wg0")
        old = host.daemon()
        host.kill(old)
        eventually(lambda: host.daemons() not in ([], [old]), what="respawned")
        eventually(lambda: host.state()["state"] == "up")
        ip("route", "replace", "default", "via", "198.51.100.3")
        eventually(lambda: pinned_through("198.51.100.3"), what="the pin follows")
        assert "192.168.9.0/24 dev wg0" in ip("route")
        assert monitor(host) == ear
        host.ok("stop", "wg0")
        ip("route", "replace", "default", "via", "198.51.100.1")
    eventually(lambda: not host.strangers())
    host.untouched()


@contextlib.contextmanager
def storm() -> Iterator[None]:
    """Change routes as fast as the kernel does it, until the block ends."""
    over = threading.Event()

    def blow() -> None:
        while not over.is_set():
            routes("add", 500)
            routes("delete", 500)

    wind = threading.Thread(target=blow)
    wind.start()
    try:
        yield
    finally:
        over.set()
        wind.join()
