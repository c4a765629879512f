"""Taking a tunnel down: bounded, from what was recorded and what the kernel shows."""

from __future__ import annotations

import contextlib
import os

from wgsvc.config.model import Tunnel
from wgsvc.errors import WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan import steps
from wgsvc.plan.start import Facts, hook_steps
from wgsvc.supervise import journal
from wgsvc.supervise.perform import give_table_back, perform
from wgsvc.uapi.transport import socket_path

SAVE_TIMEOUT_S = 2.0  # a wireguard-go that hangs must not hold up a stop much

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context, Say, Timings
    from wgsvc.supervise.live import Live


async def take_down(
    context: Context, live: Live, say: Say, timings: Timings, *, reason: str = "stop"
) -> list[WgsvcError]:
    """
    Undo a start. Nothing stops it: every failure is noted, returned, and passed by.

    What runs is saved first, if the file asks for that. Then PreDown, DNS, pinned routes, our
    tun descriptor, wireguard-go by PID, the interface if it is still there, PostDown. The
    kernel takes addresses and routes with the interface.
    """
    errors: list[WgsvcError] = []
    live.leaving = True

    async def attempt(step: steps.Step, phase: str) -> None:
        with timings.phase(phase):
            try:
                await perform(context, live, step, say, reason)
            except WgsvcError as error:
                errors.append(error)

    facts = Facts(hooks=context.settings.hooks == "on")
    with contextlib.suppress(WgsvcError):  # a full disk must not keep a tunnel up
        live.record(context, "stopping")
    with timings.phase("save"):
        errors += await _save(context, live, say, reason)
    for hook in hook_steps(live.tunnel, "PreDown", facts):
        await attempt(hook, "hooks")
    if live.dns:
        await attempt(steps.UnsetDns(live.name), "dns")
    for step in _route_steps(live):
        await attempt(step, "routes")
    if live.daemon is not None:
        await attempt(steps.StopDaemon(live.name), "wireguard-go")
    if live.ifindex:
        await attempt(steps.Destroy(live.name), "interface")
    errors += give_table_back(context, live)
    errors += await _remove_abandoned(context, live.name)
    _remove_stale_socket(context, live)
    for hook in hook_steps(live.tunnel, "PostDown", facts):
        await attempt(hook, "hooks")
    if not _may_be_ours(context, live):
        journal.remove(context.settings.run_dir, live.name)
    return errors


def _route_steps(live: Live) -> list[steps.Step]:
    """Return what of the routing does not go with the interface."""
    todo: list[steps.Step] = []
    if live.ruled:
        versions = tuple(pair.version for pair in live.ruled)
        todo.append(steps.DeleteRules(live.name, live.full_table, versions))
    if live.filtered:
        todo.append(steps.UnsetFirewall(live.name, live.filtered))
    if live.pins:
        todo.append(steps.DeleteRoutes(live.name, tuple(live.pins.values())))
    return todo


async def _save(context: Context, live: Live, say: Say, reason: str) -> list[WgsvcError]:
    """SaveConfig = true: while everything is still there."""
    if not live.tunnel.save_config or reason != "stop":
        return []
    from wgsvc.supervise.save import write

    try:
        await write(context, live, say, timeout_s=SAVE_TIMEOUT_S)
    except WgsvcError as error:
        return [error]
    return []


async def _remove_abandoned(context: Context, name: str) -> list[WgsvcError]:
    """Remove what a killed supervisor had half-made, or half-removed, under another name."""
    from wgsvc.supervise import destroy

    errors: list[WgsvcError] = []
    try:
        for left in context.system.abandoned(name):
            await destroy.gone(context, left.name, left.ifindex)
    except WgsvcError as error:
        errors.append(error)
    return errors


def _remove_stale_socket(context: Context, live: Live) -> None:
    """After SIGKILL the socket stays; without a tun of the name nobody can be behind it."""
    found = context.system.interface(live.name)
    if found is None or found.kind != "tun":
        with contextlib.suppress(OSError):
            os.unlink(socket_path(context.settings.uapi_dir, live.name))


def _may_be_ours(context: Context, live: Live) -> bool:
    """Whether there still is an interface of the name that may be the one taken down."""
    found = context.system.interface(live.name)
    if found is None or found.kind not in ("tun", "wireguard"):
        return False
    return not live.ifindex or found.ifindex == live.ifindex


def recorded_tunnel(entry: journal.Entry) -> Tunnel:
    """Return as much of a tunnel as taking it down needs, from its journal."""
    return Tunnel(
        name=entry.name,
        table=entry.table,
        hooks=entry.hooks,
        path=entry.path,
        digest=entry.digest,
    )
