"""What the daemon does for each verb of the control socket."""

from __future__ import annotations

import os
import time

from wgsvc.errors import BusyError, TimeoutExpiredError, WgsvcError
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.loop import Future
from wgsvc.order import natural
from wgsvc.supervise.client import interface_of
from wgsvc.supervise.context import Say, Timings, log
from wgsvc.supervise.control import error_table
from wgsvc.supervise.tunnel import Request

HANDSHAKE_POLL_S = 0.05
SETTLE_TIMEOUT_S = 60.0
SETTLING = ("start", "restart", "reload", "save")
"""Verbs whose settings hold from then on; those of any other request are its own, or none."""

EVENTS: dict[str, Event] = {"start": "START", "stop": "STOP", "reload": "RELOAD", "save": "SAVE"}

if TYPE_CHECKING:
    from wgsvc.config.model import Checked
    from wgsvc.settings import Settings
    from wgsvc.supervise.control import Caller
    from wgsvc.supervise.daemon import Daemon
    from wgsvc.supervise.states import Event


async def answer(
    daemon: Daemon,
    verb: str,
    names: list[str],
    options: dict[str, Any],
    caller: Caller,
) -> dict[str, Any]:
    """Return the closing answer to one request."""
    if verb == "plan":
        settings = daemon.settings_with(options)
        return {"plans": [await plan(daemon, name, settings) for name in names]}
    if verb == "status":
        from wgsvc.supervise.status import status  # no start waits for it

        return await status(daemon, names)
    if verb == "names":
        return {"names": sorted(daemon.tunnels, key=natural), "left": daemon.left()}
    if verb == "retire":
        await _settled(daemon)
        if caller.hung_up():  # then nobody is going to take this one's place
            raise BusyError("whoever wanted to take the place of this supervisor has gone")
        daemon.retiring = True
        log(f"a new supervisor is to take the place of this one ({caller.who})")
        return {"pid": os.getpid()}
    if verb in SETTLING:
        daemon.settle(options)
    several = len(names) > 1
    pending = {
        name: _begin(daemon, verb, name, caller.say, str(caller.who), several=several)
        for name in dict.fromkeys(names)
    }
    results = []
    for name, begun in pending.items():
        result = await _result(name, begun)
        if verb in ("reload", "save") and result["outcome"] != "refused":
            outcome = f"{interface_of(name)}: {verb}: {result['outcome']} ({caller.who})"
            log(outcome, error=result["exit_code"] != 0)
        if options.get("wait") == "handshake" and result["exit_code"] == 0:
            result |= await _handshake(daemon, name, float(options.get("timeout_s", 30.0)))
        results.append(result)
    return {"results": results}


class _Begun:
    """A request to one tunnel that is under way, or was refused for its file."""

    def __init__(self, checked: Checked | None, request: Request | None) -> None:
        self.checked = checked
        self.request = request


async def _settled(daemon: Daemon) -> None:
    """Wait until no tunnel is half way up or down: the next daemon can only adopt whole ones."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while any(tunnel.state not in ("up", "failed") for tunnel in daemon.tunnels.values()):
        if time.monotonic() > deadline:
            raise BusyError("some tunnel is still being started or stopped", cure="wgsvc status")
        await daemon.loop.sleep(HANDSHAKE_POLL_S)


async def reload_all(daemon: Daemon) -> None:
    """Reload every tunnel, for SIGHUP: what there is to say goes to syslog."""
    names = [name for name, tunnel in daemon.tunnels.items() if tunnel.state == "up"]
    pending = [(n, _begin(daemon, "reload", n, log, "SIGHUP", several=True)) for n in names]
    for name, begun in pending:
        result = await _result(name, begun)
        if result["outcome"] != "refused":  # that was told as it was
            log(f"{name}: reload: {result['outcome']} (SIGHUP)", error=result["exit_code"] != 0)


def _begin(daemon: Daemon, verb: str, name: str, tell: Say, who: str, *, several: bool) -> _Begun:
    """Let all tunnels of a request begin before any is waited for; `who` is for the log."""
    interface = interface_of(name)
    checked = file = None
    if verb in ("start", "restart", "reload"):
        file = daemon.checked.pop(interface, None)
        if file is None:
            checked = _load(daemon, name, daemon.settings)
            file = checked.tunnel
            if checked.errors or file is None:
                from wgsvc.supervise import refusal  # paid for a mistake only

                for line in refusal.lines(verb, name, checked, daemon.settings, who):
                    log(line, error=True)
                return _Begun(checked, None)
    prefix = f"{interface}: " if several else ""

    def say(line: str) -> None:
        tell(f"{prefix}{line}")

    if verb in ("stop", "restart"):
        log(f"{interface}: {verb} ({who})")
    request = Request(Future(daemon.loop), say, Timings(), file)
    tunnel = daemon.tunnel(interface)
    if verb in ("start", "restart"):
        tunnel.source = name
    if verb == "restart":
        tunnel.post("STOP", request._replace(outcome=Future(daemon.loop)))
        tunnel.post("START", request)
    else:
        tunnel.post(EVENTS[verb], request)
    daemon.changed(tunnel)  # it is forgotten if it stays down
    return _Begun(checked, request)


def _load(daemon: Daemon, name: str, settings: Settings) -> Checked:
    from wgsvc.files import load

    tunnel = daemon.tunnels.get(interface_of(name))
    if tunnel is None or tunnel.live is None:
        return load(name, settings)
    return load(name if "/" in name else tunnel.source, settings, known=tunnel.live.tunnel)


async def plan(daemon: Daemon, name: str, settings: Settings) -> dict[str, Any]:
    """
    Return the lines of what a reload of a running tunnel does; None of one that is not.

    With an `error` in their place if it can't be done, or known. `state` is that of a tunnel that
    this supervisor has, None of any other.
    """
    from wgsvc.plan.changes import hooks, lines
    from wgsvc.supervise.reload import compare

    tunnel = daemon.tunnels.get(interface_of(name))
    if tunnel is None or tunnel.live is None or tunnel.state != "up":
        return {"name": name, "lines": None, "state": tunnel.state if tunnel else None}
    checked = _load(daemon, name, settings)
    if checked.tunnel is None or checked.errors:
        return {"name": name, "lines": None, "state": tunnel.state}
    try:
        found = await compare(daemon.context, tunnel.live, checked.tunnel)
    except WgsvcError as error:
        return {"name": name, "lines": None, "state": "up", "error": error_table(error)}
    told = list(lines(found, tunnel.name, daemon.context.system.name))
    if settings.hooks == "on":
        told += [f"# {line}" for line in hooks(found)]
    return {"name": name, "lines": told, "state": "up"}


async def _handshake(daemon: Daemon, name: str, timeout_s: float) -> dict[str, Any]:
    """Wait until some peer has shaken hands; return what that adds to the result."""
    from wgsvc.supervise import device

    deadline = time.monotonic() + timeout_s
    while True:
        tunnel = daemon.tunnels.get(interface_of(name))
        try:
            if tunnel is None or tunnel.live is None or tunnel.state != "up":
                raise WgsvcError(f"{name} went down while its handshake was waited for")
            state = await device.get(daemon.context, tunnel.live)
            if any(peer.last_handshake_s for peer in state.peers):
                return {}
            if time.monotonic() > deadline:
                raise TimeoutExpiredError(
                    f"{name} is up, but no peer has shaken hands within {timeout_s:g} s",
                    cure="PersistentKeepalive makes this side begin; wgsvc -v status shows more",
                )
        except WgsvcError as error:
            table = error_table(error)
            return {"outcome": "failed", "error": table, "exit_code": error.exit_code}
        await daemon.loop.sleep(HANDSHAKE_POLL_S)


async def _result(name: str, begun: _Begun) -> dict[str, Any]:
    result: dict[str, Any] = {"name": name}
    if begun.checked is not None:
        result["diagnostics"] = [found._asdict() for found in begun.checked.diagnostics]
    if begun.checked is not None and begun.request is None:
        return {**result, "outcome": "refused", "exit_code": begun.checked.exit_code}
    assert begun.request is not None  # noqa: S101 - it is under way, or the file was refused
    try:
        result["outcome"] = await begun.request.outcome
        result["exit_code"] = 0
    except WgsvcError as error:
        result |= {"outcome": "failed", "error": error_table(error), "exit_code": error.exit_code}
    result["timings"] = {
        phase: round(took_ms, 3) for phase, took_ms in begun.request.timings.phases.items()
    }
    return result
