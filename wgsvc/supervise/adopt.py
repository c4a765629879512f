"""
Taking over tunnels whose supervisor died.

Who runs a tunnel is what its socket's peer credentials say; that this is still the
process of the journal is what the start time says. Both must fit.
"""

from __future__ import annotations

import contextlib
import os
import time

from wgsvc.config.model import TABLE_OFF, Peer, Tunnel
from wgsvc.errors import OSFailureError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.routes import halves, left_out
from wgsvc.plan.start import host_prefix
from wgsvc.supervise import device, endpoints, journal, wireguard_go
from wgsvc.supervise.context import log
from wgsvc.supervise.live import Live
from wgsvc.supervise.observe import observed, take_for_applied
from wgsvc.supervise.wireguard_go import Daemon
from wgsvc.system.base import Tun
from wgsvc.uapi.transport import connect, socket_path
from wgsvc.values import BITS, Prefix

if TYPE_CHECKING:
    from wgsvc.plan.reload import Observed
    from wgsvc.supervise.context import Context
    from wgsvc.uapi.parse import DeviceState


ANSWER_TIMEOUT_S = 2.0  # whoever asked for the new supervisor waits for all tunnels


def alive(context: Context, name: str) -> int | None:
    """Return the PID of who serves a tunnel's socket, None if nobody does."""
    try:
        connection = connect(socket_path(context.settings.uapi_dir, name))
    except OSFailureError:
        return None
    try:
        return context.system.peer_pid(connection)
    finally:
        connection.close()


def proven(context: Context, pid: int, start_id: str) -> Daemon | None:
    """Return a process that is not our child, if it is still the one of `start_id`."""
    if pid <= 1 or not start_id:
        return None
    try:
        watch = context.system.exit_watch(pid)
    except ProcessLookupError:
        return None
    if context.system.start_id(pid) != start_id:
        os.close(watch)
        return None
    daemon = Daemon(pid, start_id, context.loop.future(), adopted_watch=watch)
    context.loop.spawn(_follow(context, daemon))
    return daemon


async def _follow(context: Context, daemon: Daemon) -> None:
    await context.loop.readable(daemon.adopted_watch)
    daemon.exited.set(-1)
    os.close(daemon.adopted_watch)


async def adopt(context: Context, entry: journal.Entry, file: Tunnel | None) -> Live | None:
    """
    Take over the tunnel of a journal entry; None if it can't be proven to be that one.

    `file` is today's file if it still is the one that was applied (same digest). Without
    it the tunnel is what the kernel and wireguard-go show.
    """
    found = context.system.interface(entry.name)
    if entry.phase != "up" or found is None or found.ifindex != entry.ifindex:
        return None
    live = Live(file or Tunnel(entry.name), entry.backend)
    if entry.backend == "wireguard-go":
        if alive(context, entry.name) != entry.pid:
            return None
        live.daemon = proven(context, entry.pid, entry.start_id)
        if live.daemon is None:
            return None
        fd = context.system.take_tun(entry.pid, entry.name)
        if fd is not None:
            live.tun = Tun(fd, entry.name, entry.ifindex, entry.kernel_name)
    live.ifindex, live.kernel_name, live.is_set = entry.ifindex, entry.kernel_name, True
    try:
        await device.get(context, live, timeout_s=ANSWER_TIMEOUT_S)
    except WgsvcError as error:
        log(f"{entry.name}: {entry.backend} does not answer: {error.message}", error=True)
    if file is None:
        prefixes = tuple(
            route.prefix
            for route in context.system.routes(
                ifindex=entry.ifindex, table=None if entry.table == TABLE_OFF else entry.table
            )
        )
        live.tunnel = shown_tunnel(entry, found.addresses, prefixes, live.last_seen)
    live.port = live.last_seen.listen_port if live.last_seen else 0
    live.mtu, live.dns, live.since = entry.mtu or found.mtu, entry.dns, entry.since
    live.pins = {route.prefix: route for route in entry.pins}
    live.name_servers, live.routed = entry.name_servers, True
    _adopt_full(context, live, entry)
    if live.last_seen is not None:
        with contextlib.suppress(WgsvcError):  # then what hooks did, or what waits, is drift
            _adopt_routes(live, entry, observed(context, live), file_is_known=file is not None)
    return live


async def adopt_damaged(context: Context, entry: journal.Entry, file: Tunnel | None) -> Live | None:
    """
    Take over a tunnel by what can be believed of its journal and by what the kernel shows.

    That it is ours either the interface or the process must prove, as in `entry`; all the
    rest is read anew, and written into a new journal.
    """
    found = context.system.interface(entry.name)
    if found is None:
        return None
    known = entry._replace(ifindex=found.ifindex, hooks=file.hooks if file else entry.hooks)
    if entry.backend == "wireguard-go":
        pid = alive(context, entry.name)
        if pid is None:
            return None
        start_id = context.system.start_id(pid) or ""
        if entry.ifindex != found.ifindex and (entry.pid, entry.start_id) != (pid, start_id):
            return None
        known = known._replace(pid=pid, start_id=start_id)
        if not entry.kernel_name and context.system.name == "linux":
            known = known._replace(kernel_name=entry.name)
        mark = (await wireguard_go.get(context, entry.name, timeout_s=ANSWER_TIMEOUT_S)).fwmark
        if not entry.full_table and mark and (rules := context.system.find_rules(mark)):
            known = known._replace(full_table=mark, rules=rules)
    elif entry.ifindex != found.ifindex:
        return None
    live = await adopt(context, known, file)
    if live is not None:
        try:
            live.record(context, "up")
        except WgsvcError as problem:  # a full disk must not cost a tunnel
            log(f"{entry.name}: {problem.message}", error=True)
    return live


def _adopt_routes(live: Live, entry: journal.Entry, seen: Observed, *, file_is_known: bool) -> None:
    """Tell apart why routes of the file are not there: they wait, they clash, hooks took them."""
    states = live.last_seen.peers if live.last_seen else ()
    at = [state.endpoint.host for state in states if state.endpoint]
    live.left_out = left_out(live.tunnel, [found for host in at if (found := host_prefix(host))])
    there = {state.public_key for state in states if state.endpoint}
    for peer in endpoints.named_peers(live.tunnel):
        if peer.public_key not in there:
            live.unresolved[peer.public_key] = time.time()
    held, held_dns = endpoints.held_back(live, live.tunnel)
    live.held = held - seen.routed
    wants_dns = bool(live.tunnel.dns_servers or live.tunnel.dns_search)
    live.held_dns = held_dns and wants_dns and not entry.dns
    if file_is_known and (entry.hooks.pre_up or entry.hooks.post_up):
        take_for_applied(live, seen)


def _adopt_full(context: Context, live: Live, entry: journal.Entry) -> None:
    """Take over the table and the rules of a full tunnel."""
    live.full_table, live.valid_mark = entry.full_table, entry.valid_mark
    if entry.full_table:
        live.filtered = entry.filtered
        live.ruled = entry.rules or context.system.find_rules(entry.full_table)
        context.full_tables[entry.name] = entry.full_table
        context.valid_mark = context.valid_mark or entry.valid_mark


def shown_tunnel(
    entry: journal.Entry,
    addresses: tuple[Prefix, ...],
    prefixes: tuple[Prefix, ...],
    state: DeviceState | None,
) -> Tunnel:
    """Return a tunnel as the system shows it: enough to respawn it and to take it down."""
    routed = set(prefixes)
    # Without this the halves lead to nobody, and the endpoints' pins go.
    routed.update(Prefix(v, 0, 0) for v in BITS if routed.issuperset(halves(v)))
    peers = tuple(
        Peer(
            public_key=peer.public_key,
            preshared_key=peer.preshared_key,
            endpoint=peer.endpoint,
            keepalive_s=peer.keepalive_s,
            allowed_ips=peer.allowed_ips,
            routes=tuple(prefix for prefix in peer.allowed_ips if prefix in routed),
        )
        for peer in (state.peers if state else ())
    )
    return Tunnel(
        name=entry.name,
        private_key=state.private_key if state else None,
        listen_port=state.listen_port if state else None,
        fwmark=state.fwmark or None if state else None,
        addresses=addresses,
        mtu=entry.mtu or None,
        table=entry.table,
        hooks=entry.hooks,
        peers=peers,
        path=entry.path,
        digest=entry.digest,
    )
