"""Bringing a tunnel up: all of it, or nothing."""

from __future__ import annotations

import errno
import os
import socket

from wgsvc.errors import (
    BusyError,
    NameTakenError,
    StepsFailedError,
    UnavailableError,
    WgsvcError,
    unforeseen,
)
from wgsvc.light import TYPE_CHECKING
from wgsvc.loop import CancelledError
from wgsvc.plan import steps
from wgsvc.plan.routes import full_versions, left_out, may_need_pins, tunnel_prefixes
from wgsvc.plan.start import (
    Facts,
    first_steps,
    hook_steps,
    host_prefix,
    middle_steps,
    numeric_endpoints,
)
from wgsvc.programs import find_program
from wgsvc.supervise import journal, leftovers
from wgsvc.supervise.context import log
from wgsvc.supervise.perform import PHASES, give_table_back, pass_by_each_other, perform

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.settings import Settings
    from wgsvc.supervise.context import Context, Say, Timings
    from wgsvc.supervise.live import Live
    from wgsvc.system.base import System
    from wgsvc.values import Prefix, Route


def gather_facts(system: System, settings: Settings, tunnel: Tunnel) -> Facts:
    """Return what a plan for this tunnel needs to know of the system now."""
    options = settings.per_tunnel.get(tunnel.name, {})
    full_table = 0
    if settings.full_tunnel != "halves" and system.routes_by_mark and full_versions(tunnel):
        full_table = tunnel.fwmark or system.free_table(())
    facts = Facts(
        backend=choose_backend(str(options.get("backend", settings.backend)), system),
        program=settings.wireguard_go,
        hooks=settings.hooks == "on",
        dns=settings.dns != "off",
        dns_mode=settings.dns_mode,
        full_table=full_table,
        firewall=bool(full_table) and has_firewall(settings),
    )
    return with_endpoints(system, tunnel, facts, numeric_endpoints(tunnel))


def has_firewall(settings: Settings) -> bool:
    """Return whether full tunnels get a packet filter: where there is nft(8), by default."""
    if settings.firewall == "off":
        return False
    try:
        find_program("nft")
    except UnavailableError:
        return False
    return True


def with_endpoints(
    system: System, tunnel: Tunnel, facts: Facts, endpoints: tuple[Prefix, ...]
) -> Facts:
    """Return `facts` with what depends on where the peers are."""
    routes: tuple[Route, ...] = ()
    path_mtus: tuple[int | None, ...] = ()
    if tunnel.mtu is None:
        # Some hundred ways say as much about the smallest MTU as ten thousand.
        mark = facts.full_table or tunnel.fwmark or 0
        path_mtus = tuple(system.path_mtu(endpoint, mark=mark) for endpoint in endpoints[:256])
        if not endpoints:
            ways = [system.default_route(version) for version in (4, 6)]
            path_mtus = tuple(way.mtu for way in ways if way is not None)
    prefixes = tunnel_prefixes(tunnel, whole=bool(facts.full_table))
    if tunnel.table is None and may_need_pins(prefixes, endpoints):
        routes = tuple(system.routes(table=system.default_table))
    hooks = facts.hooks and bool(tunnel.hooks.post_up)
    return facts._replace(
        endpoints=endpoints,
        path_mtus=path_mtus,
        routes=routes,
        late_pins=hooks and not system.has_metrics and not full_versions(tunnel),
    )


def choose_backend(wanted: str, system: System) -> str:
    """Return `kernel` or `wireguard-go`; `auto` is the kernel's own where there is one."""
    if wanted != "auto":
        return wanted
    return "kernel" if system.has_kernel_wireguard() else "wireguard-go"


async def bring_up(
    context: Context, live: Live, say: Say, timings: Timings, *, reason: str = "start"
) -> None:
    """
    Do every step of a start; on a failure, or a cancel, take back those that were done.

    `live` is empty but for its tunnel.

    Raises: WgsvcError; StepsFailedError if the roll-back failed too, the cause first.
    """
    tunnel = live.tunnel
    with timings.phase("checks"):
        await leftovers.clear(context, tunnel.name, say)
        facts = gather_facts(context.system, context.settings, tunnel)
        check_first(context, tunnel, facts)
        if tunnel.dns_servers or tunnel.dns_search:
            from wgsvc.supervise import dns

            facts = facts._replace(dns=dns.wanted(context.settings, tunnel))
        if facts.full_table:
            facts = _with_table(context, live, facts)
    live.backend = facts.backend
    done: list[steps.Step] = []

    async def do(todo: list[steps.Step]) -> None:
        for step in todo:
            with timings.phase(PHASES.get(type(step), "other")):
                done.append(step)
                await perform(context, live, step, say, reason)

    try:
        live.record(context, "starting")
        await do(first_steps(tunnel, facts))
        if any(peer.endpoint and host_prefix(peer.endpoint.host) is None for peer in tunnel.peers):
            with timings.phase("names"):
                facts = await _with_names(context, live, facts, say)
        live.left_out = left_out(tunnel, facts.endpoints)
        await do(middle_steps(tunnel, facts))
        with timings.phase("confirm"):
            confirm(context, live)
        await do(hook_steps(tunnel, "PostUp", facts))
        await _after_hooks(context, live, facts)
        live.record(context, "up")
    except CancelledError as cancelled:
        cancelled.errors = await context.loop.finish(roll_back(context, live, done, say))
        raise
    except Exception as failure:  # noqa: BLE001 - whatever it is, it is taken back and told
        errors = await context.loop.finish(roll_back(context, live, done, say))
        if errors:
            raise StepsFailedError([unforeseen(failure), *errors]) from None
        raise unforeseen(failure) from None


async def _after_hooks(context: Context, live: Live, facts: Facts) -> None:
    """Take what hooks did for applied, and add the pins that none of them has brought."""
    hooks = live.tunnel.hooks
    if facts.hooks and (hooks.pre_up or hooks.post_up):
        from wgsvc.supervise.observe import settle

        await settle(context, live)
    if facts.late_pins:
        from wgsvc.supervise import network

        network.repin(context, live, facts.endpoints)


def _with_table(context: Context, live: Live, facts: Facts) -> Facts:
    """Choose the routing table of a full tunnel so that no other tunnel of ours gets it."""
    taken = context.full_tables.values()
    table = live.tunnel.fwmark or context.system.free_table(taken)
    live.full_table = context.full_tables[live.name] = table
    pass_by_each_other(context)  # the first handshake comes before the rules
    return facts._replace(full_table=table)


async def _with_names(context: Context, live: Live, facts: Facts, say: Say) -> Facts:
    """Look up endpoints that are names; what waits for one that is not found is held back."""
    from wgsvc.supervise import endpoints

    tunnel = live.tunnel
    await endpoints.look_up(context, live, endpoints.named_peers(tunnel))
    known = {**live.resolved, **live.found}
    found = [at for endpoint in known.values() if (at := host_prefix(endpoint.host)) is not None]
    facts = with_endpoints(
        context.system, tunnel, facts, (*numeric_endpoints(tunnel), *dict.fromkeys(found))
    )
    live.held, hold_dns = endpoints.held_back(live, tunnel)
    live.held_dns = hold_dns and facts.dns and bool(tunnel.dns_servers or tunnel.dns_search)
    for host in endpoints.waiting_for(live):
        say(
            f"{tunnel.name}: waiting for the address of {host}; until it is known, the routes and "
            "name servers that would keep it from being found are held back"
        )
    held = frozenset(
        prefix
        for prefix in tunnel_prefixes(tunnel, whole=bool(facts.full_table))
        if prefix in live.held
    )
    return facts._replace(held=held, dns=facts.dns and not live.held_dns)


def check_first(context: Context, tunnel: Tunnel, facts: Facts) -> None:
    """
    Find what is bound to fail before anything is touched.

    Raises: NameTakenError, UnavailableError, BusyError (the UDP port).
    """
    found = context.system.interface(tunnel.name)
    if found is not None:
        from wgsvc.supervise.adopt import alive

        cure = "choose another name, or remove it"
        if found.kind == "tun" and alive(context, tunnel.name):
            cure = f"if it is wg-quick's, wgsvc stop {tunnel.name} takes it down"
        raise NameTakenError(
            f"there is an interface {tunnel.name} already ({found.kind}), not made by wgsvc; "
            "it is left alone",
            cure=cure,
        )
    if facts.backend == "wireguard-go":
        find_program(facts.program)
    else:
        find_program("wg")
    if _has_ipv6(tunnel):
        from wgsvc.supervise import ipv6

        ipv6.check(context, tunnel, hooks=facts.hooks)
    if tunnel.listen_port:
        _port_free(tunnel.listen_port)
    if tunnel.table is not None and tunnel.table >= 0:
        count = context.system.fib_count()
        if count is not None and tunnel.table >= count:
            raise UnavailableError(
                f"Table = {tunnel.table}: this host or jail has {count} FIBs (0 to {count - 1})",
                cure=f"sysctl net.fibs={tunnel.table + 1}",
            )


def _has_ipv6(tunnel: Tunnel) -> bool:
    """Whether there is any in the file: if not, nobody has to ask the system for it."""
    prefixes = (*tunnel.addresses, *(tunnel.routes or ()))
    return any(prefix.version == 6 for prefix in prefixes) or any(
        prefix.version == 6
        for peer in tunnel.peers
        for prefix in (peer.allowed_ips if peer.routes is None else peer.routes)
    )


def _port_free(port: int) -> None:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):  # noqa: S104 - as wireguard-go binds
        try:
            probe = socket.socket(family, socket.SOCK_DGRAM)
        except OSError:
            continue  # a kernel without this family
        try:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                freebsd = os.uname().sysname == "FreeBSD"
                finder = f"sockstat -l -p {port}" if freebsd else f"ss -ulnp sport = :{port}"
                raise BusyError(
                    f"UDP port {port} (ListenPort) is in use", cure=f"who has it: {finder}"
                ) from None
        finally:
            probe.close()


def confirm(context: Context, live: Live) -> None:
    """
    Read back from the kernel what was asked of it, before any hook can change it.

    Raises: WgsvcError naming what is not there.
    """
    found = context.system.interface(live.name)
    if found is None or found.ifindex != live.ifindex:
        raise WgsvcError(f"{live.name} has vanished while it was being brought up")
    missing = [str(wanted) for wanted in live.tunnel.addresses if wanted not in found.addresses]
    if missing:
        raise WgsvcError(f"{live.name} has no address {', '.join(missing)} after it was set")
    routes = live.routes()
    if routes:
        there = {
            route.prefix
            for route in context.system.routes(ifindex=live.ifindex, table=live.tunnel.table)
        }
        lost = [str(route.prefix) for route in routes if route.prefix not in there]
        if lost:
            raise WgsvcError(f"{len(lost)} routes of {live.name} are not there, such as {lost[0]}")


async def roll_back(
    context: Context, live: Live, done: list[steps.Step], say: Say
) -> list[WgsvcError]:
    """Undo steps in reverse; go on after a failure; return all of them."""
    errors: list[WgsvcError] = []
    hooks_ran = any(isinstance(step, steps.RunHook) for step in done)
    todo = [inverse for step in reversed(done) if (inverse := _needed(steps.undo(step)))]
    if hooks_ran:
        # What a hook did on the way up only a hook can undo; wg-quick forgets this.
        todo += hook_steps(live.tunnel, "PostDown", Facts())
    for step in todo:
        try:
            await perform(context, live, step, say, "rollback")
        except WgsvcError as error:
            errors.append(error)
    live.let_go()
    errors += give_table_back(context, live)
    if context.system.interface(live.name) is None:  # as take_down has it
        journal.remove(context.settings.run_dir, live.name)
    for failed in errors:
        log(f"{live.name}: roll-back: {failed.message}", error=True)
    return errors


def _needed(inverse: steps.Step | None) -> steps.Step | None:
    """Leave out what goes with the interface, faster than one by one."""
    if isinstance(inverse, steps.DeleteAddress):
        return None
    if isinstance(inverse, steps.DeleteRoutes) and not any(
        route.gateway or route.blackhole or route.ifindex for route in inverse.routes
    ):
        return None
    return inverse
