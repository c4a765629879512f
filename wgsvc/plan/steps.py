"""
The steps of a tunnel's life, as values. What performs them is wgsvc/supervise.

`undo` gives a step's inverse. Addresses, and routes to the interface, need none at
stop: they go with the interface. They have one for reload and for a roll-back by hand.
"""

from __future__ import annotations

from wgsvc.light import NamedTuple
from wgsvc.values import Prefix, Route


class Create(NamedTuple):
    """Make the interface (a tun, or the kernel's own WireGuard)."""

    name: str
    backend: str  # "wireguard-go" or "kernel"


class Destroy(NamedTuple):
    """Have the interface gone."""

    name: str


class StartDaemon(NamedTuple):
    """Run wireguard-go on the tun and wait until it answers."""

    name: str
    program: str


class StopDaemon(NamedTuple):
    """End wireguard-go by PID."""

    name: str
    pid: int = 0


class Configure(NamedTuple):
    """Give WireGuard its keys, port and peers, in one request."""

    name: str
    peers: int
    path: str
    mark: int = 0  # of a full tunnel, where the file names none


class AddAddress(NamedTuple):
    """Assign one address."""

    name: str
    address: Prefix


class DeleteAddress(NamedTuple):
    """Take one address away."""

    name: str
    address: Prefix


class SetMtu(NamedTuple):
    """Set the MTU; on FreeBSD this also makes wireguard-go open its UDP sockets."""

    name: str
    mtu: int


class SetUp(NamedTuple):
    """Bring the interface up."""

    name: str


class SetDns(NamedTuple):
    """Hand the DNS servers to resolvconf(8)."""

    name: str
    servers: tuple[str, ...]
    search: tuple[str, ...]
    mode: str


class UnsetDns(NamedTuple):
    """Take the DNS servers back."""

    name: str


class AddRoutes(NamedTuple):
    """
    Add routes in one batch.

    Those with neither a gateway nor an ifindex go to the tunnel's own interface.
    """

    name: str
    routes: tuple[Route, ...]


class DeleteRoutes(NamedTuple):
    """Take routes away in one batch."""

    name: str
    routes: tuple[Route, ...]


class AddRules(NamedTuple):
    """
    Lead all packets but WireGuard's own into a full tunnel's table (Linux).

    `table` is the routing table's number and the mark of WireGuard's packets.
    """

    name: str
    table: int
    versions: tuple[int, ...]  # IP versions


class DeleteRules(NamedTuple):
    """Take a full tunnel's rules back."""

    name: str
    table: int
    versions: tuple[int, ...]


class SetFirewall(NamedTuple):
    """Have nft(8) keep a full tunnel's addresses and marks (Linux)."""

    name: str
    mark: int
    versions: tuple[int, ...]
    addresses: tuple[Prefix, ...]


class UnsetFirewall(NamedTuple):
    """Take a full tunnel's packet filter back."""

    name: str
    versions: tuple[int, ...]


class RunHook(NamedTuple):
    """Run one snippet of the file. `event` is its key there: PreUp, PostUp ..."""

    name: str
    event: str
    command: str  # `%i` replaced


Step = (
    Create
    | Destroy
    | StartDaemon
    | StopDaemon
    | Configure
    | AddAddress
    | DeleteAddress
    | SetMtu
    | SetUp
    | SetDns
    | UnsetDns
    | AddRoutes
    | DeleteRoutes
    | AddRules
    | DeleteRules
    | SetFirewall
    | UnsetFirewall
    | RunHook
)


def undo(step: Step) -> Step | None:
    """Return the step that takes this one back, None where nothing has to be."""
    match step:
        case Create(name=name):
            return Destroy(name)
        case StartDaemon(name=name):
            return StopDaemon(name)
        case AddAddress(name=name, address=address):
            return DeleteAddress(name, address)
        case SetDns(name=name):
            return UnsetDns(name)
        case AddRoutes(name=name, routes=routes):
            return DeleteRoutes(name, routes)
        case AddRules(name=name, table=table, versions=versions):
            return DeleteRules(name, table, versions)
        case SetFirewall(name=name, versions=versions):
            return UnsetFirewall(name, versions)
        case _:
            return None
