"""Which routes a tunnel needs: AllowedIPs, the halves of a /0, and the endpoints' own way out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from wgsvc.config.model import TABLE_OFF, Tunnel
from wgsvc.values import BITS, Prefix, Route

LOOPBACK = (Prefix(4, 127 << 24, 8), Prefix(6, 1, 128))
"""
Loopback networks: packets to them never leave the host, so no endpoint there needs a pin.

Linux has them in a table of its own, where this program does not look.
"""


def tunnel_prefixes(tunnel: Tunnel, *, whole: bool = False) -> tuple[Prefix, ...]:
    """
    Return the prefixes to route into the tunnel, sorted, without doubles.

    In the default table a /0 becomes its two halves, so that the real default route stays
    untouched beneath them, unless it is to stay `whole`, for a table of its own; and what an
    address of the interface covers already is left out, as wg-quick does.
    """
    wanted = _wanted(tunnel)
    if tunnel.table is not None:
        return tuple(sorted(wanted))
    for version in () if whole else BITS:
        everything = Prefix(version, 0, 0)
        if everything in wanted:
            wanted.remove(everything)
            wanted.update(halves(version))
    connected = [address for address in tunnel.addresses if not address.is_host]
    return tuple(
        sorted(prefix for prefix in wanted if not any(net.covers(prefix) for net in connected))
    )


def _wanted(tunnel: Tunnel) -> set[Prefix]:
    if tunnel.table == TABLE_OFF:
        return set()
    wanted: set[Prefix] = set(tunnel.routes or ())
    for peer in tunnel.peers if tunnel.routes is None else ():
        wanted.update(peer.allowed_ips if peer.routes is None else peer.routes)
    return wanted


def full_versions(tunnel: Tunnel) -> tuple[int, ...]:
    """Return the IP versions of which the tunnel gets everything, by `Table = auto`."""
    if tunnel.table is not None:
        return ()
    wanted = _wanted(tunnel)
    return tuple(version for version in BITS if Prefix(version, 0, 0) in wanted)


def tunnel_routes(
    tunnel: Tunnel, *, full_table: int = 0, without: Collection[Prefix] = ()
) -> tuple[Route, ...]:
    """
    Return the routes of a tunnel to its own interface.

    A /0 goes into `full_table`, if that is not 0, else in halves into the default table.
    `without` are prefixes to leave out.
    """
    return tuple(
        Route(prefix, table=full_table if _of_full_table(tunnel, prefix) else tunnel.table)
        for prefix in tunnel_prefixes(tunnel, whole=bool(full_table))
        if prefix not in without
    )


def _of_full_table(tunnel: Tunnel, prefix: Prefix) -> bool:
    return tunnel.table is None and prefix.length == 0


def left_out(tunnel: Tunnel, endpoints: Collection[Prefix]) -> frozenset[Prefix]:
    """
    Return the prefixes that are an endpoint's own address: the default table can't have them.

    The encrypted packets to that address have to leave the host by another way.
    """
    if tunnel.table is not None or not endpoints:
        return frozenset()
    return frozenset(endpoints).intersection(tunnel_prefixes(tunnel))


def swallowing(tunnel: Tunnel, peers: Collection[bytes], hosts: Collection[Prefix]) -> set[Prefix]:
    """
    Return what of the given peers' prefixes keeps queries to name servers from leaving the host.

    `peers` are public keys, `hosts` the servers' addresses. A /0 or half of one always does,
    since a server on this host asks others.
    """
    found: set[Prefix] = set()
    if tunnel.table is not None:
        return found
    for peer in tunnel.peers:
        if peer.public_key not in peers:
            continue
        for prefix in peer.allowed_ips if peer.routes is None else peer.routes:
            if prefix.length <= 1 or any(prefix.covers(host) for host in hosts):
                found.add(prefix)
    if tunnel.routes is not None:
        found = {
            route
            for route in tunnel.routes
            if any(route.covers(prefix) or prefix.covers(route) for prefix in found)
        }
    for version in BITS:
        if Prefix(version, 0, 0) in found:
            found.update(halves(version))
    return found


def halves(version: int) -> tuple[Prefix, Prefix]:
    """Return the two /1 prefixes that together are everything."""
    return Prefix(version, 0, 1), Prefix(version, 1 << (BITS[version] - 1), 1)


def way_out(routes: Iterable[Route], host: Prefix) -> Route | None:
    """Return the longest of `routes` that leads to `host`; of equals the first."""
    best: Route | None = None
    for route in routes:
        if route.prefix.covers(host) and (best is None or route.prefix.length > best.prefix.length):
            best = route
    return best


def may_need_pins(prefixes: Sequence[Prefix], endpoints: Sequence[Prefix]) -> bool:
    """
    Whether some endpoint may lie in a tunnel's prefix: only then the routes have to be read.

    Of very many, where looking takes longer than reading, the answer is yes.
    """
    if len(prefixes) * len(endpoints) > 100_000:
        return True
    return any(
        prefix.length and prefix.covers(endpoint) for endpoint in endpoints for prefix in prefixes
    )


def endpoint_pins(
    tunnel_prefixes: Sequence[Prefix], endpoints: Iterable[Prefix], routes: Sequence[Route]
) -> dict[Prefix, Route]:
    """
    Return the host route each endpoint needs so that the tunnel never carries its own packets.

    An endpoint needs one if a tunnel's prefix covers it and no longer foreign route does.
    `routes` are the foreign routes of the same table: none of the tunnel's own, no pins of ours.
    A /0 does not count: it is in a table that WireGuard's own packets are not led into. Where
    there is no way out the pin is a blackhole: a loop would be worse.
    """
    pins: dict[Prefix, Route] = {}
    for endpoint in sorted(set(endpoints)):
        covering = [
            prefix for prefix in tunnel_prefixes if prefix.length and prefix.covers(endpoint)
        ]
        if not covering or any(local.covers(endpoint) for local in LOOPBACK):
            continue
        found = way_out(routes, endpoint)
        if found is None:
            pins[endpoint] = Route(endpoint, blackhole=True, pin=True)
        elif found.prefix.length < max(prefix.length for prefix in covering) or (
            found.prefix.length == 0
        ):
            pins[endpoint] = found._replace(prefix=endpoint, mtu=None, pin=True)
    return pins


def automatic_mtu(path_mtus: Iterable[int | None]) -> int:
    """
    Return the tunnel's MTU for the MTUs of the ways to its endpoints.

    80 bytes are WireGuard's own over IPv6. The smallest way counts (wg-quick on FreeBSD
    takes the largest). Nothing known: 1420, as for Ethernet.
    """
    known = [mtu for mtu in path_mtus if mtu]
    return max(min(known) - 80, 576) if known else 1420
