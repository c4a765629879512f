"""A file of tests/corpus: what the other end has to know of it, and what is seen when it runs."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.linux.far_side import (
    CLIENT,
    CLIENT_6,
    NAME_SERVER,
    SERVER,
    SERVER_6,
    SERVER_PUBLIC,
    FarSide,
)
from tests.witnesses import wait_for_ping, wg

FILES = {path.stem: path for path in sorted((Path(__file__).parents[1] / "corpus").glob("*.conf"))}

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network

ELSEWHERE = {4: "203.0.113.9", 6: "2001:db8:f00::9"}
"""Addresses on the internet, in no tunnel's own network: packets to them go into a full tunnel."""

NEIGHBOUR = "192.0.2.77"
"""A host on the client's own link."""

PINGED = {"table-off": ["10.66.0.1"]}
"""What is pinged of files whose first AllowedIPs are not what they route into the tunnel."""


class Section(NamedTuple):
    """A [Peer], or all [Interface] sections together: values by key in lower case."""

    values: dict[str, list[str]]

    def entries(self, key: str) -> list[str]:
        """Return the entries of a key that holds lists."""
        values = self.values.get(key, ())
        return [word for value in values for word in value.replace(",", " ").split()]

    def last(self, key: str) -> str:
        """Return the value of a key that counts once, "" without."""
        return self.values.get(key, [""])[-1]


class Sample(NamedTuple):
    """One file of the corpus."""

    name: str
    text: str
    interface: Section
    peers: list[Section]

    @property
    def server(self) -> Section:
        """The peer that is the far side's server."""
        (found,) = (peer for peer in self.peers if peer.last("publickey") == SERVER_PUBLIC)
        return found

    @property
    def addresses(self) -> list[str]:
        """The client's addresses in the tunnel, without lengths."""
        return [address.partition("/")[0] for address in self.interface.entries("address")]

    @property
    def pinged(self) -> list[str]:
        """Return one address for each family that the client has: the server answers there."""
        if self.name in PINGED:
            return PINGED[self.name]
        found: dict[int, str] = {}
        versions = {ipaddress.ip_address(address).version for address in self.addresses}
        for prefix in _prefixes(self.server.entries("allowedips")):
            if prefix.version in versions:
                address = self._some_host(prefix)
                if address:
                    found.setdefault(prefix.version, address)
        assert found, "nothing in the server's AllowedIPs can be pinged"
        return list(found.values())

    def _some_host(self, prefix: Prefix) -> str:
        """Return a host of a prefix that is not ours; of half the internet the one we know."""
        elsewhere = ipaddress.ip_address(ELSEWHERE[prefix.version])
        if prefix.prefixlen < 8:
            return str(elsewhere) if elsewhere in prefix else ""
        if prefix.num_addresses == 1:
            return str(prefix[0])
        return next(str(prefix[n]) for n in (1, 2) if str(prefix[n]) not in self.addresses)

    def serve(self, far: FarSide) -> None:
        """Configure the server for this file; it knows no session any more."""
        port = self.server.last("endpoint").rpartition(":")[2]
        far.serve(
            self.addresses,
            self.pinged,
            port=int(port or 51820),
            preshared_key=self.server.last("presharedkey"),
        )

    def ping(self, far: FarSide) -> None:
        """Wait until the server answers through the tunnel."""
        if not self.server.last("endpoint"):
            far.call(f"{CLIENT}:{self.interface.last('listenport')}")
        for address in self.pinged:
            wait_for_ping(address)

    def seen(self) -> dict[str, Any]:
        """Return what whoever looks at the running tunnel finds."""
        shown = _output("ip", "-json", "address", "show", "dev", self.name)
        (link,) = json.loads(shown)
        resolv_conf = Path("/etc/resolv.conf").read_text().splitlines()
        return {
            "addresses": sorted(
                f"{address['local']}/{address['prefixlen']}"
                for address in link["addr_info"]
                if address["scope"] != "link"  # that is the kernel's own
            ),
            "mtu": link["mtu"],
            "wg showconf": self._showconf(),
            "resolv.conf": [line for line in resolv_conf if not line.startswith("#")],
            "src_valid_mark": Path("/proc/sys/net/ipv4/conf/all/src_valid_mark").read_text(),
            **self._ways(),
        }

    def _showconf(self) -> list[list[str]]:
        """Return `wg showconf`, the peers and their AllowedIPs in a fixed order."""
        sections = []
        for section in wg("showconf", self.name).split("\n\n"):
            lines = []
            for line in section.strip().splitlines():
                key, _, value = line.partition(" = ")
                if key != "ListenPort" or self.interface.last("listenport"):  # else it is any port
                    lines.append(f"{key} = {', '.join(sorted(value.split(', ')))}")
            sections.append(lines)
        return sorted(sections)

    def _ways(self) -> dict[str, str]:
        """Return by which ways packets go: into the tunnel, past it, and the encrypted ones."""
        fwmark = wg("show", self.name, "fwmark").strip()
        mark = [] if fwmark == "off" else ["mark", fwmark]
        plain = [*ELSEWHERE.values(), SERVER, SERVER_6, NAME_SERVER, NEIGHBOUR, *self.pinged]
        allowed = [text for peer in self.peers for text in peer.entries("allowedips")]
        for prefix in _a_few(_prefixes(allowed)):
            plain += [str(prefix[prefix.num_addresses // 2]), str(prefix[-1])]
        asked = {f"way to {address}": [address] for address in plain}
        for own, address in ((CLIENT, ELSEWHERE[4]), (CLIENT_6, ELSEWHERE[6])):
            asked[f"way from {own}"] = [address, "from", own]
        for server in (SERVER, SERVER_6):
            asked[f"way of encrypted packets to {server}"] = [server, *mark]
        return dict(zip(asked, _route_get(list(asked.values())), strict=True))


def read(path: Path) -> Sample:
    """Read a file, by other code than that which is tested."""
    text = path.read_bytes().decode()
    here = interface = Section({})
    peers: list[Section] = []
    for line in text.splitlines():
        key, _, value = (word.strip() for word in line.partition("#")[0].partition("="))
        match key.lower():
            case "[interface]":
                here = interface
            case "[peer]":
                here = Section({})
                peers.append(here)
            case lower:
                here.values.setdefault(lower, []).append(value)
    return Sample(path.stem, text, interface, peers)


def _prefixes(texts: Sequence[str]) -> list[Prefix]:
    return [ipaddress.ip_network(text, strict=False) for text in texts]


def _a_few(prefixes: list[Prefix]) -> list[Prefix]:
    """Return at most five, from the first to the last."""
    return prefixes[:: (len(prefixes) + 4) // 5]


def _route_get(asked: list[list[str]]) -> list[str]:
    """Say which device, gateway and source address each packet is given."""
    done = subprocess.run(
        ["ip", "-json", "-force", "-batch", "-"],
        input="".join(f"route get {' '.join(words)}\n" for words in asked),
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    failed = {int(n) for n in re.findall(r"^Command failed -:(\d+)", done.stderr, re.MULTILINE)}
    answers = iter(line for line in done.stdout.splitlines() if line.strip())
    ways = []
    for number in range(1, len(asked) + 1):
        if number in failed:
            ways.append("none")
        else:
            (route,) = json.loads(next(answers))
            keys = ("type", "dev", "gateway", "prefsrc")
            ways.append(" ".join(f"{key} {route[key]}" for key in keys if key in route))
    assert not list(answers), done.stdout
    return ways


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=20).stdout
