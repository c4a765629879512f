"""A client with a far side: what tests of full tunnels and of named endpoints start from."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.linux.far_side import (
    CLIENT_KEY,
    NAME_SERVER,
    SERVER_PUBLIC,
    FarSide,
    far_side,
    resolve_by,
)
from tests.tunnels import Host

INSIDE, OURS = "10.9.0.1", "10.9.0.2"
ELSEWHERE = "203.0.113.9"
"""An address that is in no tunnel: a full tunnel carries packets to it."""

NAME = "vpn.example.net"


@pytest.fixture(name="far")
def _far(own_network: None) -> Iterator[FarSide]:  # noqa: ARG001 - it is where we are
    with far_side() as far:
        resolve_by(NAME_SERVER)
        far.serve([OURS], [INSIDE, ELSEWHERE])
        yield far


@pytest.fixture(name="client")
def _client(far: FarSide, host: Host) -> Host:  # noqa: ARG001 - its other end
    host.before = host.shown()
    return host


def client_tunnel(
    host: Host,
    *interface: str,
    name: str = "wg0",
    allowed: str = "0.0.0.0/0",
    endpoint: str = f"{NAME}:51820",
) -> None:
    """Write the client's file; `interface` are more lines of [Interface]."""
    lines = ["[Interface]", f"PrivateKey = {CLIENT_KEY}", f"Address = {OURS}/32", *interface]
    lines += ["[Peer]", f"PublicKey = {SERVER_PUBLIC}", f"AllowedIPs = {allowed}"]
    lines += [f"Endpoint = {endpoint}", "PersistentKeepalive = 25"]
    host.write(name, "\n".join(lines) + "\n")


def pings(address: str = INSIDE, count: int = 1, wait_s: int = 3) -> bool:
    """Whether somebody answers."""
    words = ["ping", "-n", "-q", "-c", str(count), "-i", "0.2", "-W", str(wait_s), address]
    return subprocess.run(words, capture_output=True, check=False, timeout=30).returncode == 0


@contextlib.contextmanager
def wg_quick(name: str = "wg0") -> Iterator[subprocess.CompletedProcess[str]]:
    """Bring the same file up with wg-quick, and down again."""
    environ = {**os.environ, "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go"}
    environ["WG_ENDPOINT_RESOLUTION_RETRIES"] = "0"

    def call(verb: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["wg-quick", verb, name],
            env=environ, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    up = call("up")
    try:
        yield up
    finally:
        if up.returncode == 0:
            call("down")


@contextlib.contextmanager
def leaving(interface: str = "eth0") -> Iterator[set[str]]:
    """Collect what leaves by an interface: "udp ADDRESS PORT" or "PROTOCOL ADDRESS"."""
    seen: set[str] = set()
    listener = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
    listener.bind((interface, 0))
    listener.settimeout(0.1)
    done = threading.Event()

    def listen() -> None:
        while not done.is_set():
            try:
                packet, address = listener.recvfrom(2048)
            except TimeoutError:
                continue
            if address[2] != socket.PACKET_OUTGOING or packet[0] >> 4 != 4:
                continue
            to, protocol = socket.inet_ntoa(packet[16:20]), packet[9]
            if protocol == socket.IPPROTO_UDP:
                (port,) = struct.unpack_from("!H", packet, (packet[0] & 15) * 4 + 2)
                seen.add(f"udp {to} {port}")
            else:
                seen.add(f"{protocol} {to}")

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()
        listener.close()
