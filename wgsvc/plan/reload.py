"""
What a reload does: the file minus what runs, as little as possible.

Three sides are compared: what the file wants now, what was applied last time, and what
wireguard-go and the kernel show. What only somebody else put there stays.
"""

from __future__ import annotations

from collections.abc import Mapping

from wgsvc.config.model import Hooks, Peer, Tunnel
from wgsvc.light import NamedTuple
from wgsvc.plan import steps
from wgsvc.plan.routes import full_versions, tunnel_routes
from wgsvc.plan.start import host_prefix
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange
from wgsvc.uapi.parse import DeviceState, PeerState
from wgsvc.values import Endpoint, Prefix, Route

LINK_LOCAL = Prefix(6, 0xFE80 << 112, 10)
"""The kernel gives itself these addresses."""


class Observed(NamedTuple):
    """What runs: the device, and the interface's addresses, routes and MTU."""

    device: DeviceState
    addresses: tuple[Prefix, ...]
    routed: frozenset[Prefix]
    mtu: int
    ruled: tuple[int, ...] = ()  # IP versions that rules lead into a full tunnel's table


class Difference(NamedTuple):
    """What to do, in order: the additions, the device, the removals."""

    additions: tuple[steps.Step, ...]
    device: DeviceChange | None
    removals: tuple[steps.Step, ...]
    renews_sessions: bool = False
    hooks: tuple[str, ...] = ()  # keys, such as PostUp, whose snippets are others now

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do. Hooks that differ are: a reload runs none."""
        return not (self.additions or self.device or self.removals)


def needs_restart(wanted: Tunnel, applied: Tunnel, full_table: int = 0) -> str:
    """
    Return why a reload can't do it, "" if it can.

    `full_table` is the routing table that the running tunnel has for a /0, or 0.
    """
    if wanted.table != applied.table:
        return "Table has changed"
    if full_table and full_versions(wanted) and wanted.fwmark not in (None, 0, full_table):
        return "FwMark has changed, and the table of the /0 with it"
    return ""


def difference(
    wanted: Tunnel,
    applied: Tunnel,
    observed: Observed,
    *,
    mtu: int,
    own_key: bytes = b"",
    minus_form: bool = True,
    dns_mode: str = "exclusive",
    files: tuple[Tunnel, Tunnel] | None = None,
    full_table: int = 0,
    unrouted: frozenset[Prefix] = frozenset(),
    unruled: tuple[int, ...] = (),
) -> Difference:
    """
    Return what makes `observed` equal to `wanted`.

    `files` are `wanted` and `applied` as their files have them, where hooks added to them:
    routes are the files' business alone, a hook that wants some adds them itself.
    `mtu` is the one wanted (the file's or the computed one); `own_key` this interface's own
    public key, whose peer WireGuard ignores; `minus_form` whether single AllowedIPs can
    be removed (wireguard-go since May 2025). `full_table` is the table and the mark for a /0,
    0 for halves; `unrouted` are prefixes, and `unruled` IP versions, for which no route and no
    rules are wanted though the file says so.
    """
    name = wanted.name
    here = set(observed.addresses)
    add: list[steps.Step] = [
        steps.AddAddress(name, address) for address in wanted.addresses if address not in here
    ]
    remove: list[steps.Step] = [
        steps.DeleteAddress(name, address)
        for address in observed.addresses
        if address not in wanted.addresses and not LINK_LOCAL.covers(address)
    ]
    if mtu != observed.mtu:
        add.append(steps.SetMtu(name, mtu))
    if (wanted.dns_servers, wanted.dns_search) != (applied.dns_servers, applied.dns_search):
        if wanted.dns_servers or wanted.dns_search:
            dns = steps.SetDns(name, wanted.dns_servers, wanted.dns_search, dns_mode)
            add.append(dns)
        else:
            remove.append(steps.UnsetDns(name))
    wanted_file, applied_file = files or (wanted, applied)
    after = tunnel_routes(wanted_file, full_table=full_table, without=unrouted)
    before: tuple[Route, ...] = ()
    if wanted_file is not applied_file:
        before = tunnel_routes(applied_file, full_table=full_table)
    new = tuple(route for route in after if route.prefix not in observed.routed)
    old = tuple(route for route in before if route.prefix in observed.routed and route not in after)
    if new:
        add.append(steps.AddRoutes(name, new))
    full = full_versions(wanted_file) if full_table else ()
    routed = {route.prefix.version for route in after if not route.prefix.length}
    missing = tuple(v for v in full if v in routed and v not in (*observed.ruled, *unruled))
    extra = tuple(version for version in observed.ruled if version not in full)
    if missing:
        add.append(steps.AddRules(name, full_table, missing))
    if extra:
        remove.append(steps.DeleteRules(name, full_table, extra))
    if old:
        remove.append(steps.DeleteRoutes(name, old))
    mark = full_table if full else 0
    device = device_difference(
        wanted, applied, observed.device, own_key=own_key, minus_form=minus_form, mark=mark
    )
    renews = device is not None and device.private_key is not None
    hooks = _different_hooks(wanted.hooks, applied.hooks)
    return Difference(tuple(add), device, tuple(remove), renews, hooks)


def _different_hooks(wanted: Hooks, applied: Hooks) -> tuple[str, ...]:
    keys = ("PreUp", "PostUp", "PreDown", "PostDown")
    return tuple(key for key, now, was in zip(keys, wanted, applied, strict=True) if now != was)


def device_difference(
    wanted: Tunnel,
    applied: Tunnel,
    observed: DeviceState,
    *,
    own_key: bytes = b"",
    minus_form: bool = True,
    mark: int = 0,
) -> DeviceChange | None:
    """Return the lines that differ, None if none does; `mark` is the one that a /0 needs, or 0."""
    changes = _peer_differences(wanted, applied, observed, own_key=own_key, minus_form=minus_form)
    private_key = listen_port = fwmark = None
    if wanted.private_key is not None and wanted.private_key != observed.private_key:
        private_key = wanted.private_key
    if wanted.listen_port and wanted.listen_port != observed.listen_port:
        listen_port = wanted.listen_port  # each line of it rebinds the sockets
    wanted_mark = mark if wanted.fwmark is None else wanted.fwmark
    if wanted_mark != observed.fwmark:
        fwmark = wanted_mark
    if private_key is None and listen_port is None and fwmark is None and not changes:
        return None
    return DeviceChange(private_key, listen_port, fwmark, peers=tuple(changes))


def _peer_differences(
    wanted: Tunnel, applied: Tunnel, observed: DeviceState, *, own_key: bytes, minus_form: bool
) -> list[PeerChange]:
    owners: dict[Prefix, bytes] = {}
    files = {peer.public_key: peer for peer in applied.peers}
    seen = {peer.public_key: peer for peer in observed.peers}
    changes: list[PeerChange] = []
    for peer in wanted.peers:
        now = seen.pop(peer.public_key, None)
        if now is None:
            if peer.public_key != own_key:
                changes.append(whole_peer(peer))
            continue
        file_before = files.get(peer.public_key)
        if _equal(peer, now, file_before):
            continue  # as almost all of thousands are
        if not owners:
            owners = {
                prefix: each.public_key for each in wanted.peers for prefix in each.allowed_ips
            }
        change = peer_difference(peer, now, file_before, owners, minus_form=minus_form)
        if change is not None:
            changes.append(change)
    return changes + [PeerChange(key, remove=True) for key in sorted(seen)]


def _equal(peer: Peer, now: PeerState, file_before: Peer | None) -> bool:
    return (
        peer.allowed_ips == now.allowed_ips
        and (peer.keepalive_s or 0) == now.keepalive_s
        and peer.preshared_key == now.preshared_key
        and file_before is not None
        and (peer is file_before or peer.endpoint == file_before.endpoint)
    )


def whole_peer(peer: Peer, roamed: Endpoint | None = None) -> PeerChange:
    """Return everything of one peer; an endpoint that is a name is left out."""
    endpoint = roamed or peer.endpoint
    if endpoint is not None and host_prefix(endpoint.host) is None:
        endpoint = None
    return PeerChange(
        peer.public_key,
        preshared_key=peer.preshared_key,
        endpoint=endpoint,
        keepalive_s=peer.keepalive_s,
        replace_allowed_ips=True,
        allowed_ips=peer.allowed_ips,
    )


def peer_difference(
    peer: Peer,
    now: PeerState,
    file_before: Peer | None,
    owners: Mapping[Prefix, bytes],
    *,
    minus_form: bool,
) -> PeerChange | None:
    """
    Return what of one peer differs, None if nothing does.

    An endpoint is set only if the file's changed: the peer may have roamed since. An AllowedIP
    that another peer gets is not removed here: giving it away does that.
    """
    wanted_key = peer.preshared_key or NO_KEY
    preshared_key = wanted_key if wanted_key != (now.preshared_key or NO_KEY) else None
    keepalive_s = peer.keepalive_s or 0
    endpoint = None
    if file_before is None or peer.endpoint != file_before.endpoint:
        endpoint = peer.endpoint
        if endpoint is not None and host_prefix(endpoint.host) is None:
            endpoint = None
    added: tuple[Prefix, ...] = ()
    dropped: tuple[Prefix, ...] = ()
    replace = False
    if peer.allowed_ips != now.allowed_ips:  # mostly the same, in the same order
        have, want = set(now.allowed_ips), set(peer.allowed_ips)
        added = tuple(prefix for prefix in peer.allowed_ips if prefix not in have)
        dropped = tuple(
            prefix for prefix in now.allowed_ips if prefix not in want and prefix not in owners
        )
        if dropped and not minus_form:
            added, dropped, replace = peer.allowed_ips, (), True
    change = PeerChange(
        peer.public_key,
        update_only=True,
        preshared_key=preshared_key,
        endpoint=endpoint,
        keepalive_s=keepalive_s if keepalive_s != now.keepalive_s else None,
        replace_allowed_ips=replace,
        allowed_ips=added,
        dropped_ips=dropped,
    )
    return None if change == PeerChange(peer.public_key, update_only=True) else change
