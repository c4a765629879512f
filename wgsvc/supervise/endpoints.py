"""
Endpoints that are names: resolved beside the running tunnel, one child a name.

getaddrinfo(3) blocks as long as it likes; a child may. A peer whose name is unknown holds up
nobody: neither start, nor the other peers.
"""

from __future__ import annotations

import os
import signal
import socket
import time

from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.start import host_prefix
from wgsvc.supervise import device, network
from wgsvc.supervise.context import log
from wgsvc.uapi.encode import DeviceChange, PeerChange
from wgsvc.values import Endpoint

if TYPE_CHECKING:
    from wgsvc.config.model import Peer
    from wgsvc.supervise.context import Context
    from wgsvc.supervise.live import Live

RESOLVE_TIMEOUT_S = 15.0
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 60.0
STALE_HANDSHAKE_S = 135.0
"""A peer that is talked to shakes hands every 120 s: after this its address may be wrong."""


def named_peers(live: Live) -> list[Peer]:
    """Return the peers whose endpoint is a name."""
    return [
        peer
        for peer in live.tunnel.peers
        if peer.endpoint is not None and host_prefix(peer.endpoint.host) is None
    ]


async def follow_name(context: Context, live: Live, peer: Peer) -> None:
    """
    Keep one peer's endpoint what its name says, for as long as the tunnel is.

    Again when its handshake is older than STALE_HANDSHAKE_S; IPv4 and IPv6 addresses are
    tried in turn then.
    """
    assert peer.endpoint is not None  # noqa: S101 - named_peers
    turn, delay_s = 0, FIRST_DELAY_S
    live.unresolved.setdefault(peer.public_key, time.time())
    while True:
        addresses = await resolve(context, peer.endpoint.host)
        if not addresses:
            live.unresolved.setdefault(peer.public_key, time.time())
            await context.loop.sleep(delay_s)
            delay_s = min(delay_s * 2, LONGEST_DELAY_S)
            continue
        delay_s = FIRST_DELAY_S
        await _apply(context, live, peer, addresses[turn % len(addresses)])
        await context.loop.sleep(STALE_HANDSHAKE_S)
        while not await _stale(context, live, peer):
            await context.loop.sleep(STALE_HANDSHAKE_S)
        turn += 1


async def _apply(context: Context, live: Live, peer: Peer, address: str) -> None:
    assert peer.endpoint is not None  # noqa: S101 - named_peers
    endpoint = Endpoint(address, peer.endpoint.port)
    host = host_prefix(address)
    try:
        endpoints = await network.current_endpoints(context, live)
        if live.leaving:
            return
        if host is not None:
            network.repin(context, live, (*endpoints, host))  # before its first packet
        change = PeerChange(peer.public_key, update_only=True, endpoint=endpoint)
        await device.configure(context, live, DeviceChange(peers=(change,)))
    except WgsvcError as error:
        log(f"{live.name}: endpoint {peer.endpoint.host}: {error.message}", error=True)
        return
    live.unresolved.pop(peer.public_key, None)
    live.resolved[peer.public_key] = endpoint


async def _stale(context: Context, live: Live, peer: Peer) -> bool:
    try:
        peers = (await device.get(context, live)).peers
    except WgsvcError:
        return False
    for state in peers:
        if state.public_key == peer.public_key:
            return time.time() - state.last_handshake_s > STALE_HANDSHAKE_S
    return False


async def resolve(context: Context, host: str) -> list[str]:
    """Return the addresses of a name, A and AAAA as the resolver orders them; [] if none."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)

    def run() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError):
            return
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        os.write(write_end, "\n".join(addresses).encode("ascii")[:4000])

    try:
        child = context.children.fork(run, role="resolver", keep=[write_end], outlives_us=False)
    finally:
        os.close(write_end)
    try:
        if not await child.exited.wait(RESOLVE_TIMEOUT_S):
            return []
        data = os.read(read_end, 4096)
    finally:
        child.signal(signal.SIGKILL)
        os.close(read_end)
    return [line for line in data.decode("ascii").splitlines() if host_prefix(line)]
