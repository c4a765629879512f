"""
The values that everything else speaks of: keys, prefixes, endpoints, routes.

Named tuples rather than dataclasses on purpose: `import dataclasses` pulls in
`inspect` and costs 7 ms of every start (measured; bare Python takes 10).
"""

from __future__ import annotations

from wgsvc.light import NamedTuple

KEY_LENGTH = 32  # bytes, Curve25519
BITS = {4: 32, 6: 128}


class SecretKey(bytes):
    """A private or preshared key. Never shown: not by repr, not by str."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    __str__ = __repr__


class Prefix(NamedTuple):
    """
    An address with a prefix length, host bits kept: 192.168.222.1/24.

    `address` is the address as a number. Sorts by version, address, length.
    """

    version: int
    address: int
    length: int

    @property
    def bits(self) -> int:
        """32 or 128."""
        return BITS[self.version]

    @property
    def packed(self) -> bytes:
        """The address in network byte order, 4 or 16 bytes."""
        return self.address.to_bytes(self.bits // 8, "big")

    @property
    def netmask(self) -> int:
        """The mask as a number."""
        return (1 << self.bits) - (1 << (self.bits - self.length))

    @property
    def network(self) -> Prefix:
        """The same prefix without host bits."""
        return Prefix(self.version, self.address & self.netmask, self.length)

    @property
    def is_host(self) -> bool:
        """Whether it covers exactly one address."""
        return self.length == self.bits

    def covers(self, other: Prefix) -> bool:
        """Whether every address of `other` lies within this prefix."""
        return (
            self.version == other.version
            and self.length <= other.length
            and (self.address ^ other.address) & self.netmask == 0
        )

    @property
    def host(self) -> str:
        """The address alone, in its usual text form."""
        if self.version == 4:  # the IP version, not a tunable
            number = self.address
            return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        from ipaddress import IPv6Address  # 4 ms that IPv4 never needs

        return str(IPv6Address(self.address))

    def __str__(self) -> str:
        return f"{self.host}/{self.length}"


class Endpoint(NamedTuple):
    """
    Where a peer is reached. `host` is a name or a numeric address.

    An IPv6 host is held without its brackets; a scope stays (`fe80::1%em0`).
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Route(NamedTuple):
    """
    One route of the kernel.

    Exactly one of: straight to an interface (`ifindex`), through `gateway` (numeric
    text, `ifindex` optional), or `blackhole`. `table` is a routing table on Linux
    (254 is main) and a FIB on FreeBSD (0 is the default one).
    """

    prefix: Prefix
    ifindex: int | None = None
    gateway: str | None = None
    table: int | None = None  # None: the system's default table or FIB
    blackhole: bool = False
    mtu: int | None = None
    pin: bool = False  # an endpoint's host route of ours; see System.has_metrics
