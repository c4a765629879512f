"""What the daemon does for each verb of the control socket."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from wgsvc import __version__
from wgsvc.errors import WgsvcError
from wgsvc.loop import Future
from wgsvc.report import snapshot
from wgsvc.supervise import wireguard_go
from wgsvc.supervise.context import Timings
from wgsvc.supervise.control import error_table
from wgsvc.supervise.tunnel import Request

STATUS_TIMEOUT_S = 2.0

if TYPE_CHECKING:
    from wgsvc.config.model import Checked
    from wgsvc.supervise.control import Caller
    from wgsvc.supervise.daemon import Daemon
    from wgsvc.supervise.tunnel import Tunnel


async def answer(
    daemon: Daemon,
    verb: str,
    names: list[str],
    options: dict[str, Any],  # noqa: ARG001 - start --wait
    caller: Caller,
) -> dict[str, Any]:
    """Return the closing answer to one request."""
    if verb == "status":
        return await status(daemon, names)
    if verb == "retire":
        daemon.retiring = True
        return {"pid": os.getpid()}
    pending = {name: _begin(daemon, verb, name, caller) for name in dict.fromkeys(names)}
    results = []
    for name, begun in pending.items():
        results.append(await _result(name, begun))
    return {"results": results}


class _Begun:
    """A request to one tunnel that is under way, or was refused for its file."""

    def __init__(self, checked: Checked | None, request: Request | None) -> None:
        self.checked = checked
        self.request = request


def _begin(daemon: Daemon, verb: str, name: str, caller: Caller) -> _Begun:
    """Let all tunnels of a request begin before any is waited for."""
    checked = None
    interface = os.path.basename(name).removesuffix(".conf") if "/" in name else name
    file = None
    if verb in ("start", "restart", "reload"):
        file = daemon.checked.pop(interface, None)
        if file is None:
            from wgsvc.files import load

            checked = load(name, daemon.settings)
            file = checked.tunnel
            if checked.errors or file is None:
                return _Begun(checked, None)
    tunnel = daemon.tunnel(interface)
    prefix = f"{interface}: " if verb == "status" else ""

    def say(line: str) -> None:
        caller.say(f"{prefix}{line}")

    outcome: Future[str] = Future(daemon.loop)
    request = Request(outcome, say, Timings(), file)
    if verb == "restart":
        stopped: Future[str] = Future(daemon.loop)
        tunnel.post("STOP", request._replace(outcome=stopped))
        tunnel.post("START", request)
    else:
        tunnel.post({"start": "START", "stop": "STOP", "reload": "RELOAD"}[verb], request)  # type: ignore[arg-type]
    return _Begun(checked, request)


async def _result(name: str, begun: _Begun) -> dict[str, Any]:
    result: dict[str, Any] = {"name": name}
    if begun.checked is not None:
        result["diagnostics"] = [found._asdict() for found in begun.checked.diagnostics]
    if begun.request is None:
        return {**result, "outcome": "refused", "exit_code": 78}
    try:
        result["outcome"] = await begun.request.outcome
        result["exit_code"] = 0
    except WgsvcError as error:
        result |= {"outcome": "failed", "error": error_table(error), "exit_code": error.exit_code}
    result["timings"] = {
        phase: round(took_ms, 3) for phase, took_ms in begun.request.timings.phases.items()
    }
    return result


async def status(daemon: Daemon, names: list[str]) -> dict[str, Any]:
    """Return the snapshot of all tunnels, or of those named."""
    wanted = names or sorted(daemon.tunnels)
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
        **snapshot.device_table(None, {}),
    }


async def tunnel_table(daemon: Daemon, tunnel: Tunnel) -> dict[str, Any]:
    """Return the data of one tunnel, read from wireguard-go and the kernel now."""
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
    if live.daemon is not None and not live.daemon.exited.done:
        try:
            live.last_seen = await wireguard_go.get(
                daemon.context, tunnel.name, timeout_s=STATUS_TIMEOUT_S
            )
        except WgsvcError as error:
            table |= {"degraded": True, "reason": f"unresponsive: {error.message}"}
            tunnel.suspect()
    known = {
        peer.public_key: (peer.name, str(peer.endpoint) if peer.endpoint else None)
        for peer in live.tunnel.peers
    }
    table |= snapshot.device_table(live.last_seen, known)
    states = live.last_seen.peers if live.last_seen else ()
    for peer, state in zip(table["peers"], states, strict=True):
        peer["unresolved_since"] = live.unresolved.get(state.public_key)
    return table


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
