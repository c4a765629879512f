"""Which routes a tunnel needs: AllowedIPs, the halves of a /0, and the endpoints' own way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from wgsvc.config.model import TABLE_OFF, Tunnel
from wgsvc.values import BITS, Prefix, Route

LOOPBACK = (Prefix(4, 127 << 24, 8), Prefix(6, 1, 128))
"""What no route leads out of the host; Linux has it in a table of its own."""


def tunnel_prefixes(tunnel: Tunnel) -> tuple[Prefix, ...]:
    """
    Return the prefixes to route into the tunnel, sorted, without doubles.

    In the default table a /0 becomes its two halves, so that the real default route stays
    untouched beneath them; and what an address of the interface covers already is left
    out, as wg-quick does.
    """
    if tunnel.table == TABLE_OFF:
        return ()
    wanted: set[Prefix] = set(tunnel.routes or ())
    for peer in tunnel.peers if tunnel.routes is None else ():
        wanted.update(peer.allowed_ips if peer.routes is None else peer.routes)
    if tunnel.table is not None:
        return tuple(sorted(wanted))
    for version in BITS:
        whole = Prefix(version, 0, 0)
        if whole in wanted:
            wanted.remove(whole)
            wanted.update(halves(version))
    connected = [address for address in tunnel.addresses if not address.is_host]
    return tuple(
        sorted(prefix for prefix in wanted if not any(net.covers(prefix) for net in connected))
    )


def halves(version: int) -> tuple[Prefix, Prefix]:
    """Return the two /1 prefixes that together are everything."""
    return Prefix(version, 0, 1), Prefix(version, 1 << (BITS[version] - 1), 1)


def way_out(routes: Iterable[Route], host: Prefix, without: Prefix | None = None) -> Route | None:
    """
    Return the longest of `routes` that leads to `host`; of equals the first.

    `without` is a prefix to pass over: the pin that is there now.
    """
    best: Route | None = None
    for route in routes:
        if (
            route.prefix.covers(host)
            and route.prefix != without
            and (best is None or route.prefix.length > best.prefix.length)
        ):
            best = route
    return best


def endpoint_pins(
    tunnel_prefixes: Sequence[Prefix],
    endpoints: Iterable[Prefix],
    routes: Sequence[Route],
    *,
    pinned: Mapping[Prefix, Route] | None = None,
) -> dict[Prefix, Route]:
    """
    Return the host route each endpoint needs so that the tunnel never carries its own packets.

    An endpoint needs one if a tunnel's prefix covers it and no longer foreign route does.
    `routes` are the foreign routes of the same table (none of the tunnel's own, pins
    may be among them); `pinned` is what is there now. Where there is no way out the pin is a
    blackhole: a loop would be worse.
    """
    pinned = pinned or {}
    pins: dict[Prefix, Route] = {}
    for endpoint in sorted(set(endpoints)):
        covering = [prefix for prefix in tunnel_prefixes if prefix.covers(endpoint)]
        if not covering or any(local.covers(endpoint) for local in LOOPBACK):
            continue
        found = way_out(routes, endpoint, endpoint if endpoint in pinned else None)
        if found is None:
            pins[endpoint] = Route(endpoint, blackhole=True)
        elif found.prefix.length < max(prefix.length for prefix in covering) or (
            found.prefix.length == 0
        ):
            pins[endpoint] = found._replace(prefix=endpoint, mtu=None)
    return pins


def automatic_mtu(path_mtus: Iterable[int | None]) -> int:
    """
    Return the tunnel's MTU for the MTUs of the ways to its endpoints.

    80 bytes are WireGuard's own over IPv6. The smallest way counts (wg-quick on FreeBSD
    takes the largest). Nothing known: 1420, as for Ethernet.
    """
    known = [mtu for mtu in path_mtus if mtu]
    return max(min(known) - 80, 576) if known else 1420
