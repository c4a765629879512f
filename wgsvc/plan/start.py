"""What a start does, in order."""

from __future__ import annotations

from wgsvc.config.model import Tunnel
from wgsvc.light import NamedTuple
from wgsvc.plan import steps
from wgsvc.plan.routes import automatic_mtu, endpoint_pins, left_out, tunnel_routes
from wgsvc.values import Prefix, Route


class Facts(NamedTuple):
    """
    What a plan must know of the system and of names.

    `endpoints` are the addresses of peers whose endpoint is known; `path_mtus` the MTUs of the
    ways to them (or of the default route); `routes` the routes of the default table, needed
    only if some endpoint lies in the tunnel's prefixes. `full_table` is the routing table for a
    /0, 0 where that goes in halves into the default one; `firewall` whether nft(8) is to guard
    it. `held` are prefixes that are
    not routed yet, since the address of a peer is not known. `late_pins` says that a hook
    may bring the endpoints' routes, so that ours come after the hooks.
    """

    backend: str = "wireguard-go"
    program: str = "wireguard-go"
    hooks: bool = True
    dns_mode: str = "exclusive"
    dns: bool = True
    endpoints: tuple[Prefix, ...] = ()
    path_mtus: tuple[int | None, ...] = ()
    routes: tuple[Route, ...] = ()
    full_table: int = 0
    firewall: bool = False
    held: frozenset[Prefix] = frozenset()
    late_pins: bool = False


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
    if len(parts) != 4 or not all(map(_is_octet, parts)):
        return None
    a, b, c, d = map(int, parts)
    return Prefix(4, a << 24 | b << 16 | c << 8 | d, 32)


def _is_octet(text: str) -> bool:
    # A longer number would be an address of more than 32 bits, which no route can have.
    return text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255


def start_steps(tunnel: Tunnel, facts: Facts) -> list[steps.Step]:
    """Return the steps that bring this tunnel up, in order: the three parts of a start."""
    return [
        *first_steps(tunnel, facts),
        *middle_steps(tunnel, facts),
        *hook_steps(tunnel, "PostUp", facts),
    ]


def first_steps(tunnel: Tunnel, facts: Facts) -> list[steps.Step]:
    """Return what comes before the names of endpoints are looked up: PreUp may make that work."""
    name = tunnel.name
    todo: list[steps.Step] = [steps.Create(name, facts.backend)]
    if facts.backend == "wireguard-go":
        todo.append(steps.StartDaemon(name, facts.program))
    return todo + hook_steps(tunnel, "PreUp", facts)


def middle_steps(tunnel: Tunnel, facts: Facts) -> list[steps.Step]:
    """
    Return what comes between the hooks PreUp and PostUp.

    The order matters. Address, MTU, up is what makes wireguard-go open its UDP sockets on
    FreeBSD (observed-13.2: section 1, rows 2 and 3). Keys, port and peers come after
    that: only a device that is up answers a port that is taken with an error, and no peer
    hears from a port that is not the final one. Endpoints are pinned before the routes
    that would swallow them, and a full tunnel's table is filled before packets are led into it.
    """
    name = tunnel.name
    todo: list[steps.Step] = [steps.AddAddress(name, address) for address in tunnel.addresses]
    todo.append(steps.SetMtu(name, tunnel.mtu or automatic_mtu(facts.path_mtus)))
    todo.append(steps.SetUp(name))
    mark = 0 if tunnel.fwmark else facts.full_table
    todo.append(steps.Configure(name, len(tunnel.peers), tunnel.path, mark))
    if facts.dns and (tunnel.dns_servers or tunnel.dns_search):
        todo.append(dns_step(tunnel, facts.dns_mode))
    return todo + route_steps(tunnel, facts)


def dns_step(tunnel: Tunnel, mode: str) -> steps.SetDns:
    """Return the step that hands a tunnel's name servers over."""
    return steps.SetDns(tunnel.name, tunnel.dns_servers, tunnel.dns_search, mode)


def route_steps(tunnel: Tunnel, facts: Facts) -> list[steps.Step]:
    """Return the routes of a start: the endpoints' pins, the tunnel's own, a /0's rules."""
    todo: list[steps.Step] = []
    without = facts.held | left_out(tunnel, facts.endpoints)
    routes = tunnel_routes(tunnel, full_table=facts.full_table, without=without)
    prefixes = [route.prefix for route in routes]
    if tunnel.table is None and not facts.late_pins:
        pins = endpoint_pins(prefixes, facts.endpoints, facts.routes)
        if pins:
            todo.append(steps.AddRoutes(tunnel.name, tuple(pins.values())))
    if routes:
        todo.append(steps.AddRoutes(tunnel.name, routes))
    versions = tuple(prefix.version for prefix in prefixes if not prefix.length)
    if facts.full_table and versions and tunnel.table is None:
        if facts.firewall:
            todo.append(firewall_step(tunnel, facts.full_table, versions))
        todo.append(steps.AddRules(tunnel.name, facts.full_table, versions))
    return todo


def firewall_step(tunnel: Tunnel, mark: int, versions: tuple[int, ...]) -> steps.SetFirewall:
    """Return the step that puts a full tunnel's packet filter in place."""
    return steps.SetFirewall(tunnel.name, mark, versions, tunnel.addresses)


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
