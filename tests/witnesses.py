"""Who sees what a command really does: on WireGuard's socket, in the kernel, in the tunnel."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.tunnels import UAPI_DIR, Host, eventually, ip, private_key, public_key

GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_: link, IPv4 and IPv6 address and route


def wg(*words: str, given: str = "") -> str:
    """Return what `wg WORDS` prints."""
    return subprocess.run(
        ["wg", *words], input=given, check=True, capture_output=True, text=True, timeout=20
    ).stdout


def showconf(name: str = "wg0") -> list[str]:
    """Return the sections that `wg showconf` prints, sorted: wireguard-go's peers have no order."""
    return sorted(section.strip() for section in wg("showconf", name).split("\n\n"))


def _connect(far: socket.socket, aside: Path, path: Path) -> None:
    """Connect to wireguard-go's socket, which is moved back when the witness leaves."""
    try:
        far.connect(str(aside))
    except FileNotFoundError:
        far.connect(str(path))


@contextlib.contextmanager
def uapi_recorded(name: str = "wg0") -> Iterator[list[str]]:
    """
    Stand between the command and wireguard-go: collect the `set` requests, pass all on.

    wireguard-go is the real one; only its socket has moved aside meanwhile.
    """
    path, aside = UAPI_DIR / f"{name}.sock", UAPI_DIR / f"{name}.aside"
    sets: list[str] = []
    threads: list[threading.Thread] = []
    path.rename(aside)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(16)

    def pass_on(near: socket.socket) -> None:
        with near, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as far:
            _connect(far, aside, path)
            request = bytearray()
            while not request.endswith(b"\n\n"):
                chunk = near.recv(1 << 16)
                if not chunk:
                    return
                request += chunk
            if request.startswith(b"set"):
                sets.append(request.decode())
            far.sendall(request)
            answer = bytearray()
            while not answer.endswith(b"\n\n"):
                answer += far.recv(1 << 20)
            near.sendall(answer)

    def serve() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=pass_on, args=(near,), daemon=True)
            threads.append(thread)
            thread.start()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield sets
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [server, *threads]:
            thread.join()  # what was accepted still needs the real socket where it is
        aside.rename(path)


@contextlib.contextmanager
def kernel_heard() -> Iterator[list[int]]:
    """Collect the types of the messages that the kernel announces changes with."""
    heard: list[int] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as listener:
        listener.bind((0, GROUPS))
        listener.setblocking(False)
        yield heard
        with contextlib.suppress(BlockingIOError):
            while True:
                data = listener.recv(1 << 16)
                heard.append(int.from_bytes(data[4:6], "little"))


class Far:
    """A host at the other end: a namespace, a link to it, a real wireguard-go on it."""

    def __init__(self, host: Host, port: int = 51821) -> None:
        ip("netns", "add", "far")
        ip("link", "add", "near0", "type", "veth", "peer", "name", "far0", "netns", "far")
        for words in (
            "addr add 192.0.2.1/24 dev near0",
            "-6 addr add 2001:db8::1/64 dev near0 nodad",
            "link set near0 up",
            "-n far addr add 192.0.2.2/24 dev far0",
            "-n far -6 addr add 2001:db8::2/64 dev far0 nodad",
            "-n far link set far0 up",
            "-n far link set lo up",
        ):
            ip(*words.split())
        # Only when the links' own addresses are there is this how it was before.
        eventually(lambda: "tentative" not in ip("-6", "addr"))
        eventually(lambda: "fe80" in ip("-6", "addr", "show", "dev", "near0"))
        host.before = host.shown()
        self.private, self.port = private_key(), port
        self.public = public_key(self.private)
        self._daemon = subprocess.Popen(
            ["ip", "netns", "exec", "far", "wireguard-go", "-f", "wgfar"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually((UAPI_DIR / "wgfar.sock").exists)
        wg("set", "wgfar", "private-key", "/dev/stdin", "listen-port", str(port),
           given=self.private)  # fmt: skip
        ip("-n", "far", "link", "set", "wgfar", "up")

    def peer(self, public: str, allowed: str, *more: str, given: str = "") -> None:
        """Give it a peer."""
        wg("set", "wgfar", "peer", public, "allowed-ips", allowed, *more, given=given)

    def address(self, *addresses: str) -> None:
        """Give its tunnel addresses, and a way back for all else."""
        for address in addresses:
            version = "-6" if ":" in address else "-4"
            ip("-n", "far", version, "addr", "add", address, "dev", "wgfar")

    def run(self, *words: str) -> str:
        """Return what a command prints there."""
        return subprocess.run(
            ["ip", "netns", "exec", "far", *words], check=True, capture_output=True, text=True
        ).stdout

    def close(self) -> None:
        """End it and the link."""
        self._daemon.send_signal(signal.SIGTERM)
        self._daemon.wait()
        with contextlib.suppress(FileNotFoundError):
            (UAPI_DIR / "wgfar.sock").unlink()
        ip("netns", "delete", "far")
        eventually(lambda: "near0" not in ip("link"))


@contextlib.contextmanager
def far_host(host: Host) -> Iterator[Far]:
    """Give the test a host at the other end of the tunnel; afterwards it is gone."""
    before = host.before
    far = Far(host)
    try:
        yield far
    finally:
        if host.names:
            host.wgsvc("stop", *host.names)
        far.close()
        host.before = before


class Pings:
    """Pings every 10 ms that count what was lost."""

    def __init__(self, target: str) -> None:
        self._process = subprocess.Popen(
            ["ping", "-n", "-i", "0.01", "-W", "1", target],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        self._seen: list[int] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if " icmp_seq=" in line and "bytes from" in line:
                self._seen.append(int(line.split("icmp_seq=")[1].split()[0]))

    def close(self) -> None:
        """End it, however the test ended."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def answered(self) -> int:
        """How many were answered so far."""
        return len(self._seen)

    def stop(self) -> tuple[int, set[int]]:
        """End it; return how many were answered and which were not, up to the last answer."""
        target = self.answered + 10
        eventually(lambda: self.answered >= target, what="pings are answered at the end")
        self._process.send_signal(signal.SIGINT)
        self._process.wait()
        self._reader.join()
        return len(self._seen), set(range(1, max(self._seen) + 1)) - set(self._seen)


@contextlib.contextmanager
def pinging(target: str) -> Iterator[Pings]:
    """Ping until the block ends."""
    pings = Pings(target)
    try:
        yield pings
    finally:
        pings.close()


def wait_for_ping(*words: str) -> None:
    """Wait until a ping is answered."""
    deadline = time.monotonic() + 15
    while subprocess.run(
        ["ping", "-c", "1", "-W", "1", *words], capture_output=True, check=False
    ).returncode:
        assert time.monotonic() < deadline, f"no answer to ping {words}"


def replace(path: Path, *changes: tuple[str, str]) -> None:
    """Edit a file as an administrator does."""
    text = path.read_text()
    for old, new in changes:
        assert text.count(old) == 1, (old, text)
        text = text.replace(old, new)
    path.write_text(text)
