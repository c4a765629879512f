"""What `status` tells: each tunnel as it is now, read from WireGuard and the kernel."""

from __future__ import annotations

import os

from wgsvc import __version__
from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.order import natural
from wgsvc.plan.drift import savable, words
from wgsvc.report import snapshot
from wgsvc.supervise import device
from wgsvc.supervise.reload import drift

STATUS_TIMEOUT_S = 2.0

if TYPE_CHECKING:
    from wgsvc.supervise.daemon import Daemon
    from wgsvc.supervise.live import Live
    from wgsvc.supervise.tunnel import Tunnel


async def status(daemon: Daemon, names: list[str]) -> dict[str, Any]:
    """Return the snapshot of all tunnels, or of those named."""
    wanted = names or sorted(daemon.tunnels, key=natural)
    tables = []
    for name in wanted:
        tunnel = daemon.tunnels.get(name)
        tables.append(down_table(name) if tunnel is None else await tunnel_table(daemon, tunnel))
    return {
        "schema": snapshot.SCHEMA,
        "supervisor": {"pid": os.getpid(), "since": daemon.since, "version": __version__},
        "tunnels": tables,
    }


def down_table(name: str) -> dict[str, Any]:
    """Return the data of a tunnel that is not there."""
    return {
        "name": name,
        "state": "down",
        "reason": "",
        "since": None,
        "children": [],
        "addresses": [],
        "drift": False,
        **snapshot.device_table(None, {}),
    }


async def tunnel_table(daemon: Daemon, tunnel: Tunnel) -> dict[str, Any]:
    """Return the data of one tunnel, read from WireGuard and the kernel now."""
    table = down_table(tunnel.name)
    table |= {"state": tunnel.state, "reason": tunnel.reason}
    live = tunnel.live
    if live is None:
        return table
    found = daemon.context.system.interface(tunnel.name)
    table |= {
        "since": live.since,
        "backend": live.backend,
        "ifindex": live.ifindex,
        "mtu": found.mtu if found else None,
        "addresses": [str(address) for address in found.addresses] if found else [],
        "config": live.tunnel.path,
        "children": children(daemon, tunnel),
        "deaths": len(tunnel.deaths),
    }
    if device.answers(live):
        try:
            await device.get(daemon.context, live, timeout_s=STATUS_TIMEOUT_S)
        except WgsvcError as error:
            table |= {"degraded": True, "reason": f"unresponsive: {error.message}"}
            tunnel.suspect()
    known = {
        peer.public_key: (peer.name, str(peer.endpoint) if peer.endpoint else None)
        for peer in live.tunnel.peers
    }
    if tunnel.state == "up" and not table.get("degraded"):
        table |= waiting_table(live) or drift_table(daemon, live)
    table |= snapshot.device_table(live.last_seen, known)
    states = live.last_seen.peers if live.last_seen else ()
    for peer, state in zip(table["peers"], states, strict=True):
        peer["unresolved_since"] = live.unresolved.get(state.public_key)
    return table


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
        found.append({"role": "wireguard-go", "pid": live.daemon.pid, "adopted": adopted})
    monitor = daemon.monitor.child
    if monitor is not None:
        found.append({"role": monitor.role, "pid": monitor.pid, "adopted": False})
    return found
