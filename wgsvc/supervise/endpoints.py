"""
Endpoints that are names: known before a tunnel's routes go in, and kept right afterwards.

A peer whose name is unknown holds up the others for a bounded time only. What would keep its name
from ever being found, the routes of that peer over the name servers and the tunnel's own name
servers, goes in as soon as its address is known.
"""

from __future__ import annotations

import os
import time
from collections import deque

from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan import steps
from wgsvc.plan.routes import full_versions, swallowing
from wgsvc.plan.start import dns_step, firewall_step, host_prefix
from wgsvc.supervise import device, greet, name_servers, network
from wgsvc.supervise.context import ToLog, log
from wgsvc.supervise.lookups import AT_ONCE
from wgsvc.supervise.resolver import resolve
from wgsvc.uapi.encode import DeviceChange
from wgsvc.values import Endpoint

if TYPE_CHECKING:
    from wgsvc.config.model import Peer, Tunnel
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live
    from wgsvc.values import Prefix

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 60.0
READ_AGAIN_S = 10.0
"""How old what WireGuard said may be for the age of a handshake: one read serves many peers."""


def named_peers(tunnel: Tunnel) -> list[Peer]:
    """Return the peers whose endpoint is a name."""
    return [
        peer
        for peer in tunnel.peers
        if peer.endpoint is not None and host_prefix(peer.endpoint.host) is None
    ]


async def look_up(context: Context, live: Live, peers: list[Peer]) -> None:
    """
    Look up the names of peers for at most `resolve_timeout_s`; `live.found` has those that are.

    A resolver that can't be reached is asked again, a name that there is not isn't.
    """
    found: dict[str, str] = {}
    hosts = deque(dict.fromkeys(peer.endpoint.host for peer in peers if peer.endpoint))
    deadline = time.monotonic() + context.settings.resolve_timeout_s

    async def some() -> None:
        while hosts:
            host = hosts.popleft()
            address = await _address(context, live, host, deadline)
            if address:
                found[host] = address

    tasks = [context.loop.spawn(some()) for _ in range(min(len(hosts), AT_ONCE))]
    try:
        for task in tasks:
            await task.wait()
    finally:
        for task in tasks:
            task.cancel()
    for peer in peers:
        if peer.endpoint is not None and peer.endpoint.host in found:
            endpoint = Endpoint(found[peer.endpoint.host], peer.endpoint.port)
            live.found[peer.public_key] = endpoint
        elif peer.public_key not in live.resolved:
            live.unresolved.setdefault(peer.public_key, time.time())


async def _address(context: Context, live: Live, host: str, deadline: float) -> str:
    """Return the first address of a name, "" if there is none by a time of time.monotonic()."""
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            answer = await resolve(context, live, host, timeout_s=left_s, first=True)
        except WgsvcError as error:
            log(f"{live.name}: endpoint {host}: {error.message}", error=True)
            return ""
        if answer.addresses or answer.final:
            return answer.addresses[0] if answer.addresses else ""
        await context.loop.sleep(min(FIRST_DELAY_S, max(0.0, deadline - time.monotonic())))
    return ""


def held_back(live: Live, tunnel: Tunnel) -> tuple[frozenset[Prefix], bool]:
    """Return which routes of a tunnel, and whether its name servers, wait for an address."""
    waiting = {
        peer.public_key for peer in named_peers(tunnel) if peer.public_key in live.unresolved
    }
    if not waiting:
        return frozenset(), False
    servers = live.name_servers if live.dns else name_servers.in_force()
    hosts = [at for server in servers if (at := host_prefix(server)) is not None]
    held = frozenset(swallowing(tunnel, waiting, hosts))
    own = [at for server in tunnel.dns_servers if (at := host_prefix(server)) is not None]
    return held, bool(held) or _reaches(tunnel, waiting, own)


def _reaches(tunnel: Tunnel, peers: set[bytes], hosts: list[Prefix]) -> bool:
    """Whether some host is behind one of these peers."""
    return any(
        prefix.covers(host)
        for peer in tunnel.peers
        if peer.public_key in peers
        for prefix in peer.allowed_ips
        for host in hosts
    )


def waiting_for(live: Live) -> list[str]:
    """Return the names that are waited for with something held back, each once."""
    if not live.held and not live.held_dns:
        return []
    return list(
        dict.fromkeys(
            peer.endpoint.host
            for peer in named_peers(live.tunnel)
            if peer.endpoint and peer.public_key in live.unresolved
        )
    )


async def follow_name(context: Context, live: Live, peer: Peer) -> None:
    """
    Keep one peer's endpoint what its name says, for as long as the tunnel is.

    Looked up again once its last handshake is older than `endpoint_stale_s`; IPv4 and IPv6
    addresses are tried in turn then.
    """
    assert peer.endpoint is not None  # noqa: S101 - named_peers
    turn, delay_s = 0, FIRST_DELAY_S
    if peer.public_key in live.found:
        await _apply(context, live, peer, live.found[peer.public_key].host)
    if peer.public_key not in live.unresolved:
        await _until_stale(context, live, peer)
    while True:
        try:
            addresses = (await resolve(context, live, peer.endpoint.host)).addresses
        except WgsvcError as error:
            log(f"{live.name}: endpoint {peer.endpoint.host}: {error.message}", error=True)
            addresses = ()
        if not addresses:
            await _not_found(context, live, peer)
        elif await _apply(context, live, peer, addresses[turn % len(addresses)]):
            delay_s = FIRST_DELAY_S
            turn += 1
            await _until_stale(context, live, peer)
            continue
        await context.loop.sleep(delay_s * _jitter())
        delay_s = min(delay_s * 2, LONGEST_DELAY_S)


async def _not_found(context: Context, live: Live, peer: Peer) -> None:
    """Note that a name has no address, unless one is known from before or from the peer itself."""
    if peer.public_key in live.resolved or await _roamed_in(context, live, peer):
        return
    if peer.public_key not in live.unresolved:
        live.unresolved[peer.public_key] = time.time()
        log(f"{live.name}: no address for endpoint {peer.endpoint}", error=True)


async def _apply(context: Context, live: Live, peer: Peer, address: str) -> bool:
    """Give a peer its address; return whether that, and all that waited for it, is done."""
    assert peer.endpoint is not None  # noqa: S101 - named_peers
    endpoint = Endpoint(address, peer.endpoint.port)
    host = host_prefix(address)
    waits = live.held or live.held_dns
    if not waits and live.resolved.get(peer.public_key) == endpoint == _seen_at(live, peer):
        return True
    try:
        endpoints = await network.current_endpoints(context, live)
        if live.leaving:
            return False
        if host is not None:
            network.repin(context, live, (*endpoints, host))  # before its first packet
        changes = greet.new_address(context, live, peer.public_key, endpoint)
        await device.configure(context, live, DeviceChange(peers=changes))
        live.found.pop(peer.public_key, None)
        live.resolved[peer.public_key] = endpoint
        await _known(context, live, peer)
    except WgsvcError as error:
        log(f"{live.name}: endpoint {peer.endpoint.host}: {error.message}", error=True)
        return False
    log(f"{live.name}: endpoint {peer.endpoint.host} is {address} now")
    return True


async def _roamed_in(context: Context, live: Live, peer: Peer) -> bool:
    """Whether a peer with an unknown name has spoken first; it can be answered then."""
    if await _state_of(context, live, peer) is None:
        return False
    try:
        await _known(context, live, peer)
    except WgsvcError as error:
        log(f"{live.name}: what was held back: {error.message}", error=True)
    return True


async def _known(context: Context, live: Live, peer: Peer) -> None:
    """
    Let in what waited for a peer's address.

    Raises: WgsvcError.
    """
    live.unresolved.pop(peer.public_key, None)
    if live.leaving or not (live.held or live.held_dns):
        return
    held, held_dns = held_back(live, live.tunnel)
    before, live.held = live.held, held
    try:
        await _let_in(context, live, before - held)
    except WgsvcError:
        live.held = before  # all of it again, the next time
        raise
    if live.held_dns and not held_dns and not live.leaving:
        await _do(context, live, dns_step(live.tunnel, context.settings.dns_mode))
        live.held_dns = False
    live.record(context)


async def _let_in(context: Context, live: Live, freed: frozenset[Prefix]) -> None:
    """
    Add the routes that are held back no longer, after the pins of the endpoints.

    Raises: WgsvcError.
    """
    routes = tuple(route for route in live.routes() if route.prefix in freed)
    network.repin(context, live, await network.current_endpoints(context, live))
    if routes and not live.leaving:
        await _do(context, live, steps.AddRoutes(live.name, routes))
    versions = tuple(route.prefix.version for route in routes if not route.prefix.length)
    if versions and live.full_table and not live.leaving:
        from wgsvc.supervise.up import has_firewall

        if has_firewall(context.settings):
            step = firewall_step(live.tunnel, live.full_table, full_versions(live.tunnel))
            await _do(context, live, step)
        await _do(context, live, steps.AddRules(live.name, live.full_table, versions))


async def _do(context: Context, live: Live, step: steps.Step) -> None:
    from wgsvc.supervise.perform import perform

    await perform(context, live, step, ToLog(live.name), "start")


async def _until_stale(context: Context, live: Live, peer: Peer) -> None:
    """
    Wait until a peer's last handshake is older than `endpoint_stale_s`.

    A peer that is talked to shakes hands every 120 s: after 135 its address may be wrong.
    """
    limit_s = context.settings.endpoint_stale_s
    left_s = limit_s
    while left_s > 0:
        await context.loop.sleep(left_s * _jitter())
        handshake_s = await _handshake_s(context, live, peer)
        left_s = 0.0 if handshake_s is None else min(handshake_s + limit_s - time.time(), limit_s)


def _jitter() -> float:
    """Return a factor from 1 to 1.1, so that many peers do not ask at the same moment."""
    return 1 + os.urandom(1)[0] / 2560


def _seen_at(live: Live, peer: Peer) -> Endpoint | None:
    """Return where WireGuard had a peer when it was asked last."""
    states = live.last_seen.peers if live.last_seen else ()
    return next((state.endpoint for state in states if state.public_key == peer.public_key), None)


async def _handshake_s(context: Context, live: Live, peer: Peer) -> float | None:
    try:
        peers = (await device.recent(context, live, READ_AGAIN_S)).peers
    except WgsvcError:
        return time.time()  # nobody knows: later
    for state in peers:
        if state.public_key == peer.public_key:
            return state.last_handshake_s
    return None


async def _state_of(context: Context, live: Live, peer: Peer) -> Endpoint | None:
    """Return where WireGuard has a peer now."""
    try:
        await device.recent(context, live, READ_AGAIN_S)
    except WgsvcError:
        return None
    return _seen_at(live, peer)
