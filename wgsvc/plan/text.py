"""A step as the command a person would type, in the words of each system."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wgsvc.plan import steps
from wgsvc.plan.firewall import FAMILIES, table_name
from wgsvc.values import Prefix, Route

MAIN_TABLE, PIN_METRIC = 254, 51820  # Linux's, as system/linux/route.py has them
LISTED_ROUTES = 20
"""More routes of one batch than this are counted, not listed."""


def commands(step: steps.Step, system: str, *, every_route: bool = False) -> Iterator[str]:
    """Yield the commands of one step for `linux` or `freebsd`, without `[#] `."""
    match step:
        case steps.AddRoutes() | steps.DeleteRoutes():
            yield from _routes(step, system, every_route=every_route)
        case steps.AddRules() | steps.DeleteRules() | steps.SetFirewall() | steps.UnsetFirewall():
            yield from _full_tunnel(step)
        case steps.RunHook(command=command):
            yield command
        case steps.StartDaemon(name=name, program=program):
            yield f"{program} -f {name}"
        case steps.StopDaemon(pid=pid):
            if pid:  # else the roll-back of a start that had none yet: there is nothing to type
                yield f"kill {pid}"
        case steps.Configure():
            yield from _configure(step)
        case steps.SetDns():
            yield from _resolvconf(step)
        case steps.UnsetDns(name=name):
            yield f"resolvconf -f -d {name}"
        case _:
            yield _INTERFACE[system](step)


def _routes(
    step: steps.AddRoutes | steps.DeleteRoutes, system: str, *, every_route: bool
) -> Iterator[str]:
    verb = "add" if isinstance(step, steps.AddRoutes) else "delete"
    shown = step.routes if every_route else step.routes[:LISTED_ROUTES]
    for route in shown:
        yield _ROUTE[system](verb, step.name, route)
    if len(step.routes) > len(shown):
        yield f"... and {len(step.routes) - len(shown)} more routes"


def _full_tunnel(
    step: steps.AddRules | steps.DeleteRules | steps.SetFirewall | steps.UnsetFirewall,
) -> Iterator[str]:
    if isinstance(step, steps.AddRules | steps.DeleteRules):
        yield from _rules(step)
    else:
        yield from _firewall(step)


def _rules(step: steps.AddRules | steps.DeleteRules) -> Iterator[str]:
    adds = isinstance(step, steps.AddRules)
    verb = "add" if adds else "delete"
    for version in step.versions:
        yield f"ip -{version} rule {verb} not fwmark {step.table} table {step.table}"
        yield f"ip -{version} rule {verb} table main suppress_prefixlength 0"
    if adds and 4 in step.versions:
        yield "sysctl -q net.ipv4.conf.all.src_valid_mark=1"


def _firewall(step: steps.SetFirewall | steps.UnsetFirewall) -> Iterator[str]:
    tables = [f"{FAMILIES[version]} {table_name(step.name)}" for version in step.versions]
    if isinstance(step, steps.SetFirewall):
        yield f"nft -f -  # {', '.join(tables)}: its addresses by no other way, its mark kept"
    else:
        yield from (f"nft delete table {table}" for table in tables)


def _configure(step: steps.Configure) -> Iterator[str]:
    yield f"wg setconf {step.name} <(wgsvc strip {step.path or step.name})"
    if step.mark:
        yield f"wg set {step.name} fwmark {step.mark}"


def _resolvconf(step: steps.SetDns) -> Iterator[str]:
    text = resolvconf_input(step).replace("%", "%%").replace("\n", "\\n")  # for printf(1)
    if text:
        yield f"printf '{text}' | resolvconf {' '.join(resolvconf_arguments(step))}"


def resolvconf_input(step: steps.SetDns) -> str:
    """
    Return what resolvconf(8) reads.

    A domain with ~ (systemd-resolved) says which names this interface's servers are asked for;
    where it has none, it says nothing.
    """
    search = [domain for domain in step.search if step.servers or domain[0] != "~"]
    lines = [f"nameserver {server}\n" for server in step.servers]
    return "".join(lines) + (f"search {' '.join(search)}\n" if search else "")


def resolvconf_arguments(step: steps.SetDns) -> list[str]:
    """
    Return the arguments that add an interface's servers: exclusive, by metric, or plain.

    Search domains alone are never exclusive: nobody would have a server any more.
    """
    how = {"exclusive": ["-x"] if step.servers else [], "metric": ["-m", "0"]}
    return ["-a", step.name, *how.get(step.mode, [])]


def _linux_route(verb: str, name: str, route: Route) -> str:
    kind = "blackhole " if route.blackhole else ""
    verb = "del" if verb == "delete" else verb
    to = f" via {route.gateway}" if route.gateway else "" if route.blackhole else f" dev {name}"
    if route.gateway is None and route.ifindex is not None:
        to = f" dev if{route.ifindex}"
    table = f" table {route.table}" if route.table not in (None, MAIN_TABLE) else ""
    metric = f" metric {PIN_METRIC}" if route.pin else ""
    return f"ip -{route.prefix.version} route {verb} {kind}{route.prefix}{to}{table}{metric}"


def _freebsd_route(verb: str, name: str, route: Route) -> str:
    family = "inet" if route.prefix.version == 4 else "inet6"
    fib = f" -fib {route.table}" if route.table is not None else ""
    kind = "-host" if route.prefix.is_host else "-net"
    to = f" {route.gateway}" if route.gateway else f" -interface {name}"
    if route.gateway is None and route.ifindex is not None:
        to = f" -interface link#{route.ifindex}"
    if route.blackhole:
        to = f" {'127.0.0.1' if family == 'inet' else '::1'} -blackhole"
    target = route.prefix.host if route.prefix.is_host else str(route.prefix)
    return f"route -q -n {verb} -{family}{fib} {kind} {target}{to}"


def _linux_interface(step: steps.Step) -> str:
    match step:
        case steps.Create(name=name, backend=backend):
            if backend == "kernel":
                return f"ip link add {name} type wireguard"
            return f"ip tuntap add dev {name} mode tun"
        case steps.Destroy(name=name):
            return f"ip link delete dev {name}"
        case steps.AddAddress(name=name, address=address):
            return f"ip -{address.version} address add {address} dev {name}"
        case steps.DeleteAddress(name=name, address=address):
            return f"ip -{address.version} address delete {address} dev {name}"
        case steps.SetMtu(name=name, mtu=mtu):
            return f"ip link set mtu {mtu} dev {name}"
        case steps.SetUp(name=name):
            return f"ip link set up dev {name}"
    raise TypeError(step)


def _freebsd_interface(step: steps.Step) -> str:
    match step:
        case steps.Create(name=name, backend=backend):
            driver = "wg" if backend == "kernel" else "tun"
            return f"ifconfig {driver} create name {name}"
        case steps.Destroy(name=name):
            return f"ifconfig {name} destroy"
        case steps.AddAddress(name=name, address=address):
            return f"ifconfig {name} {_family(address)} {address} alias"
        case steps.DeleteAddress(name=name, address=address):
            return f"ifconfig {name} {_family(address)} {address.host} -alias"
        case steps.SetMtu(name=name, mtu=mtu):
            return f"ifconfig {name} mtu {mtu}"
        case steps.SetUp(name=name):
            return f"ifconfig {name} up"
    raise TypeError(step)


def _family(prefix: Prefix) -> str:
    return "inet" if prefix.version == 4 else "inet6"


_ROUTE: dict[str, Callable[[str, str, Route], str]] = {
    "linux": _linux_route,
    "freebsd": _freebsd_route,
}
_INTERFACE: dict[str, Callable[[steps.Step], str]] = {
    "linux": _linux_interface,
    "freebsd": _freebsd_interface,
}
