"""
Greeting: beginning a handshake with the peers of a WireGuard that has just been set.

It has no sessions, but a peer may still go on with one of its predecessor's: a peer that only
answers hears nothing then, and tries a new handshake after 15 s. So this side begins one.

The means is PersistentKeepalive: switched on, WireGuard sends a keepalive at once, and without a
session that begins a handshake. Off again in the same request, nobody ever sees it on. Nothing is
begun less than 5 s after the last attempt (REKEY_TIMEOUT), unless the peer is new to WireGuard.
(wireguard-go: device/uapi.go, device/send.go; if_wg.c: wg_timers_set_persistent_keepalive;
Linux: drivers/net/wireguard/netlink.c, set_peer.)
"""

from __future__ import annotations

import time

from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.start import host_prefix
from wgsvc.supervise import device
from wgsvc.supervise.context import log
from wgsvc.supervise.live import SESSION_S
from wgsvc.uapi.encode import PeerChange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wgsvc.config.model import Tunnel
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live
    from wgsvc.uapi.parse import PeerState
    from wgsvc.values import Endpoint

AT_ONCE = 8
"""How many are greeted by the request that sets the device: a start waits 0.2 ms for each."""

BATCH, PAUSE_S = 100, 0.5
"""The others: 200 a second. WireGuard asks for cookies once 128 handshakes wait for it."""

UNANSWERED, TRIES_S, SILENT_S = 1000, 95.0, 5.0
"""WireGuard tries with a silent peer every 5 s for 90 s: with so many, 200 times a second."""

LOOK_S = 60.0
LOOK_TIMEOUT_S = 1.0
ON_S = 25  # the interval while it is on


def turned(key: bytes, keepalive_s: int) -> tuple[PeerChange, PeerChange]:
    """Return what begins a handshake with a peer and leaves its keepalive as it is."""
    other_s = 0 if keepalive_s else ON_S
    return (
        PeerChange(key, update_only=True, keepalive_s=other_s),
        PeerChange(key, update_only=True, keepalive_s=keepalive_s),
    )


async def fill(context: Context, live: Live, tunnel: Tunnel) -> None:
    """
    Give an empty device everything of a tunnel, and greet the first of its peers.

    Raises: WgsvcError.
    """
    change = device.whole(live, tunnel)
    greetings = first(context, live, change.peers)
    if live.backend == "kernel":
        await device.configure(context, live, change)
        try:
            await device.turn(context, live, greetings)
        except WgsvcError as error:  # no reason for a start to fail
            log(f"{live.name}: greeting: {error.message}", error=True)
    else:
        await device.configure(context, live, change._replace(peers=(*change.peers, *greetings)))
    live.is_set = True


def first(context: Context, live: Live, peers: Sequence[PeerChange]) -> tuple[PeerChange, ...]:
    """
    Return what greets the first peers of a device that is about to be set.

    A peer with a keepalive needs no greeting: setting it begins a handshake. Those that had a
    session come first. The others wait in `live.ungreeted` for `go_on`.
    """
    live.ungreeted, live.greeted = (), {}
    if context.settings.greet == "off":
        return ()
    since = {key: state.last_handshake_s for key, state in live.sessions().items()}
    known = [peer for peer in peers if peer.endpoint is not None and not peer.keepalive_s]
    known.sort(key=lambda peer: -since.get(peer.public_key, 0.0))
    now = [peer.public_key for peer in known[:AT_ONCE] if _way(context, live, peer.endpoint)]
    live.greeted = dict.fromkeys(now, time.monotonic())
    live.ungreeted = tuple(peer.public_key for peer in known if peer.public_key not in live.greeted)
    live.greet_until_mono = time.monotonic() + SESSION_S
    return tuple(change for key in now for change in turned(key, 0))


def go_on(context: Context, live: Live) -> None:
    """
    Greet the others in the background: once the tunnel is up, and when the network has changed.

    Not before `PostUp` is done, which may set a keepalive itself.
    """
    if live.ungreeted and (live.greeting is None or live.greeting.done):
        live.greeting = context.loop.spawn(_others(context, live))


async def _others(context: Context, live: Live) -> None:
    daemon = live.daemon
    keys, live.ungreeted = list(live.ungreeted), ()
    while keys and live.daemon is daemon and device.answers(live) and not live.leaving:
        if time.monotonic() > live.greet_until_mono:
            return
        pause_s = 0.0
        try:
            states = {state.public_key: state for state in (await device.get(context, live)).peers}
            if _unanswered(live, states) <= UNANSWERED - BATCH:
                if await _some(context, live, [states.get(key) for key in keys[:BATCH]]):
                    pause_s = PAUSE_S
                del keys[:BATCH]
            else:
                pause_s = SILENT_S
        except WgsvcError as error:
            if device.answers(live) and not live.leaving:
                log(f"{live.name}: greeting: {error.message}", error=True)
            return
        if keys:
            await context.loop.sleep(pause_s)


def _unanswered(live: Live, states: Mapping[bytes, PeerState]) -> int:
    """Return with how many peers WireGuard still tries to shake hands."""
    since_mono = time.monotonic() - TRIES_S
    return sum(
        tried_mono > since_mono and key in states and not states[key].last_handshake_s
        for key, tried_mono in live.greeted.items()
    )


async def _some(context: Context, live: Live, states: Sequence[PeerState | None]) -> bool:
    """
    Greet peers that are still there and have not shaken hands; return whether there were any.

    Those without a way are kept. Raises: WgsvcError.
    """
    changes: list[PeerChange] = []
    for state in states:
        if state is None or state.endpoint is None or state.last_handshake_s:
            continue
        if _way(context, live, state.endpoint):
            live.greeted[state.public_key] = time.monotonic()
            changes += turned(state.public_key, state.keepalive_s)
        else:
            live.ungreeted += (state.public_key,)
    if changes:
        await device.turn(context, live, changes)
    return bool(changes)


def _way(context: Context, live: Live, endpoint: Endpoint | None) -> bool:
    """Whether there is a way to an endpoint now. An attempt without one blocks others for 5 s."""
    host = host_prefix(endpoint.host) if endpoint is not None else None
    if host is None or (endpoint is not None and "%" in endpoint.host):
        return True  # a scope is not asked for
    try:
        return context.system.path_mtu(host, mark=live.mark, not_by=live.ifindex) is not None
    except WgsvcError:
        return True  # WireGuard finds out


def new_address(
    context: Context, live: Live, key: bytes, endpoint: Endpoint
) -> tuple[PeerChange, ...]:
    """
    Return what sets the endpoint of a peer, and begins a handshake if there was none yet.

    WireGuard may just have tried one with nobody. Only a peer that is new to it is tried
    at once, so it is taken away and comes back as it was, in one request.
    """
    seen = live.last_seen.peers if live.last_seen is not None else ()
    state = next((state for state in seen if state.public_key == key), None)
    if context.settings.greet == "off" or state is None or state.last_handshake_s:
        return (PeerChange(key, update_only=True, endpoint=endpoint),)
    again = PeerChange(
        key,
        preshared_key=state.preshared_key,
        endpoint=endpoint,
        keepalive_s=state.keepalive_s,
        replace_allowed_ips=True,
        allowed_ips=state.allowed_ips,
    )
    return (PeerChange(key, remove=True), again, *turned(key, state.keepalive_s))


async def look(context: Context, live: Live) -> None:
    """See once more where the peers are, for a WireGuard that comes after this one."""
    if context.settings.greet == "off" or not device.answers(live):
        return
    try:
        await device.get(context, live, timeout_s=LOOK_TIMEOUT_S)
    except WgsvcError as error:
        log(f"{live.name}: where its peers are is not known: {error.message}", error=True)


async def watch(context: Context, live: Live) -> None:
    """
    See every minute where peers are whose endpoint the file leaves open.

    After a crash nothing else tells. Tunnels without such peers cause no wake-ups.
    """
    open_ended = any(peer.endpoint is None for peer in live.tunnel.peers)
    if not open_ended or live.backend != "wireguard-go" or context.settings.greet == "off":
        return
    while True:
        await context.loop.sleep(LOOK_S)
        await look(context, live)
