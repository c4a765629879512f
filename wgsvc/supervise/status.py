"""What `status` tells: each tunnel as it is now, read from WireGuard and the kernel."""

from __future__ import annotations

import os
from collections import deque

from wgsvc import __version__
from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.order import natural
from wgsvc.plan.drift import savable, words
from wgsvc.report import snapshot
from wgsvc.supervise import device
from wgsvc.supervise.reload import drift

STATUS_TIMEOUT_S = 2.0
AT_A_TIME = 16  # each takes a descriptor, and a wireguard-go that hangs its whole time

if TYPE_CHECKING:
    from wgsvc.supervise.daemon import Daemon
    from wgsvc.supervise.live import Live
    from wgsvc.supervise.tunnel import Tunnel


async def status(daemon: Daemon, names: list[str]) -> dict[str, Any]:
    """Return the snapshot of all tunnels, or of those named, some of them read at a time."""
    wanted = names or sorted([*daemon.tunnels, *daemon.left()], key=natural)
    tables: dict[str, dict[str, Any]] = {}
    todo = deque(dict.fromkeys(wanted))

    async def read() -> None:
        while todo:
            name = todo.popleft()
            tables[name] = await _table(daemon, name)

    for task in [daemon.loop.spawn(read()) for _ in range(min(len(todo), AT_A_TIME))]:
        await task
    return {
        "schema": snapshot.SCHEMA,
        "supervisor": {"pid": os.getpid(), "since": daemon.since, "version": __version__},
        "tunnels": [tables[name] for name in wanted],
    }


async def _table(daemon: Daemon, name: str) -> dict[str, Any]:
    tunnel = daemon.tunnels.get(name)
    if tunnel is not None:
        return await tunnel_table(daemon, tunnel)
    from wgsvc.supervise import unsupervised

    return await unsupervised.table(daemon.loop, daemon.context.system, daemon.settings, name)


async def tunnel_table(daemon: Daemon, tunnel: Tunnel) -> dict[str, Any]:
    """Return the data of one tunnel, read from WireGuard and the kernel now."""
    known: dict[str, Any] = {"state": tunnel.state, "reason": tunnel.reason}
    live = tunnel.live
    if live is None:
        return snapshot.tunnel_table(tunnel.name, **known)
    found = daemon.context.system.interface(tunnel.name)
    known |= {
        "since": live.since,
        "backend": live.backend,
        "ifindex": live.ifindex or None,
        "mtu": found.mtu if found else None,
        "addresses": [str(address) for address in found.addresses] if found else [],
        "config": live.tunnel.path or None,
        "children": children(daemon, tunnel),
        "deaths": len(tunnel.deaths),
    }
    if device.answers(live):
        try:
            await device.get(daemon.context, live, timeout_s=STATUS_TIMEOUT_S)
        except WgsvcError as error:
            known |= {"degraded": True, "reason": f"unresponsive: {error.message}"}
            tunnel.suspect()
    if tunnel.state == "up" and not known.get("degraded"):
        known |= waiting_table(live) or drift_table(daemon, live)
    peers = snapshot.known_peers(live.tunnel.peers)
    known |= snapshot.device_table(live.last_seen, peers, live.unresolved)
    return snapshot.tunnel_table(tunnel.name, **known)


def waiting_table(live: Live) -> dict[str, Any]:
    """Return what waits for the address of an endpoint's name."""
    if not live.held and not live.held_dns:
        return {}
    from wgsvc.supervise.endpoints import waiting_for

    names = waiting_for(live)
    what = [str(prefix) for prefix in sorted(live.held) if prefix in live.wanted_prefixes()]
    told = f"routes {', '.join(what[:4])}" if what else ""
    told += " and DNS" if told and live.held_dns else "DNS" if live.held_dns else ""
    return {
        "degraded": True,
        "waiting_for": names,
        "reason": f"waiting for the address of {', '.join(names)}: {told} held back "
        f"(does the name resolve? getent ahosts {names[0] if names else 'NAME'})",
    }


def drift_table(daemon: Daemon, live: Live) -> dict[str, Any]:
    """Return what of `live.last_seen` and the kernel is no longer as it was applied."""
    try:
        found = drift(daemon.context, live)
    except WgsvcError as error:
        return {"degraded": True, "reason": error.message}
    told = words(found)
    if not told:
        return {}
    cure = f"wgsvc reload {live.name} puts it right"
    if savable(found):
        cure += f", wgsvc save {live.name} keeps it"
    return {"drift": True, "degraded": True, "reason": f"drift: {told} ({cure})"}


def children(daemon: Daemon, tunnel: Tunnel) -> list[dict[str, Any]]:
    """Return the processes that serve a tunnel; the route monitor serves all."""
    found: list[dict[str, Any]] = []
    live = tunnel.live
    if live is not None and live.daemon is not None and not live.daemon.exited.done:
        adopted = live.daemon.adopted_watch >= 0
        found.append(snapshot.child_table("wireguard-go", live.daemon.pid, adopted=adopted))
    monitor = daemon.monitor.child
    if monitor is not None:
        found.append(snapshot.child_table(monitor.role, monitor.pid))
    return found
