"""Following the network under a running tunnel: endpoint pins and the automatic MTU."""

from __future__ import annotations

from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.routes import automatic_mtu, endpoint_pins, left_out, may_need_pins
from wgsvc.plan.start import host_prefix, numeric_endpoints
from wgsvc.supervise import device
from wgsvc.supervise.context import log
from wgsvc.values import Route

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live
    from wgsvc.values import Prefix


async def follow(context: Context, live: Live, endpoints: tuple[Prefix, ...] | None = None) -> None:
    """
    Make pins and MTU fit the routes of now.

    `endpoints` are where the peers are, if that is known: of 10 000 it takes 30 ms to ask.
    Idempotent; what fails is logged, and tried again at the next change.
    """
    try:
        if endpoints is None:
            endpoints = await current_endpoints(context, live)
        if live.leaving:
            return  # a pin added now is one that nobody removes
        repin(context, live, endpoints)
        remeasure(context, live, endpoints)
    except WgsvcError as error:
        if live.leaving or (live.daemon is not None and live.daemon.exited.done):
            return  # whoever brings it back looks again
        log(f"{live.name}: following the network: {error.message}", error=True)


async def current_endpoints(context: Context, live: Live) -> tuple[Prefix, ...]:
    """Return where the peers are now, roamed ones and resolved names included."""
    if device.answers(live):
        await device.get(context, live)
    if live.last_seen is None:
        resolved = (host_prefix(endpoint.host) for endpoint in live.resolved.values())
        return (*numeric_endpoints(live.tunnel), *(host for host in resolved if host is not None))
    hosts = (host_prefix(peer.endpoint.host) for peer in live.last_seen.peers if peer.endpoint)
    return tuple(host for host in hosts if host is not None)


def repin(
    context: Context, live: Live, endpoints: tuple[Prefix, ...], tunnel: Tunnel | None = None
) -> None:
    """
    Give every endpoint that needs one its host route, by the way that is right now.

    Name servers that are asked at this moment (`live.asked`) count as endpoints. The new way
    goes in right after the old one went out, in one batch. `tunnel` is a file that is about to
    be applied: its routes come after the pins.
    Raises: OSFailureError.
    """
    if live.tunnel.table is not None:
        return
    _leave_out(context, live, endpoints)
    hosts = (*endpoints, *live.asked)
    prefixes = tuple(route.prefix for route in live.routes(tunnel))
    if not (live.pins or may_need_pins(prefixes, hosts)):
        return
    system = context.system
    routes = [
        route
        for route in system.routes(table=system.default_table)
        if route.ifindex != live.ifindex
    ]
    there = {
        route.prefix: route
        for route in routes
        if _is_ours(route, live.pins.get(route.prefix), known=system.has_metrics)
    }
    foreign = [route for route in routes if there.get(route.prefix) is not route]
    wanted = endpoint_pins(prefixes, hosts, foreign)
    wanted = {prefix: pin for prefix, pin in wanted.items() if prefix not in live.unpinned}
    stale = [pin for prefix, pin in there.items() if not _same(wanted.get(prefix), pin)]
    missing = [pin for prefix, pin in wanted.items() if not _same(there.get(prefix), pin)]
    if not stale and not missing and live.pins.keys() == wanted.keys():
        return
    live.pins = {**live.pins, **wanted}  # both, until the journal knows the new ones
    live.record(context, "up")
    system.delete_routes(stale)
    failures = system.add_routes(missing)
    live.pins = wanted
    live.record(context, "up")
    for failure in failures:
        log(
            f"{live.name}: endpoint route {failure.route.prefix}: errno {failure.errno}", error=True
        )
    for pin in missing:
        if pin.prefix not in live.asked:
            to = pin.gateway or ("nowhere" if pin.blackhole else f"interface {pin.ifindex}")
            log(f"{live.name}: endpoint {pin.prefix.host} is reached through {to} now")


def _leave_out(context: Context, live: Live, endpoints: tuple[Prefix, ...]) -> None:
    """Take the route of an endpoint's own address out of the tunnel, or put it back."""
    before, live.left_out = live.left_out, left_out(live.tunnel, endpoints)
    if before == live.left_out:
        return
    context.system.delete_routes([Route(prefix, live.ifindex) for prefix in live.left_out - before])
    back = [route for route in live.routes() if route.prefix in before]
    context.system.add_routes([route._replace(ifindex=live.ifindex) for route in back])


def _is_ours(route: Route, recorded: Route | None, *, known: bool) -> bool:
    """
    Whether a route is the pin that was recorded, and not somebody else's for the same host.

    `known` says that the kernel tells pins from other routes. Without that one by the very way
    that was recorded counts as ours.
    """
    if recorded is None or route.pin != (recorded.pin and known):
        return False
    return route.pin or _same(route, recorded)


def _same(one: Route | None, other: Route | None) -> bool:
    if one is None or other is None:
        return one is other
    if (one.prefix, one.gateway, one.blackhole) != (other.prefix, other.gateway, other.blackhole):
        return False
    # A route through a gateway may or may not say by which interface.
    return one.gateway is not None or one.ifindex == other.ifindex


def remeasure(context: Context, live: Live, endpoints: tuple[Prefix, ...]) -> None:
    """
    Compute an automatic MTU again.

    Raises: OSFailureError.
    """
    if live.settled.mtu is not None or not endpoints:
        return
    known = [
        context.system.path_mtu(endpoint, mark=live.mark, not_by=live.ifindex)
        for endpoint in endpoints[:256]
    ]
    if None in known:
        return  # no way there now: what is known then says nothing
    mtu = automatic_mtu(known)
    if mtu != live.mtu:
        log(f"{live.name}: MTU {live.mtu} -> {mtu}")
        live.mtu = mtu
        context.system.set_mtu(live.name, mtu)
        live.record(context, "up")
