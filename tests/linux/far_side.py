"""
What a client of a VPN has around it: a router, a WireGuard server and a name server.

The far side is a network namespace. The client is the namespace of the test, joined to it by a
veth pair, with IPv4 and IPv6:

    client eth0 192.0.2.2, 2001:db8:2::2  --  192.0.2.1, 2001:db8:2::1 router
                                              198.51.100.7, 2001:db8:100::7 WireGuard server
                                              198.51.100.8, by a way whose MTU is 1400
                                              198.51.100.53 name server

The server is the real wireguard-go, configured by wg(8). It has a /run of its own, so that wg(8)
on the client sees the client's tunnels alone. Its process is also what keeps the
namespaces: when it is killed, they and the veth pair are gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.tunnels import eventually

CLIENT, CLIENT_6 = "192.0.2.2", "2001:db8:2::2"
SERVER, SERVER_6 = "198.51.100.7", "2001:db8:100::7"
NARROW, NARROW_MTU = "198.51.100.8", 1400
NAME_SERVER = "198.51.100.53"

CLIENT_KEY = "aGi8VucdQG9h9sWHV2jZT5JmAXZpyadTPJlV4BS1124="
CLIENT_PUBLIC = "uoYkPm6lHnxF5T31lD5LB3OGM8/a4eKyUEYcJm5SXXQ="
SERVER_KEY = "8DlDYe7fBA/vCahHGEBj+6DXs111eFiAIGEnDoKtckA="
SERVER_PUBLIC = "l/bRgqGEAzNtVq9JI3GyYnhFgCRXLNpakPxemH3mrA8="

NAMES = {
    "vpn.example.net": (SERVER,),
    "vpn6.example.net": (SERVER_6,),
    "dual.example.net": (SERVER, SERVER_6),
    "branch.example.net": ("198.51.100.20",),  # nobody is there
}

CLONE_NEWNET = 0x40000000
A, AAAA = 1, 28

NEAR_LINKS = f"""\
link add eth0 type veth peer name up0 netns {{pid}}
link set eth0 addrgenmode none
address add {CLIENT}/24 dev eth0
address add {CLIENT_6}/64 dev eth0 nodad
link set eth0 up
route add default via 192.0.2.1
route add default via 2001:db8:2::1
route add {NARROW} via 192.0.2.1 mtu {NARROW_MTU}
"""
FAR_LINKS = f"""\
link set lo up
link set up0 addrgenmode none
address add 192.0.2.1/24 dev up0
address add 2001:db8:2::1/64 dev up0 nodad
link set up0 up
address add {SERVER}/32 dev lo
address add {NARROW}/32 dev lo
address add {NAME_SERVER}/32 dev lo
address add {SERVER_6}/128 dev lo nodad
link set wg0 addrgenmode none
link set wg0 up
"""
# What may reach the far side in clear: its public addresses. Everything else has to come through
# the tunnel, or the server would answer a ping that went past it.
OUTSIDE = {
    4: ("192.0.2.0/24", "198.51.100.0/24"),
    6: ("fe80::/10", "ff00::/8", "2001:db8:2::/64", "2001:db8:100::/64"),
}


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Be in the network namespace of a process: a socket that is made there stays there."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        yield
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(home)
        os.close(there)


class NameServer:
    """Answers A and AAAA from a table that a test may change while it runs."""

    def __init__(self, pid: int) -> None:
        self.names: dict[str, Sequence[str]] = dict(NAMES)
        self.asked: list[str] = []
        with network_of(pid):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((NAME_SERVER, 53))
            self._waker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(2000)
            if not query:
                return
            self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        """Return the answer to a query of one question (RFC 1035, section 4.1)."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode("ascii", "replace"))
            at += query[at] + 1
        (kind,) = struct.unpack(">H", query[at + 1 : at + 3])
        name = ".".join(labels).lower()
        self.asked.append(name)
        raw = [ipaddress.ip_address(text).packed for text in self.names.get(name, ())]
        found = [data for data in raw if len(data) == {A: 4, AAAA: 16}.get(kind)]
        code = 0x8180 if name in self.names else 0x8183  # NXDOMAIN
        records = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 5, len(data)) + data for data in found
        )
        return (
            query[:2] + struct.pack(">HHHHH", code, 1, len(found), 0, 0)
            + query[12 : at + 5] + records
        )  # fmt: skip

    def close(self) -> None:
        """End the thread: an empty datagram wakes it."""
        self._waker.sendto(b"", (NAME_SERVER, 53))
        self._thread.join()
        self._socket.close()
        self._waker.close()


class FarSide:
    """The router, the WireGuard server and the name server. `close` ends all of it."""

    def __init__(self) -> None:
        self._daemon = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),  # nor does it outlive a killed test run
                *("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c"),
                "mount -t tmpfs tmpfs /run && mkdir /run/wireguard && exec wireguard-go -f wg0",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._daemon.pid
        try:
            eventually(self._listens, what="the server's wireguard-go listens")
            for version, prefixes in OUTSIDE.items():
                self.run("ip", f"-{version}", "-batch", "-", given=_rules(prefixes))
            _ip_batch(NEAR_LINKS.format(pid=self.pid))
            self.run("ip", "-batch", "-", given=FAR_LINKS)
            self.dns = NameServer(self.pid)
        except BaseException:
            self._end()
            raise

    def _listens(self) -> bool:
        assert self._daemon.poll() is None, "the server's wireguard-go ended"
        with socket.socket(socket.AF_UNIX) as connection:
            path = f"/proc/{self.pid}/root/run/wireguard/wg0.sock"
            return connection.connect_ex(path) == 0

    def run(self, *words: str, given: str = "") -> str:
        """Return what a command prints over there."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-n", "-m", "--", *words],
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def serve(
        self,
        clients: Sequence[str],
        pinged: Sequence[str],
        *,
        port: int = 51820,
        preshared_key: str = "",
    ) -> None:
        """
        Make the server take the client's key, and forget what it had with it before.

        `clients` are the client's addresses in the tunnel, `pinged` those that the
        server has there.
        """
        lines = [
            "[Interface]", f"PrivateKey = {SERVER_KEY}", f"ListenPort = {port}",
            "[Peer]", f"PublicKey = {CLIENT_PUBLIC}", f"AllowedIPs = {', '.join(clients)}",
        ]  # fmt: skip
        if preshared_key:
            lines.append(f"PresharedKey = {preshared_key}")
        self.run("wg", "setconf", "wg0", "/dev/stdin", given="\n".join(lines) + "\n")
        words = [f"address replace {address} dev wg0" for address in pinged]
        words += [f"route replace {address} dev wg0" for address in clients]
        self.run("ip", "-batch", "-", given="\n".join(words))

    def call(self, endpoint: str) -> None:
        """Let the server speak first: a client may know no endpoint of it."""
        peer = ("peer", CLIENT_PUBLIC, "endpoint", endpoint, "persistent-keepalive", "1")
        self.run("wg", "set", "wg0", *peer)

    def close(self) -> None:
        """End the name server and kill the server, and so its namespaces."""
        self.dns.close()
        self._end()

    def _end(self) -> None:
        self._daemon.kill()
        self._daemon.wait()


def resolve_by(server: str) -> None:
    """Let openresolv write this namespace's /etc/resolv.conf, with `server` as eth0's."""
    file, settings = Path("/run/resolv.conf"), Path("/run/resolvconf.conf")
    file.write_text("")
    settings.write_text("resolv_conf=/etc/resolv.conf\n")
    for source, target in ((file, "/etc/resolv.conf"), (settings, "/etc/resolvconf.conf")):
        subprocess.run(["mount", "--bind", str(source), target], check=True)
    subprocess.run(
        ["resolvconf", "-a", "eth0", "-m", "100"],
        input=f"nameserver {server}\n",
        text=True,
        check=True,
    )


def _rules(outside: Sequence[str]) -> str:
    """Return the rules of the far side: of what comes in by up0 only `outside` is for it."""
    lines = [f"rule add pref 10 iif up0 to {prefix} lookup local" for prefix in outside]
    lines += ["rule add pref 20 iif up0 blackhole", "rule add pref 30 lookup local"]
    return "\n".join([*lines, "rule del pref 0"])


def _ip_batch(text: str) -> None:
    subprocess.run(["ip", "-batch", "-"], input=text, text=True, check=True, timeout=20)


@contextlib.contextmanager
def far_side() -> Iterator[FarSide]:
    """Give the client's namespace, in which the caller is, its far side; end it afterwards."""
    assert shutil.which("wireguard-go"), "wireguard-go is not installed"
    far = FarSide()
    try:
        yield far
    finally:
        far.close()
