"""
The laboratory's network as data: two sites, a router between them that is the internet.

The hosts, interface names, addresses and keys are those of a 2019 article that built it
from five VNET jails; the keys are published there, so they protect nothing but the lab.
"""

from __future__ import annotations

from typing import NamedTuple

PATTERN = b"PLAIN"
"""What the pings carry: a capture shows at a glance whether it can be read."""

TUNNEL = "wg0"
PORT = 51820


class Link(NamedTuple):
    """One end of a cable: the interface of `host`, plugged into `bridge`."""

    host: str
    interface: str
    address: str  # numeric IPv4
    bridge: str
    length: int = 24  # of the prefix

    @property
    def prefix(self) -> str:
        """The address with its prefix length."""
        return f"{self.address}/{self.length}"


HOSTS = ("r1", "vpnr1", "vpnr2", "vpnh1", "vpnh2")
VPN_ROUTERS = ("vpnr1", "vpnr2")
ROUTERS = ("r1", *VPN_ROUTERS)

LINKS = (
    Link("r1", "vi1_r1", "172.31.1.1", "vi1br"),
    Link("r1", "vi2_r1", "172.31.2.1", "vi2br"),
    Link("vpnr1", "vi1_vpnr1", "172.31.1.11", "vi1br"),
    Link("vpnr1", "vri1_vpnr1", "192.168.1.1", "vri1br"),
    Link("vpnr2", "vi2_vpnr2", "172.31.2.11", "vi2br"),
    Link("vpnr2", "vri2_vpnr2", "192.168.2.1", "vri2br"),
    Link("vpnh1", "vri1_vpnh1", "192.168.1.11", "vri1br"),
    Link("vpnh2", "vri2_vpnh2", "192.168.2.11", "vri2br"),
)
BRIDGES = ("vi1br", "vi2br", "vri1br", "vri2br")

DEFAULT_GATEWAYS = {
    "vpnr1": "172.31.1.1",
    "vpnr2": "172.31.2.1",
    "vpnh1": "192.168.1.1",
    "vpnh2": "192.168.2.1",
}

TUNNEL_ADDRESSES = {"vpnr1": "192.168.222.1", "vpnr2": "192.168.222.2"}
ENDPOINTS = {"vpnr1": "172.31.1.11", "vpnr2": "172.31.2.11"}
FAR_PREFIXES = {
    "vpnr1": ("192.168.2.0/24", "192.168.222.2"),
    "vpnr2": ("192.168.1.0/24", "192.168.222.1"),
}
"""What each site reaches through the tunnel, as routing tables write it."""

CONFIGS = {
    "vpnr1": f"""\
[Interface]
Address = 192.168.222.1/32
PrivateKey = aGi8VucdQG9h9sWHV2jZT5JmAXZpyadTPJlV4BS1124=
ListenPort = {PORT}

[Peer]
PublicKey = l/bRgqGEAzNtVq9JI3GyYnhFgCRXLNpakPxemH3mrA8=
AllowedIPs = 192.168.222.2/32, 192.168.2.0/24
Endpoint = 172.31.2.11:{PORT}
""",
    "vpnr2": f"""\
[Interface]
Address = 192.168.222.2/32
PrivateKey = 8DlDYe7fBA/vCahHGEBj+6DXs111eFiAIGEnDoKtckA=
ListenPort = {PORT}

[Peer]
PublicKey = uoYkPm6lHnxF5T31lD5LB3OGM8/a4eKyUEYcJm5SXXQ=
AllowedIPs = 192.168.222.1/32, 192.168.1.0/24
Endpoint = 172.31.1.11:{PORT}
""",
}


class Ping(NamedTuple):
    """Who pings whom."""

    host: str
    target_host: str
    target: str


OUTSIDE_PING = Ping("vpnr1", "r1", "172.31.2.1")
"""Leaves by the outside interface: no tunnel, so r1 reads it."""

TUNNEL_PINGS = (
    Ping("vpnh1", "vpnh2", "192.168.2.11"),
    Ping("vpnh2", "vpnh1", "192.168.1.11"),
    Ping("vpnr1", "vpnr2", "192.168.222.2"),
    Ping("vpnr2", "vpnr1", "192.168.222.1"),
    Ping("vpnr1", "vpnh2", "192.168.2.11"),
    Ping("vpnh2", "vpnr1", "192.168.222.1"),
)

STRANGER_PING = Ping("r1", "vpnh2", "192.168.2.11")
"""r1 is the internet: it has no way into a site."""


def link(host: str, interface: str) -> Link:
    """Return the link of this interface. Raises KeyError if the network has none."""
    for candidate in LINKS:
        if (candidate.host, candidate.interface) == (host, interface):
            return candidate
    raise KeyError(interface)


def links_of(host: str) -> tuple[Link, ...]:
    """Return the interfaces of a host, in order."""
    return tuple(candidate for candidate in LINKS if candidate.host == host)
