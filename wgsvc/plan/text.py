"""A step as the command a person would type, in the words of each system."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from wgsvc.plan import steps
from wgsvc.values import Prefix, Route

LISTED_ROUTES = 20
"""More routes of one batch than this are counted, not listed."""


def commands(step: steps.Step, system: str, *, every_route: bool = False) -> Iterator[str]:
    """Yield the commands of one step for `linux` or `freebsd`, without `[#] `."""
    match step:
        case (
            steps.AddRoutes(name=name, routes=routes) | steps.DeleteRoutes(name=name, routes=routes)
        ):
            verb = "add" if isinstance(step, steps.AddRoutes) else "delete"
            shown = routes if every_route else routes[:LISTED_ROUTES]
            for route in shown:
                yield _ROUTE[system](verb, name, route)
            if len(routes) > len(shown):
                yield f"... and {len(routes) - len(shown)} more routes"
        case steps.RunHook(command=command):
            yield command
        case steps.StartDaemon(name=name, program=program):
            yield f"{program} -f {name}"
        case steps.StopDaemon(name=name, pid=pid):
            yield f"kill {pid}" if pid else f"pkill -f 'wireguard-go -f {name}'"
        case steps.Configure(name=name, path=path):
            yield f"wg setconf {name} <(wgsvc strip {path or name})"
        case steps.SetDns():
            yield from _resolvconf(step)
        case steps.UnsetDns(name=name):
            yield f"resolvconf -f -d {name}"
        case _:
            yield _INTERFACE[system](step)


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
    table = f" table {route.table}" if route.table is not None else ""
    return f"ip -{route.prefix.version} route {verb} {kind}{route.prefix}{to}{table}"


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
