"""Making a running tunnel equal to its file, and telling whether it is."""

from __future__ import annotations

import os

from wgsvc.config.merge import merge
from wgsvc.config.x25519 import public_key
from wgsvc.errors import BusyError, OSFailureError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan import steps
from wgsvc.plan.changes import hooks, lines
from wgsvc.plan.reload import Difference, difference, needs_restart
from wgsvc.plan.routes import automatic_mtu, full_versions, left_out, tunnel_prefixes
from wgsvc.plan.start import firewall_step, host_prefix, numeric_endpoints
from wgsvc.supervise import device, endpoints, network
from wgsvc.supervise.context import log
from wgsvc.supervise.observe import observe, observed
from wgsvc.supervise.perform import give_table_back, perform
from wgsvc.supervise.up import has_firewall
from wgsvc.uapi.encode import DeviceChange, PeerChange
from wgsvc.values import Prefix

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.supervise.context import Context, Say, Timings
    from wgsvc.supervise.live import Live

TEST_NET = Prefix(4, 192 << 24 | 2 << 8, 24)


async def compare(context: Context, live: Live, wanted: Tunnel) -> Difference:
    """
    Return what a reload does now. What hooks added stays.

    Raises: WgsvcError if what runs can't be read, or if only a restart can do it.
    """
    reason = needs_restart(wanted, live.tunnel, live.full_table)
    if reason:
        raise BusyError(
            f"{live.name}: {reason}: that takes a restart", cure=f"wgsvc restart {live.name}"
        )
    seen = await observe(context, live)
    applied = live.settled
    files = wanted, live.tunnel
    wanted = merge(wanted, live.tunnel, applied)
    if (wanted.dns_servers, wanted.dns_search) != (applied.dns_servers, applied.dns_search):
        from wgsvc.supervise import dns

        if (wanted.dns_servers or wanted.dns_search) and not dns.wanted(context.settings, wanted):
            wanted = wanted._replace(dns_servers=applied.dns_servers, dns_search=applied.dns_search)
    mtu, dns_mode = _mtu(context, live, wanted), context.settings.dns_mode
    table = _full_table(context, live, files[0])
    held, hold_dns = endpoints.held_back(live, files[0])
    unrouted = held | live.taken | left_out(files[0], _endpoints(live))
    if hold_dns:
        wanted = wanted._replace(dns_servers=applied.dns_servers, dns_search=applied.dns_search)

    def against(own_key: bytes, *, minus_form: bool) -> Difference:
        return difference(
            wanted, applied, seen,
            mtu=mtu, own_key=own_key, minus_form=minus_form, dns_mode=dns_mode, files=files,
            full_table=table, unrouted=unrouted, unruled=live.unruled,
        )  # fmt: skip

    found = against(b"", minus_form=True)
    changes = found.device.peers if found.device is not None else ()
    new_peers = any(not change.update_only and not change.remove for change in changes)
    drops = any(change.dropped_ips for change in changes)
    if not new_peers and not drops:
        return found
    # A peer that seems to be missing may be our own key, which WireGuard ignores.
    own_key = public_key(wanted.private_key) if new_peers and wanted.private_key else b""
    minus_form = not drops or await takes_minus(context, live)
    return against(own_key, minus_form=minus_form)


def _full_table(context: Context, live: Live, wanted: Tunnel) -> int:
    """Return the routing table for a /0: the one it has, a new one, or 0 for halves."""
    if live.full_table or full_versions(live.tunnel) or not full_versions(wanted):
        return live.full_table
    if context.settings.full_tunnel == "halves" or not context.system.routes_by_mark:
        return 0
    return wanted.fwmark or context.system.free_table(context.full_tables.values())


def drift(context: Context, live: Live) -> Difference:
    """
    Return what makes the tunnel again what was applied, judging by `live.last_seen`.

    Raises: WgsvcError.
    """
    seen = observed(context, live)

    def against(own_key: bytes) -> Difference:
        return difference(
            live.settled, live.settled, seen,
            mtu=live.settled_mtu, own_key=own_key, files=(live.tunnel, live.tunnel),
            full_table=live.full_table, unrouted=live.unrouted, unruled=live.unruled,
        )  # fmt: skip

    found = against(b"")
    changes = found.device.peers if found.device is not None else ()
    if any(not change.update_only and not change.remove for change in changes):
        # A peer that seems to be missing may be our own key, which WireGuard ignores.
        own_key = public_key(live.settled.private_key) if live.settled.private_key else b""
        found = against(own_key)
    return found


def _mtu(context: Context, live: Live, wanted: Tunnel) -> int:
    if wanted.mtu is not None:
        return wanted.mtu
    if live.tunnel.mtu is None:
        return live.mtu  # the route monitor keeps it right
    endpoints = numeric_endpoints(wanted)
    return automatic_mtu(
        context.system.path_mtu(at, mark=live.mark, not_by=live.ifindex) for at in endpoints[:256]
    )


async def takes_minus(context: Context, live: Live) -> bool:
    """
    Return whether single AllowedIPs can be removed (wireguard-go since May 2025).

    Asked with an update of a peer that does not exist: it changes nothing.
    """
    if live.backend == "kernel":
        return True  # wg(8) gets the AllowedIPs that stay
    if context.minus_form is None:
        nobody = PeerChange(os.urandom(32), update_only=True, dropped_ips=(TEST_NET,))
        try:
            await device.configure(context, live, DeviceChange(peers=(nobody,)))
        except OSFailureError:
            context.minus_form = False
        else:
            context.minus_form = True
    return context.minus_form


async def reload(context: Context, live: Live, wanted: Tunnel, say: Say, timings: Timings) -> str:
    """
    Apply the difference, additions before removals; return what was done in a word or two.

    Raises: WgsvcError; what was applied before stays, and the next reload goes on from there.
    """
    with timings.phase("compare"):
        await _look_up(context, live, wanted)
        found = await compare(context, live, wanted)
    hooks_differ = _tell_hooks(context, live, found, say)
    if found.empty:
        adopt_file(context, live, wanted)
        return "reloaded" if hooks_differ else "no change"
    for line in lines(found, live.name, context.system.name):
        say(f"[#] {line}")
    with timings.phase("apply"):
        await _apply(context, live, found, wanted)
    adopt_file(context, live, wanted)
    if any(isinstance(step, steps.SetMtu) for step in found.additions):
        live.record(context, "up")
    await network.follow(context, live, _endpoints(live, found))
    return "reloaded, sessions renewed" if found.renews_sessions else "reloaded"


async def _apply(context: Context, live: Live, found: Difference, wanted: Tunnel) -> None:
    """
    Do what a reload has to.

    Raises: WgsvcError.
    """
    live.full_table = _full_table(context, live, wanted)
    if live.full_table:
        context.full_tables[live.name] = live.full_table
    live.held, hold_dns = endpoints.held_back(live, wanted)
    live.held_dns = hold_dns and bool(wanted.dns_servers or wanted.dns_search) and not live.dns
    network.repin(context, live, (*_endpoints(live), *_endpoints(live, found)), wanted)
    for step in found.additions:
        await perform(context, live, step, _quiet, "reload")
    # Routes go before the AllowedIPs they are for: after a crash in between the next reload
    # still sees from WireGuard that they are ours.
    for step in found.removals:
        if isinstance(step, steps.DeleteRoutes):
            await perform(context, live, step, _quiet, "reload")
    if found.device is not None:
        await device.configure(context, live, found.device)
    for step in found.removals:
        if not isinstance(step, steps.DeleteRoutes):
            await perform(context, live, step, _quiet, "reload")
    await _route_again(context, live, found, wanted)
    await _filter_again(context, live, wanted)


async def _look_up(context: Context, live: Live, wanted: Tunnel) -> None:
    """Look up the names that the file has now and had not when it was applied."""
    before = {peer.public_key: peer.endpoint for peer in live.tunnel.peers}
    new = [
        peer
        for peer in endpoints.named_peers(wanted)
        if peer.endpoint != before.get(peer.public_key)
    ]
    for peer in new:
        live.resolved.pop(peer.public_key, None)
    if new:
        await endpoints.look_up(context, live, new)


def _tell_hooks(context: Context, live: Live, found: Difference, say: Say) -> bool:
    """Say which hooks are others now: they are run some other time. Return whether any is."""
    differ = tuple(hooks(found)) if context.settings.hooks == "on" else ()
    for line in differ:
        say(f"{live.name}: {line}")
    return bool(differ)


async def _route_again(context: Context, live: Live, found: Difference, wanted: Tunnel) -> None:
    """Add the routes that the kernel's own one did for, which went with its address."""
    gone = {
        step.address.network for step in found.removals if isinstance(step, steps.DeleteAddress)
    }
    routes = tuple(route for route in live.routes(wanted) if route.prefix in gone)
    if routes:
        await perform(context, live, steps.AddRoutes(live.name, routes), _quiet, "reload")


async def _filter_again(context: Context, live: Live, wanted: Tunnel) -> None:
    """Have the packet filter fit a file whose addresses or /0 are others."""
    versions = full_versions(wanted) if live.full_table and not live.held else ()
    gone = tuple(version for version in live.filtered if version not in versions)
    if gone:
        await perform(context, live, steps.UnsetFirewall(live.name, gone), _quiet, "reload")
    if versions and has_firewall(context.settings):
        if versions == live.filtered and wanted.addresses == live.tunnel.addresses:
            return
        step = firewall_step(wanted, live.full_table, versions)
        await perform(context, live, step, _quiet, "reload")


def adopt_file(context: Context, live: Live, wanted: Tunnel) -> None:
    """From now on this is what was applied."""
    if live.tunnel != wanted:
        hooked = merge(wanted, live.tunnel, live.settled)
        live.tunnel, live.hooked = wanted, None if hooked is wanted else hooked
        live.taken = live.taken.intersection(tunnel_prefixes(wanted, whole=bool(live.full_table)))
        if live.full_table and not full_versions(wanted):
            for error in give_table_back(context, live):
                log(f"{live.name}: {error.message}", error=True)
        live.record(context, "up")


def _endpoints(live: Live, found: Difference | None = None) -> tuple[Prefix, ...]:
    """Return where the peers were when they were last seen; with `found`, are after that."""
    seen = live.last_seen.peers if live.last_seen else ()
    there = {peer.public_key: peer.endpoint for peer in seen}
    for change in found.device.peers if found is not None and found.device else ():
        if change.remove:
            there.pop(change.public_key, None)
        elif change.endpoint is not None:
            there[change.public_key] = change.endpoint
    hosts = {endpoint.host for endpoint in there.values() if endpoint is not None}
    return tuple(at for host in sorted(hosts) if (at := host_prefix(host)) is not None)


def _quiet(_line: str) -> None:
    """Say nothing: the difference was shown as a whole."""
