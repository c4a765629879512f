"""What a start does, in order."""

from __future__ import annotations

from wgsvc.config.model import Tunnel
from wgsvc.light import NamedTuple
from wgsvc.plan import steps
from wgsvc.plan.routes import automatic_mtu, endpoint_pins, tunnel_prefixes
from wgsvc.values import Prefix, Route


class Facts(NamedTuple):
    """
    What a plan must know of the system and of names.

    `endpoints` are the numeric addresses of peers whose endpoint is known;
    `path_mtus` the MTUs of the ways to them (or of the default route); `routes` the routes
    of the default table, needed only if some endpoint lies in the tunnel's prefixes.
    """

    backend: str = "wireguard-go"
    program: str = "wireguard-go"
    hooks: bool = True
    dns_mode: str = "exclusive"
    dns: bool = True
    endpoints: tuple[Prefix, ...] = ()
    path_mtus: tuple[int | None, ...] = ()
    routes: tuple[Route, ...] = ()


def numeric_endpoints(tunnel: Tunnel) -> tuple[Prefix, ...]:
    """Return the endpoints of the file that are addresses, as host prefixes."""
    found = []
    for peer in tunnel.peers:
        if peer.endpoint is not None:
            host = host_prefix(peer.endpoint.host)
            if host is not None:
                found.append(host)
    return tuple(found)


def host_prefix(host: str) -> Prefix | None:
    """Return a numeric address as a host prefix, None if it is a name."""
    if ":" in host:
        from ipaddress import IPv6Address  # only where there is IPv6

        try:
            return Prefix(6, int(IPv6Address(host.partition("%")[0])), 128)
        except ValueError:
            return None
    parts = host.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    a, b, c, d = map(int, parts)
    return Prefix(4, a << 24 | b << 16 | c << 8 | d, 32)


def start_steps(tunnel: Tunnel, facts: Facts) -> list[steps.Step]:
    """
    Return the steps that bring this tunnel up.

    The order matters. Address, MTU, up is what makes wireguard-go open its UDP sockets on
    FreeBSD (observed-13.2: section 1, rows 2 and 3). Keys, port and peers come after
    that: only a device that is up answers a port that is taken with an error, and no peer
    hears from a port that is not the final one. Endpoints are pinned before the routes
    that would swallow them.
    """
    name = tunnel.name
    todo: list[steps.Step] = [steps.Create(name, facts.backend)]
    if facts.backend == "wireguard-go":
        todo.append(steps.StartDaemon(name, facts.program))
    todo += hook_steps(tunnel, "PreUp", facts)
    todo += [steps.AddAddress(name, address) for address in tunnel.addresses]
    todo.append(steps.SetMtu(name, tunnel.mtu or automatic_mtu(facts.path_mtus)))
    todo.append(steps.SetUp(name))
    todo.append(steps.Configure(name, len(tunnel.peers), tunnel.path))
    if facts.dns and (tunnel.dns_servers or tunnel.dns_search):
        todo.append(steps.SetDns(name, tunnel.dns_servers, tunnel.dns_search, facts.dns_mode))
    todo += route_steps(tunnel, facts)
    todo += hook_steps(tunnel, "PostUp", facts)
    return todo


def route_steps(tunnel: Tunnel, facts: Facts) -> list[steps.Step]:
    """Return the routes of a start: first the endpoints' pins, then the tunnel's own."""
    prefixes = tunnel_prefixes(tunnel)
    todo: list[steps.Step] = []
    if tunnel.table is None:
        pins = endpoint_pins(prefixes, facts.endpoints, facts.routes)
        if pins:
            todo.append(steps.AddRoutes(tunnel.name, tuple(pins.values())))
    if prefixes:
        routes = tuple(Route(prefix, table=tunnel.table) for prefix in prefixes)
        todo.append(steps.AddRoutes(tunnel.name, routes))
    return todo


def hook_steps(tunnel: Tunnel, event: str, facts: Facts) -> list[steps.Step]:
    """Return the snippets of one event, `%i` replaced."""
    if not facts.hooks:
        return []
    snippets = {
        "PreUp": tunnel.hooks.pre_up,
        "PostUp": tunnel.hooks.post_up,
        "PreDown": tunnel.hooks.pre_down,
        "PostDown": tunnel.hooks.post_down,
    }[event]
    return [
        steps.RunHook(tunnel.name, event, snippet.replace("%i", tunnel.name))
        for snippet in snippets
    ]
