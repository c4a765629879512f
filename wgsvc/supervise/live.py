"""What the daemon holds of one tunnel while it is there."""

from __future__ import annotations

import os
import time

from wgsvc.config.model import Tunnel
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.routes import tunnel_prefixes, tunnel_routes
from wgsvc.supervise import journal

if TYPE_CHECKING:
    from wgsvc.loop import Task
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.wireguard_go import Daemon
    from wgsvc.system.base import RulePair, Tun
    from wgsvc.uapi.parse import DeviceState, PeerState
    from wgsvc.values import Endpoint, Prefix, Route


SESSION_S = 180.0
"""The life of a session (REJECT_AFTER_TIME). After it a peer with something to say shakes hands."""


class Live:
    """
    A tunnel's possessions: the open tun, wireguard-go, what was applied.

    Everything in it is either in the journal too or can be read back from the kernel.
    """

    def __init__(self, tunnel: Tunnel, backend: str = "wireguard-go") -> None:
        self.tunnel = tunnel
        self.source = tunnel.path  # what was asked for: a name, or the path of a file
        self.backend = backend
        self.resolved: dict[bytes, Endpoint] = {}  # peers with a name: its address when last known
        self.before: DeviceState | None = None  # what was seen before a restart or a rebuild
        self.empty()

    def empty(self) -> None:
        """Possess nothing: at the beginning, and before a tunnel is built anew."""
        self.phase = "starting"  # as the journal has it
        self.leaving = False  # it is being taken down: nothing is added any more
        self.tun: Tun | None = None
        self.ifindex = 0
        self.kernel_name = ""
        self.daemon: Daemon | None = None
        self.mtu = 0
        self.port = 0  # the UDP port that WireGuard chose, if the file names none
        self.hooked: Tunnel | None = None
        self.pins: dict[Prefix, Route] = {}
        self.left_out: frozenset[Prefix] = frozenset()  # endpoints' own addresses: not routed
        self.taken: frozenset[Prefix] = frozenset()  # routes that PostUp took away
        self.unpinned: frozenset[Prefix] = frozenset()  # endpoints whose pin PostUp took away
        self.full_table = 0  # the routing table of a /0 and the mark that keeps out of it, or 0
        self.ruled: tuple[RulePair, ...] = ()  # the rules that lead into it
        self.unruled: tuple[int, ...] = ()  # IP versions whose rules PostUp took away
        self.filtered: tuple[int, ...] = ()  # IP versions that have a packet filter
        self.valid_mark = ""  # what src_valid_mark was before the first full tunnel
        self.dns = False
        self.name_servers: tuple[str, ...] = ()  # those in force before this tunnel's own
        self.since = time.time()
        self.since_mono = time.monotonic()
        self.is_set = False  # its WireGuard has keys and peers
        self.last_seen: DeviceState | None = None  # for endpoints that roamed
        self.seen_mono = 0.0  # when that was, by time.monotonic()
        self.ungreeted: tuple[bytes, ...] = ()  # peers with whom no handshake was begun yet
        self.greeted: dict[bytes, float] = {}  # with whom one was, and when (time.monotonic())
        self.greet_until_mono = 0.0  # when that makes no more sense
        self.greeting: Task[None] | None = None
        self.unresponsive = ""  # what wireguard-go failed to answer
        self.unresolved: dict[bytes, float] = {}  # peers with an unknown name, since when
        self.found: dict[bytes, Endpoint] = {}  # addresses of names that WireGuard has not got yet
        self.asked: frozenset[Prefix] = frozenset()  # name servers that are asked at this moment
        self.asking = 0  # how many look-ups ask them
        self.routed = False  # the tunnel's own routes are in
        self.held: frozenset[Prefix] = frozenset()  # routes that wait for an endpoint's address
        self.held_dns = False  # the tunnel's name servers wait for it too

    @property
    def name(self) -> str:
        """The interface's name."""
        return self.tunnel.name

    @property
    def settled(self) -> Tunnel:
        """What runs unless somebody changed it: the file, and what its hooks added to it."""
        return self.hooked or self.tunnel

    @property
    def settled_mtu(self) -> int:
        """The MTU it has unless somebody changed it: a hook's, the file's, or the computed one."""
        return self.settled.mtu or self.mtu

    @property
    def mark(self) -> int:
        """The mark of WireGuard's own packets, 0 for none: a hook's, the file's, the chosen one."""
        if self.last_seen is not None:
            return self.last_seen.fwmark
        return self.full_table or self.tunnel.fwmark or 0

    @property
    def unrouted(self) -> frozenset[Prefix]:
        """The prefixes of the file that are not routed now, for whatever reason."""
        return self.left_out | self.taken | self.held

    def routes(self, tunnel: Tunnel | None = None) -> tuple[Route, ...]:
        """Return the routes to the interface that there should be now, or by another file."""
        return tunnel_routes(
            tunnel or self.tunnel, full_table=self.full_table, without=self.unrouted
        )

    def wanted_prefixes(self) -> tuple[Prefix, ...]:
        """Return the prefixes that the file routes, those that are held back too."""
        return tunnel_prefixes(self.tunnel, whole=bool(self.full_table))

    def sessions(self) -> dict[bytes, PeerState]:
        """Return the peers that have a session, or had one with the WireGuard before."""
        limit_s = time.time() - SESSION_S
        return {
            state.public_key: state
            for seen in (self.before, self.last_seen)
            if seen is not None
            for state in seen.peers
            if state.last_handshake_s > limit_s
        }

    def remembered(self, tunnel: Tunnel) -> dict[bytes, Endpoint]:
        """Return where peers were before a restart whose endpoint the file leaves open."""
        if self.before is None:
            return {}
        states = self.sessions()
        return {
            peer.public_key: state.endpoint
            for peer in tunnel.peers
            if peer.endpoint is None
            and (state := states.get(peer.public_key)) is not None
            and state.endpoint is not None
        }

    def let_go(self) -> None:
        """Close our copy of the tun. What waits for the last close can go on then."""
        if self.tun is not None and self.tun.fd >= 0:
            os.close(self.tun.fd)
            self.tun = self.tun._replace(fd=-1)

    def there(self, context: Context) -> bool:
        """Whether the interface still is the one that was made."""
        found = context.system.interface(self.name)
        return found is not None and found.ifindex == self.ifindex

    @property
    def holds(self) -> bool:
        """Whether our copy of the tun is open."""
        return self.tun is not None and self.tun.fd >= 0

    def record(self, context: Context, phase: str = "") -> None:
        """
        Write the journal: that the tunnel is `phase` now, or still is in the phase it was.

        Raises: OSFailureError (a full disk): before the effects that it speaks of.
        """
        self.phase = phase or self.phase
        journal.write(
            context.settings.run_dir,
            journal.Entry(
                name=self.name,
                boot_id=context.boot_id,
                phase=self.phase,
                backend=self.backend,
                ifindex=self.ifindex,
                kernel_name=self.kernel_name,
                pid=self.daemon.pid if self.daemon else 0,
                start_id=self.daemon.start_id if self.daemon else "",
                since=self.since,
                path=self.tunnel.path,
                digest=self.tunnel.digest,
                table=self.tunnel.table,
                mtu=self.mtu,
                pins=tuple(self.pins.values()),
                dns=self.dns,
                name_servers=self.name_servers,
                full_table=self.full_table,
                rules=self.ruled,
                filtered=self.filtered,
                valid_mark=self.valid_mark,
                hooks=self.tunnel.hooks,
                changes=context.settings.changes,
            ),
        )
