"""C24, B05: names of endpoints, when who resolves them dies, or the network comes late."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rows import row
from tests.tunnels import Host, eventually, ip, some_public_key

pytestmark = pytest.mark.root

ADDRESS = "203.0.113.9"


class NameServer:
    """A name server on 127.0.0.1:53: it hears all, and answers once it is told to."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            question, caller = self._socket.recvfrom(4096)
            if not question:
                return
            self.asked += 1
            if self.answers.is_set():
                self._socket.sendto(answer(question), caller)

    def close(self) -> None:
        """End it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", 53))
        self._thread.join()
        self._socket.close()


def answer(question: bytes) -> bytes:
    """Return the answer to a DNS question (RFC 1035): ADDRESS for type A, nothing else."""
    end = question.index(b"\0", 12) + 5
    (kind,) = struct.unpack_from("!H", question, end - 4)
    found = kind == 1
    head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, int(found), 0, 0)
    record = struct.pack("!HHHLH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(ADDRESS)
    return head + question[12:end] + (record if found else b"")


@contextlib.contextmanager
def name_server() -> Iterator[NameServer]:
    """Have the host ask a name server of the test's."""
    Path("/etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:5 attempts:1\n")
    server = NameServer()
    try:
        yield server
    finally:
        server.close()


def named_tunnel(host: Host, allowed: str) -> None:
    """Write a tunnel whose peer has a name."""
    peer = (
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = {allowed}\n"
        "Endpoint = vpn.example.test:51820\n"
    )
    host.tunnel("wg0", peer=peer)


def resolvers(host: Host) -> list[int]:
    """Return the supervisor's forks that are no route monitor: those that resolve names."""
    (state,) = host.status("wg0")["tunnels"]
    known = {child["pid"] for child in state["children"]}
    supervisor = host.supervisor()
    return [
        process.pid
        for process in host.processes()
        if process.parent == supervisor and process.pid not in known and process.state != "Z"
    ]


def endpoint(host: Host) -> str | None:
    """Return the endpoint that status shows."""
    (peer,) = host.state()["peers"]
    return peer["endpoint"] if not peer["unresolved"] else None


@row(
    "kill -9 of the process that resolves an endpoint's name, and SIGSTOP of the next one",
    "the tunnel is up all the while, the name is asked for again and found",
)
def test_c24_resolver(host: Host) -> None:
    with name_server() as server:
        named_tunnel(host, "192.168.7.0/24")
        host.ok("start", "wg0")
        pid = host.daemon()
        eventually(lambda: server.asked, what="the name is asked for")
        (first,) = eventually(lambda: resolvers(host), what="somebody resolves it")
        host.kill(first)

        (second,) = eventually(
            lambda: [child for child in resolvers(host) if child != first], what="another one"
        )
        assert endpoint(host) is None
        host.kill(second, signal.SIGSTOP)
        server.answers.set()

        eventually(lambda: endpoint(host) == f"{ADDRESS}:51820", within_s=40, what="it is found")
        assert host.daemon() == pid
        eventually(lambda: not resolvers(host), what="nobody who resolves is left")
        assert host.status("wg0")["exit"] == 0


@pytest.mark.parametrize("allowed", ["0.0.0.0/0", "0.0.0.0/1, 128.0.0.0/1"])
@row(
    "boot with an interface, a gateway and a name server that come late, a tunnel for everything",
    "up within `resolve_timeout_s`, its routes held back; later the name is found, and they go in",
)
def test_b05_a_late_network(host: Host, allowed: str) -> None:
    host.options = ["--set", "resolve_timeout_s=1"]
    with name_server() as server:
        named_tunnel(host, allowed)
        began = host.ok("start", "wg0")
        assert began.took_s < 5
        assert endpoint(host) is None
        assert host.state()["waiting_for"] == ["vpn.example.test"]
        pid = host.daemon()

        ip("link", "add", "late0", "type", "veth", "peer", "name", "late1")
        for name in ("late0", "late1"):
            ip("link", "set", name, "addrgenmode", "none", "up")
        ip("address", "add", "198.51.100.2/24", "dev", "late0")
        ip("route", "add", "default", "via", "198.51.100.1")
        server.answers.set()

        eventually(lambda: endpoint(host) == f"{ADDRESS}:51820", within_s=40, what="it is found")
        eventually(lambda: host.status("wg0")["exit"] == 0, what="nothing is held back")
        pinned = "via 198.51.100.1" in ip("route", "show", f"{ADDRESS}/32")
        assert pinned == (allowed != "0.0.0.0/0") != ("fwmark" in ip("rule"))
        assert host.daemon() == pid
        host.ok("stop", "wg0")
        ip("link", "delete", "late0")
        host.untouched()


def proportional_kib(pids: list[int]) -> int:
    """Return the memory of processes, what they share divided among those that share it."""
    total = 0
    for pid in pids:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


@pytest.mark.timeout(120)
@row(
    "600 peers with names of their own, and a name server that never answers",
    "at most 8 children look names up at once; supervisor and children take less than 60 MiB",
)
def test_c25_six_hundred_names(host: Host) -> None:
    host.options = ["--set", "resolve_timeout_s=1"]
    peers = "".join(
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = 10.77.{n // 250}.{n % 250}/32\n"
        f"Endpoint = peer{n}.example.test:51820\n"
        for n in range(600)
    )
    with name_server() as server:
        host.tunnel("wg0", peer=peers)
        host.ok("start", "wg0")
        most = kib = 0

        def many_were_asked() -> bool:
            nonlocal most, kib
            children = resolvers(host)
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                kib = max(kib, proportional_kib([host.supervisor(), *children]))
            most = max(most, len(children))
            return server.asked > 40

        eventually(many_were_asked, within_s=60, what="names are asked for")

        assert 0 < most <= 8
        assert kib < 60 << 10
        assert host.wgsvc("status", "wg0").took_s < 5
