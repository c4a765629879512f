"""
The dialect against the originals: the same bytes to us and to wg-quick and wg.

`wg-quick strip FILE | wg setconf` on one wireguard-go, our own wg_text() of the same file on
the next: both must take the file or both must not, and then show the same configuration.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from wgsvc.config.parse import parse
from wgsvc.config.render import wg_text
from wgsvc.files import load
from wgsvc.settings import Settings

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("own_network")]

PRIVATE = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
PUBLIC = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw="  # of PRIVATE
A = "oK56DE9Ue9zK76rAc8pBl6opph+1v36lm7cXXsQKrQM="
B = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
UNCLAMPED = "/" * 42 + "8="
ZERO = "A" * 43 + "="
HEAD = f"[Interface]\nPrivateKey = {PRIVATE}\n"
PEER = f"{HEAD}[Peer]\nPublicKey = {A}\n"


def two(first: str, second: str, *, key: str = B) -> str:
    """Return a file with two [Peer] sections; the second has `key`."""
    return f"{PEER}{first}\n[Peer]\nPublicKey = {key}\n{second}\n"


SAME: dict[str, str | bytes] = {
    "empty": "",
    "blank": "\n \n\t\n",
    "only-comments": "# a\n#b = c\n",
    "site": f"{HEAD}ListenPort = 51820\nAddress = 192.168.222.1/32\nDNS = 192.0.2.53, a.example\n"
    f"MTU = 1400\nTable = off\nSaveConfig = false\nPostUp = echo %i\n[Peer]\nPublicKey = {A}\n"
    f"PresharedKey = {B}\nAllowedIPs = 192.168.222.2/32, 192.168.2.0/24, fd00::/64\n"
    "Endpoint = 172.31.2.11:51820\nPersistentKeepalive = 25\n",
    "CRLF": PEER.replace("\n", "\r\n"),
    "no-last-newline": PEER.rstrip("\n"),
    "lower-case": PEER.replace("Interface", "interface").replace("PublicKey", "publickey"),
    "upper-case": PEER.replace("[Peer]", "[PEER]").replace("PrivateKey", "PRIVATEKEY"),
    "blanks-in-key": PEER.replace("PublicKey", "Public \tKey"),
    "blanks-in-value": f"{PEER}AllowedIPs = 10.0. 0.1 / 3 2\n",
    "blanks-in-section": PEER.replace("[Peer]", " [ Peer ] "),
    "VT-and-FF": PEER.replace("PublicKey = ", "\vPublicKey\f= "),
    "comment-after-value": f"{PEER}AllowedIPs = 10.0.0.0/8 # , 10.0.0.0/x\n",
    "comment-after-section": PEER.replace("[Peer]", "[Peer] # x"),
    "bytes-in-comment": PEER.encode() + b"# \xff\xfe\x01\x1b\n",
    "interface-twice": f"{PEER}[Interface]\nListenPort = 7\n[Interface]\nFwMark = 9\n",
    "interface-last": f"[Peer]\nPublicKey = {A}\n{HEAD}",
    "scalar-twice": f"{HEAD}ListenPort = 1\nListenPort = 2\n",
    "no-private-key": f"[Peer]\nPublicKey = {A}\n",
    "zero-private-key": f"[Interface]\nPrivateKey = {ZERO}\n[Peer]\nPublicKey = {A}\n",
    "unclamped-private-key": f"[Interface]\nPrivateKey = {UNCLAMPED}\n",
    "port-0": f"{HEAD}ListenPort = 0\n",
    "port-max": f"{HEAD}ListenPort = 65535\n",
    "port-leading-zeros": f"{HEAD}ListenPort = 0051820\n",
    "port-service": f"{HEAD}ListenPort = domain\n",
    "fwmark-off": f"{HEAD}FwMark = Off\n",
    "fwmark-decimal": f"{HEAD}FwMark = 4294967295\n",
    "fwmark-hex": f"{HEAD}FwMark = 0xCA6C\n",
    "fwmark-leading-zero": f"{HEAD}FwMark = 010\n",
    "fwmark-0x": f"{HEAD}FwMark = 0x\n",
    "fwmark-0X": f"{HEAD}FwMark = 0X1\n",
    "fwmark-too-large": f"{HEAD}FwMark = 4294967296\n",
    "fwmark-negative": f"{HEAD}FwMark = -1\n",
    "keepalive-off": f"{PEER}PersistentKeepalive = oFF\n",
    "keepalive-0": f"{PEER}PersistentKeepalive = 0\n",
    "keepalive-max": f"{PEER}PersistentKeepalive = 65535\n",
    "keepalive-too-large": f"{PEER}PersistentKeepalive = 65536\n",
    "keepalive-hex": f"{PEER}PersistentKeepalive = 0x10\n",
    "psk-zero": f"{PEER}PresharedKey = {ZERO}\n",
    "allowed-host": f"{PEER}AllowedIPs = 10.0.0.1, fd00::1\n",
    "allowed-all": f"{PEER}AllowedIPs = 0.0.0.0/0, ::/0\n",
    "allowed-host-bits": f"{PEER}AllowedIPs = 10.1.2.3/9, fd00::1/61\n",
    "allowed-mapped": f"{PEER}AllowedIPs = ::ffff:192.0.2.1\n",
    "allowed-length-leading-zero": f"{PEER}AllowedIPs = 10.0.0.0/008\n",
    "allowed-twice": f"{PEER}AllowedIPs = 10.0.0.0/8, 10.0.0.0/8\n",
    "allowed-two-lines": f"{PEER}AllowedIPs = 10.0.0.0/8\nAllowedIPs = 172.16.0.0/12\n",
    "allowed-empty": f"{PEER}AllowedIPs =\n",
    "allowed-comma-last": f"{PEER}AllowedIPs = 10.0.0.0/8,\n",
    "allowed-comma-first": f"{PEER}AllowedIPs = ,10.0.0.0/8\n",
    "allowed-octet-010": f"{PEER}AllowedIPs = 10.0.0.010\n",
    "allowed-octet-256": f"{PEER}AllowedIPs = 10.0.0.256\n",
    "allowed-three-octets": f"{PEER}AllowedIPs = 10.0.0/24\n",
    "allowed-length-33": f"{PEER}AllowedIPs = 10.0.0.0/33\n",
    "allowed-length-129": f"{PEER}AllowedIPs = ::/129\n",
    "allowed-length-none": f"{PEER}AllowedIPs = 10.0.0.0/\n",
    "allowed-length-negative": f"{PEER}AllowedIPs = 10.0.0.0/-1\n",
    "allowed-scope": f"{PEER}AllowedIPs = fe80::1%lo\n",
    "allowed-name": f"{PEER}AllowedIPs = localhost\n",
    "allowed-minus": f"{PEER}AllowedIPs = -10.0.0.0/8\n",
    "endpoint-v4": f"{PEER}Endpoint = 192.0.2.1:51820\n",
    "endpoint-v6": f"{PEER}Endpoint = [2001:DB8:0::1]:51820\n",
    "endpoint-v6-no-brackets": f"{PEER}Endpoint = 2001:db8::1:51820\n",
    "endpoint-brackets-v4": f"{PEER}Endpoint = [192.0.2.1]:51820\n",
    "endpoint-service": f"{PEER}Endpoint = 192.0.2.1:domain\n",
    "endpoint-no-port": f"{PEER}Endpoint = 192.0.2.1\n",
    "endpoint-empty-port": f"{PEER}Endpoint = 192.0.2.1:\n",
    "endpoint-v6-no-port": f"{PEER}Endpoint = [2001:db8::1]\n",
    "endpoint-half-bracket": f"{PEER}Endpoint = [2001:db8::1:51820\n",
    "endpoint-empty": f"{PEER}Endpoint =\n",
    "peer-twice": two("AllowedIPs = 10.0.0.0/8\nPersistentKeepalive = 5\nEndpoint = 192.0.2.1:1",
                      "AllowedIPs = 172.16.0.0/12\nEndpoint = 192.0.2.2:2", key=A),
    "peer-twice-psk-kept": two(f"PresharedKey = {B}", "PersistentKeepalive = 1", key=A),
    "peer-twice-no-allowed": two("AllowedIPs = 10.0.0.0/8", "", key=A),
    "peer-keepalive-back-to-0": two("PersistentKeepalive = 5", "PersistentKeepalive = 0", key=A),
    "prefix-on-two-peers": two("AllowedIPs = 10.0.0.0/8, 10.1.0.0/16", "AllowedIPs = 10.0.0.0/8"),
    "prefix-given-back": two("AllowedIPs = 10.0.0.0/8", "AllowedIPs = 10.0.0.0/8")
    + f"[Peer]\nPublicKey = {A}\nAllowedIPs = 10.0.0.0/8\n",
    "peer-without-key": f"{HEAD}[Peer]\nAllowedIPs = 10.0.0.0/8\n",
    "BOM": b"\xef\xbb\xbf" + PEER.encode(),
    "NBSP": PEER.replace("PublicKey =", "PublicKey\u00a0=").encode(),
    "key-outside": f"PrivateKey = {PRIVATE}\n",
    "key-unknown": f"{HEAD}Colour = blue\n",
    "key-misspelt": f"{PEER}AllowedIP = 10.0.0.0/8\n",
    "key-of-peer-in-interface": f"{HEAD}PublicKey = {A}\n",
    "key-of-interface-in-peer": f"{PEER}MTU = 1400\n",
    "section-unknown": f"{HEAD}[Peers]\n",
    "no-equals": f"{HEAD}ListenPort 51820\n",
    "base64-short": f"{HEAD}[Peer]\nPublicKey = {A[:40]}\n",
    "base64-long": f"{HEAD}[Peer]\nPublicKey = {A}=\n",
    "base64-not-canonical": f"{HEAD}[Peer]\nPublicKey = {A[:-2]}N=\n",
    "base64-url-safe": f"{HEAD}[Peer]\nPublicKey = {B[:-4]}-_g=\n",
    "hexadecimal-key": f"{HEAD}[Peer]\nPublicKey = {'ab' * 32}\n",
    "save-config-yes": f"{HEAD}SaveConfig = yes\n",
    "lone-CR": PEER.replace("\n", "\r"),
    "own-public-key": f"{PEER}[Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = 10.0.0.0/8\n",
    "peer-without-allowed": f"{PEER}Endpoint = 192.0.2.1:1\n",
    "preshared-key-as-private": f"{PEER}PresharedKey = {PRIVATE}\n",
    "amneziawg": f"{HEAD}Jc = 4\nJmin = 40\nJmax = 70\nS1 = 0\nH1 = 1\n",
    "android": f"{HEAD}ExcludedApplications = com.example\n",
    "no-hash-comment": f"; comment\n{PEER}",
    "wgsvc-comments": f"{PEER}# wgsvc: name = head office\n# wgsvc: routes = off\n",
}  # fmt: skip

STRICTER: dict[str, tuple[str | bytes, str]] = {
    "NUL": (f"{HEAD}FwMark = 1\0000\n", "a NUL, after which wg reads no further"),
    "port-65536": (f"{HEAD}ListenPort = 65536\n", "a port that wg cuts to 16 bits: any port"),
    "port-plus": (f"{HEAD}ListenPort = +53\n", "a sign"),
    "endpoint-port-0": (f"{PEER}Endpoint = 192.0.2.1:0\n", "port 0, where nobody can listen"),
    "endpoint-port-65537": (f"{PEER}Endpoint = 192.0.2.1:65537\n", "a port cut to 16 bits"),
    "endpoint-short-v4": (f"{PEER}Endpoint = 192.514:51820\n", "an incomplete IPv4 address"),
    "zero-public-key": (f"{HEAD}[Peer]\nPublicKey = {ZERO}\n", "the key of nobody"),
    "mtu-text": (f"{HEAD}MTU = big\n", "wg-quick finds out when the interface is there already"),
    "address-text": (f"{HEAD}Address = 10.0.0.1/33\n", "likewise"),
    "table-text": (f"{HEAD}Table = 1x\n", "likewise"),
    "private-key-as-public": (f"{HEAD}[Peer]\nPublicKey = {PRIVATE}\n", "a secret to be told"),
    "preshared-key-as-public": (
        f"{PEER}PresharedKey = {B}\n[Peer]\nPublicKey = {B}\n",
        "a secret to be told",
    ),
    "dns-incomplete": (f"{HEAD}DNS = 1.1.1\n", "likewise"),
    "bytes-in-hook": (HEAD.encode() + b"PostUp = echo \xff\n", "a hook is UTF-8"),
    "control-in-value": (f"{HEAD}DNS = a\x1bb\n", "a control character"),
}

MORE_LENIENT: dict[str, tuple[str | bytes, str]] = {
    "blanks-in-wg-quick-key": (f"{HEAD}M T U = 1400\n", "blanks in wg's keys are fine, so here"),
    "blanks-in-interface-section": (
        f"{HEAD}MTU = 1400\n".replace("[Interface]", "[ Interface ]"),
        "wg knows the section, wg-quick doesn't",
    ),
    "allowed-plus": (
        f"{PEER}AllowedIPs = +10.0.0.0/8\n",
        "wg takes it since 1.0.20250521; older ones don't",
    ),
}


def listens(path: str) -> bool:
    """Tell whether somebody does; asking wg would unlink a socket between its bind and listen."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(path) == 0


def wg(*arguments: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run wg; a name that does not resolve is not waited for."""
    environ = {**os.environ, "WG_ENDPOINT_RESOLUTION_RETRIES": "0"}
    return subprocess.run(
        ["wg", *arguments], input=text, capture_output=True, check=False, env=environ, timeout=20
    )


@contextlib.contextmanager
def fresh_device() -> Iterator[str]:
    """Give a wireguard-go that nobody has configured yet."""
    environ = {"PATH": os.environ["PATH"], "WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "silent"}
    process = subprocess.Popen(["wireguard-go", "-f", "wg0"], env=environ)
    deadline = time.monotonic() + 10
    try:
        while not listens("/var/run/wireguard/wg0.sock"):
            assert process.poll() is None, "wireguard-go ended"
            assert time.monotonic() < deadline, "wireguard-go does not listen"
        yield "wg0"
    finally:
        process.kill()
        process.wait(10)
        with contextlib.suppress(FileNotFoundError):
            os.unlink("/var/run/wireguard/wg0.sock")


def theirs(path: Path) -> str | None:
    """Return what wg shows after it was given the file, None if it was refused."""
    stripped = subprocess.run(["wg-quick", "strip", path], capture_output=True, check=False)
    if stripped.returncode:
        return None
    with fresh_device() as device:
        done = wg("setconf", device, "/dev/stdin", text=stripped.stdout)
        return None if done.returncode else shown(device)


def ours(path: Path) -> str | None:
    """Return what wg shows after it was given what we made of the file, None if we refused it."""
    tunnel = load(str(path), Settings()).tunnel
    if tunnel is None:
        return None
    with fresh_device() as device:
        done = wg("setconf", device, "/dev/stdin", text=wg_text(tunnel).encode())
        assert done.returncode == 0, done.stderr
        return shown(device)


def shown(device: str) -> str:
    """Return a device's configuration, its peers and their AllowedIPs in a fixed order."""
    interface, *peers = wg("showconf", device).stdout.decode().split("\n[Peer]\n")
    return "\n[Peer]\n".join([interface.strip(), *sorted(map(_ordered, peers))])


def _ordered(peer: str) -> str:
    lines = []
    for line in peer.strip().split("\n"):
        key, _, value = line.partition(" = ")
        lines.append(f"{key} = {', '.join(sorted(value.split(', ')))}")
    return "\n".join(lines)


def write(folder: Path, content: str | bytes) -> Path:
    """Make a configuration file."""
    path = folder / "wg0.conf"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("name", SAME)
def test_the_same_as_the_originals(name: str, tmp_path: Path) -> None:
    """Taken by both, with the same result; or by neither."""
    path = write(tmp_path, SAME[name])
    expected, actual = theirs(path), ours(path)

    if "port-0" in name or b"ListenPort" not in path.read_bytes():  # each got one of its own
        expected, actual = _without_port(expected), _without_port(actual)
    assert actual == expected
    assert (actual is None) == (name in REFUSED)


REFUSED = {
    "fwmark-0x", "fwmark-0X", "fwmark-too-large", "fwmark-negative", "keepalive-too-large",
    "keepalive-hex", "BOM", "NBSP", "key-outside", "key-unknown", "key-misspelt", "no-equals",
    "key-of-peer-in-interface", "key-of-interface-in-peer", "section-unknown", "peer-without-key",
    "amneziawg", "android", "save-config-yes", "lone-CR", "no-hash-comment", "hexadecimal-key",
    *(name for name in SAME if name.startswith("base64-")),
    "allowed-empty", "allowed-comma-last", "allowed-comma-first", "allowed-octet-010",
    "allowed-octet-256", "allowed-three-octets", "allowed-length-33", "allowed-length-129",
    "allowed-length-none", "allowed-length-negative", "allowed-scope", "allowed-name",
    "allowed-minus", "endpoint-no-port", "endpoint-empty-port", "endpoint-v6-no-port",
    "endpoint-half-bracket", "endpoint-empty",
}  # fmt: skip


@pytest.mark.parametrize("name", STRICTER)
def test_stricter_than_the_originals(name: str, tmp_path: Path) -> None:
    """What they take and we don't; docs/config.md has the list."""
    path = write(tmp_path, STRICTER[name][0])

    assert theirs(path) is not None
    assert ours(path) is None


@pytest.mark.parametrize("name", MORE_LENIENT)
def test_more_lenient_than_the_originals(name: str, tmp_path: Path) -> None:
    """What we take and they don't; docs/config.md has the list."""
    path = write(tmp_path, MORE_LENIENT[name][0])

    if name != "allowed-plus":  # that depends on the age of wg
        assert theirs(path) is None
    assert ours(path) is not None


def test_what_wg_shows_is_read_back(tmp_path: Path) -> None:
    """`wg showconf` is a configuration file for us, and means the same."""
    path = write(tmp_path, SAME["site"])
    before = load(str(path), Settings()).tunnel
    back = parse((ours(path) or "").encode(), name="wg0", path="showconf").tunnel

    assert before is not None
    assert back is not None
    assert (back.private_key, back.listen_port) == (before.private_key, before.listen_port)
    assert [
        peer._replace(line=0, allowed_ips=tuple(sorted(peer.allowed_ips))) for peer in back.peers
    ] == [
        peer._replace(line=0, allowed_ips=tuple(sorted(peer.allowed_ips))) for peer in before.peers
    ]


def _without_port(text: str | None) -> str | None:
    if text is None:
        return None
    return "\n".join(line for line in text.split("\n") if not line.startswith("ListenPort"))
