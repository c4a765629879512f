"""
Performing one step, on the real system.

What a plain start does not need is imported where it is used: 0.1 ms each, before
wireguard-go can be started.
"""

from __future__ import annotations

from wgsvc.errors import OSFailureError, StepsFailedError, WgsvcError, unforeseen
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan import steps
from wgsvc.plan.text import commands
from wgsvc.supervise import release, wireguard_go

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context, Say
    from wgsvc.supervise.live import Live
    from wgsvc.system.base import RouteFailure
    from wgsvc.values import Prefix, Route

PHASES = {
    steps.Create: "interface",
    steps.StartDaemon: "wireguard-go",
    steps.Configure: "configure",
    steps.AddAddress: "addresses",
    steps.SetMtu: "mtu",
    steps.SetUp: "mtu",
    steps.SetDns: "dns",
    steps.AddRoutes: "routes",
    steps.AddRules: "routes",
    steps.SetFirewall: "firewall",
    steps.RunHook: "hooks",
}


async def perform(context: Context, live: Live, step: steps.Step, say: Say, reason: str) -> None:
    """
    Do one step, after saying the command that it stands for.

    Raises: WgsvcError of many kinds and no other; the step is undone by `undo(step)`.
    """
    try:
        await _perform(context, live, step, say, reason)
    except WgsvcError:
        raise
    except Exception as error:
        raise unforeseen(error) from error


async def _perform(  # noqa: C901, PLR0912, PLR0915 - one case a step, no logic
    context: Context, live: Live, step: steps.Step, say: Say, reason: str
) -> None:
    system = context.system
    if isinstance(step, steps.StopDaemon) and live.daemon is not None:
        step = steps.StopDaemon(step.name, live.daemon.pid)
    # The interface mostly goes with its wireguard-go: then nobody has to type a thing.
    if not isinstance(step, steps.Destroy) or system.interface(step.name) is not None:
        if isinstance(step, steps.RunHook) and not getattr(say, "shows_hooks", True):
            say(f"[#] # {step.event}")
        else:
            for line in commands(step, system.name):
                say(f"[#] {line}")
    match step:
        case steps.Create(name=name, backend="kernel"):
            live.ifindex = system.create_kernel(name)
            live.record(context)
        case steps.Create(name=name):
            live.tun = system.create_tun(name, context.settings.interface_group)
            live.ifindex, live.kernel_name = live.tun.ifindex, live.tun.kernel_name
            live.record(context)
        case steps.StartDaemon():
            assert live.tun is not None  # noqa: S101 - Create came before
            live.daemon = await wireguard_go.start(context, live.tun)
            if not context.may_hold:
                live.let_go()
            live.record(context)
        case steps.Configure(name=name):
            await configure(context, live)
        case steps.AddAddress(name=name, address=address):
            add_address(context, name, address)
        case steps.DeleteAddress(name=name, address=address):
            system.delete_addresses(name, [address])
        case steps.SetMtu(name=name, mtu=mtu):
            live.mtu = mtu
            system.set_mtu(name, mtu)
        case steps.SetUp(name=name):
            system.set_up(name)
        case steps.SetDns():
            from wgsvc.supervise import dns, name_servers

            if not live.dns:  # else they are this tunnel's own
                live.name_servers = name_servers.in_force()
            live.dns = True
            live.record(context)
            await dns.add(context, step, say)
        case steps.UnsetDns(name=name):
            from wgsvc.supervise import dns

            await dns.remove(context, name)
            live.dns = False
        case steps.AddRoutes(routes=routes):
            add_routes(context, live, routes)
        case steps.DeleteRoutes(routes=routes):
            delete_routes(context, live, routes)
        case steps.AddRules(table=table, versions=versions):
            add_rules(context, live, table, versions)
        case steps.DeleteRules(table=table, versions=versions):
            delete_rules(context, live, table, versions)
        case steps.SetFirewall() | steps.UnsetFirewall():
            await set_firewall(context, live, step)
        case steps.RunHook():
            from wgsvc.supervise import hooks

            await hooks.run(context, step, say, reason)
        case steps.StopDaemon():
            release.before_exit(context, live)
            if live.daemon is not None:
                await wireguard_go.end(context, live.daemon)
            await release.after_exit(context, live)
        case steps.Destroy():
            await release.after_exit(context, live)
            from wgsvc.supervise import destroy

            await destroy.gone(context, live.name, live.ifindex)


def add_address(context: Context, name: str, address: Prefix) -> None:
    """
    Assign one address.

    Raises: WgsvcError; UnavailableError where there is no IPv6.
    """
    try:
        context.system.add_addresses(name, [address])
    except WgsvcError as error:
        from wgsvc.supervise import ipv6

        raise ipv6.explained(context, name, address, error) from None


async def configure(context: Context, live: Live) -> None:
    """
    Give WireGuard the keys, port and peers of the tunnel.

    Raises: OSFailureError; EADDRINUSE says that the UDP port is taken.
    """
    from wgsvc.supervise import device, greet

    if live.backend == "wireguard-go":
        live.port = await wireguard_go.bound(context, live.name)
    try:
        await greet.fill(context, live, live.tunnel)
    except OSFailureError as error:
        raise port_taken(error, live) from None
    if live.backend == "kernel":
        live.port = (await device.get(context, live)).listen_port


def port_taken(error: OSFailureError, live: Live) -> WgsvcError:
    """Return the error, in plain words if it says that the UDP port is taken."""
    import errno

    if error.errno != errno.EADDRINUSE:
        return error
    port = live.tunnel.listen_port
    finder = (
        f"sockstat -l -p {port}" if live.kernel_name != live.name else f"ss -ulnp sport = :{port}"
    )
    return OSFailureError("bind", f"UDP port {port}", error.errno, cure=f"who has it: {finder}")


def add_routes(context: Context, live: Live, routes: tuple[Route, ...]) -> None:
    """
    Add routes; those without a way of their own go to the tunnel.

    Raises: StepsFailedError if the kernel refuses some; the others stay, for the roll-back.
    """
    pins = {route.prefix: route for route in routes if _is_pin(route)}
    if pins:
        live.pins.update(pins)
        live.record(context)
    failures = context.system.add_routes([_resolved(route, live) for route in routes])
    live.routed = live.routed or len(pins) < len(routes)
    if failures:
        raise StepsFailedError([_refused(context, live, failure) for failure in failures[:5]])


def _refused(context: Context, live: Live, failure: RouteFailure) -> WgsvcError:
    import errno

    from wgsvc.supervise import ipv6

    cure = ""
    if failure.errno == errno.EEXIST:
        cure = "another route for this prefix is there already; Table = off adds none"
    prefix = failure.route.prefix
    error = OSFailureError("add route", f"{prefix} to {live.name}", failure.errno, cure=cure)
    return ipv6.explained(context, live.name, prefix, error)


async def set_firewall(
    context: Context, live: Live, step: steps.SetFirewall | steps.UnsetFirewall
) -> None:
    """
    Put a full tunnel's packet filter in place, or take it back.

    Raises: UnavailableError without nft(8), WgsvcError if it refuses.
    """
    from wgsvc.plan.firewall import removal, ruleset
    from wgsvc.supervise import program

    if isinstance(step, steps.SetFirewall):
        text = ruleset(step.name, step.mark, step.versions, step.addresses)
        live.filtered = step.versions
        live.record(context)
    else:
        text = removal(step.name, step.versions)
        live.filtered = ()
    argv = ["nft", "-f", "-"]
    ran = await program.run(context, argv, text, limit_s=context.settings.step_timeout_s)
    if ran.status != 0:
        cure = f"without a packet filter: wgsvc --set firewall=off start {step.name}"
        raise program.failed(argv, ran, cure=cure)


def add_rules(context: Context, live: Live, table: int, versions: tuple[int, ...]) -> None:
    """
    Lead packets into a full tunnel's table.

    Raises: WgsvcError.
    """
    if 4 in versions:
        before = context.system.set_valid_mark("1")
        live.valid_mark = context.valid_mark = context.valid_mark or before
    # What is left of a pair that somebody has broken up goes first.
    context.system.delete_rules(table, [pair for pair in live.ruled if pair.version in versions])
    live.record(context)
    context.system.add_rules(table, versions)
    kept = [pair for pair in live.ruled if pair.version not in versions]
    new = [pair for pair in context.system.find_rules(table) if pair.version in versions]
    live.ruled = (*kept, *new)
    live.record(context)
    pass_by_each_other(context)


def pass_by_each_other(context: Context) -> None:
    """
    Keep the encrypted packets of each full tunnel out of the others, before all of their rules.

    Raises: OSFailureError, NotPermittedError.
    """
    marks = sorted(context.full_tables.values())
    if len(marks) > 1:
        context.system.set_passing(marks, wanted=True)


def delete_rules(context: Context, live: Live, table: int, versions: tuple[int, ...]) -> None:
    """
    Take them back; after the last full tunnel src_valid_mark is again what it was.

    Raises: WgsvcError.
    """
    pairs = live.ruled or context.system.find_rules(table)
    live.ruled = tuple(pair for pair in live.ruled if pair.version not in versions)
    context.system.delete_rules(table, [pair for pair in pairs if pair.version in versions])
    if 4 in versions and live.valid_mark == "0":
        context.system.set_valid_mark("0")


def give_table_back(context: Context, live: Live) -> list[WgsvcError]:
    """Let other full tunnels have this one's routing table; return what went wrong."""
    several = len(context.full_tables) > 1
    table = context.full_tables.pop(live.name, 0)
    live.full_table = 0
    if several and table:
        others = list(context.full_tables.values())
        gone = [table, *others] if len(others) == 1 else [table]
        try:
            context.system.set_passing(gone, wanted=False)
        except WgsvcError as error:
            return [error]
    if not context.full_tables:
        context.valid_mark = ""
    return []


def delete_routes(context: Context, live: Live, routes: tuple[Route, ...]) -> None:
    """
    Remove routes; ones that are gone are fine.

    Raises: StepsFailedError.
    """
    failures = context.system.delete_routes([_resolved(route, live) for route in routes])
    for route in routes:
        if _is_pin(route):
            live.pins.pop(route.prefix, None)
    if failures:
        raise StepsFailedError(
            [
                OSFailureError("delete route", str(failure.route.prefix), failure.errno)
                for failure in failures[:5]
            ]
        )


def _is_pin(route: Route) -> bool:
    return route.gateway is not None or route.ifindex is not None or route.blackhole


def _resolved(route: Route, live: Live) -> Route:
    return route if _is_pin(route) else route._replace(ifindex=live.ifindex)
