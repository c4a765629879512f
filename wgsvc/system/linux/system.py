"""Linux as a `System`: each method hands over to the file that knows the subject."""

from __future__ import annotations

from wgsvc.light import TYPE_CHECKING
from wgsvc.system.base import DefaultRoute, Interface, RouteFailure, Tun
from wgsvc.system.linux import address, link, monitor, process, route, tun
from wgsvc.system.linux.netlink import Connection

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterable, Sequence

    from wgsvc.errors import UnavailableError
    from wgsvc.system.base import RulePair
    from wgsvc.values import Prefix, Route

FIRST_TABLE = 51820
"""The first number tried for the mark and routing table of a full tunnel, as wg-quick(8) does."""


class Linux:
    """
    The network namespace this process is in.

    `wireguard_go` is the program that tunnels will run (a path, or a name for PATH): what
    it expects of its tun descriptor depends on its version, see tun.py.
    """

    name = "linux"
    holds_through_exit = True
    has_metrics = True
    routes_by_mark = True
    default_table = route.MAIN

    def __init__(self, wireguard_go: str = "wireguard-go") -> None:
        self.wireguard_go = wireguard_go

    # --- interfaces

    def create_tun(self, name: str, group: str = "") -> Tun:
        """See `System`. Groups have no names here."""
        del group
        return tun.create(name, self.wireguard_go)

    def create_kernel(self, name: str) -> int:
        """See `System`."""
        with Connection() as connection:
            return link.create(connection, name, "wireguard")

    def has_kernel_wireguard(self) -> bool:
        """See `System`."""
        return link.has_driver("wireguard")

    def destroy(self, name: str, ifindex: int) -> None:
        """See `System`."""
        with Connection() as connection:
            link.destroy(connection, name, ifindex)

    def abandoned(self, name: str) -> list[Interface]:  # noqa: ARG002
        """See `System`: a tun goes with the last descriptor of it."""
        return []

    def interface(self, name: str) -> Interface | None:
        """See `System`."""
        with Connection() as connection:
            found = link.find(connection, name)
            if found is None:
                return None
            there = address.dump(connection, found.ifindex)
        return _interface(found, there)

    def interfaces(self) -> list[Interface]:
        """See `System`."""
        with Connection() as connection:
            links = list(link.dump(connection))
            there = address.dump(connection)
        return [_interface(found, there) for found in links]

    def add_addresses(self, name: str, addresses: Iterable[Prefix]) -> None:
        """See `System`."""
        with Connection() as connection:
            address.add(connection, name, addresses)

    def delete_addresses(self, name: str, addresses: Iterable[Prefix]) -> None:
        """See `System`."""
        with Connection() as connection:
            interface = link.find(connection, name)
            if interface is None:
                return
            routes = route.added(connection, interface.ifindex)
            address.delete(connection, name, interface.ifindex, addresses)
            route.restore(connection, interface.ifindex, routes)

    def without_ipv6(self, name: str = "") -> UnavailableError | None:
        """See `System`."""
        from wgsvc.system.linux import ipv6  # tunnels without it don't pay

        return ipv6.without(name)

    def set_mtu(self, name: str, mtu: int) -> None:
        """See `System`."""
        with Connection() as connection:
            link.set_mtu(connection, name, mtu)

    def set_up(self, name: str) -> None:
        """See `System`."""
        with Connection() as connection:
            link.set_up(connection, name)

    # --- routes

    def add_routes(self, routes: Sequence[Route]) -> list[RouteFailure]:
        """See `System`."""
        with Connection() as connection:
            return route.add(connection, routes)

    def delete_routes(self, routes: Sequence[Route]) -> list[RouteFailure]:
        """See `System`."""
        with Connection() as connection:
            return route.delete(connection, routes)

    def routes(self, *, ifindex: int | None = None, table: int | None = None) -> list[Route]:
        """See `System`."""
        with Connection() as connection:
            return route.dump(connection, ifindex=ifindex, table=table)

    def default_route(
        self, version: int, *, table: int | None = None, exclude_ifindex: int | None = None
    ) -> DefaultRoute | None:
        """See `System`."""
        chosen = self.default_table if table is None else table
        with Connection() as connection:
            return route.default_route(connection, version, chosen, exclude_ifindex)

    def path_mtu(
        self,
        address: Prefix,
        *,
        table: int | None = None,
        mark: int = 0,
        not_by: int = 0,
    ) -> int | None:
        """See `System`."""
        with Connection() as connection:
            return route.path_mtu(connection, address, table, mark, not_by)

    def add_rules(self, table: int, versions: Sequence[int]) -> None:
        """See `System`."""
        from wgsvc.system.linux import rule  # only full tunnels need it

        with Connection() as connection:
            rule.add(connection, table, versions)

    def find_rules(self, table: int) -> tuple[RulePair, ...]:
        """See `System`."""
        from wgsvc.system.linux import rule

        with Connection() as connection:
            return rule.find(connection, table)

    def delete_rules(self, table: int, pairs: Sequence[RulePair]) -> None:
        """See `System`."""
        from wgsvc.system.linux import rule

        with Connection() as connection:
            rule.delete(connection, table, pairs)

    def rules_in_force(self, table: int, pairs: Sequence[RulePair]) -> tuple[int, ...]:
        """See `System`."""
        from wgsvc.system.linux import rule

        with Connection() as connection:
            return rule.in_force(connection, table, pairs)

    def set_passing(self, marks: Sequence[int], *, wanted: bool) -> None:
        """See `System`."""
        from wgsvc.system.linux import rule

        with Connection() as connection:
            rule.set_passing(connection, marks, wanted=wanted)

    def free_table(self, taken: Collection[int]) -> int:
        """See `System`."""
        with Connection() as connection:
            used = {found.table for found in route.dump(connection)}
        table = FIRST_TABLE
        while table in used or table in taken:
            table += 1
        return table

    def set_valid_mark(self, value: str) -> str:
        """See `System`."""
        from wgsvc.system.linux import rule

        if value == "0":
            with Connection() as connection:
                if rule.marked(connection):
                    return "1"
        return rule.set_valid_mark(value)

    def mark_socket(self, descriptor: int, mark: int) -> None:
        """See `System`."""
        from wgsvc.system.linux import rule

        rule.mark_socket(descriptor, mark)

    def fib_count(self) -> int | None:
        """See `System`."""
        return None

    # --- the route monitor's ear

    def monitor_open(self, table: int | None = None) -> monitor.Listener:
        """See `System`."""
        return monitor.monitor_open(self.default_table if table is None else table)

    def monitor_read(self, listener: socket.socket) -> list[str]:
        """See `System`."""
        return monitor.monitor_read(listener)

    def watch_directory(self, path: str) -> int | None:  # noqa: ARG002  # FreeBSD's need
        """See `System`: a held descriptor blocks nobody here."""
        return None

    def watch_drain(self, watch: int) -> None:
        """See `System`: there is never a watch to drain."""

    # --- processes

    def unbroken_pipe(self) -> tuple[int, int, tuple[int, ...]]:
        """See `System`."""
        return process.unbroken_pipe()

    def become_reaper(self) -> None:
        """See `System`."""
        process.become_reaper()

    def die_with_parent(self) -> None:
        """See `System`."""
        process.die_with_parent()

    def set_title(self, title: str) -> None:
        """See `System`."""
        process.set_title(title)

    def exit_watch(self, pid: int) -> int:
        """See `System`."""
        return process.exit_watch(pid)

    def start_id(self, pid: int) -> str | None:
        """See `System`."""
        return process.start_id(pid)

    def signal(self, pid: int, start_id: str, exit_watch: int, signal: int) -> bool:
        """See `System`."""
        return process.send_signal(pid, start_id, exit_watch, signal)

    def peer_pid(self, connection: socket.socket) -> int:
        """See `System`."""
        return process.peer_credentials(connection)[0]

    def peer_uid(self, connection: socket.socket) -> int:
        """See `System`."""
        return process.peer_credentials(connection)[1]

    def peer_groups(self, connection: socket.socket) -> tuple[int, ...]:
        """See `System`."""
        return process.peer_groups(connection)

    def take_tun(self, pid: int, name: str) -> int | None:
        """See `System`."""
        return process.take_tun(pid, name)

    def boot_id(self) -> str:
        """See `System`."""
        return process.boot_id()


def _interface(found: link.Link, there: dict[int, list[Prefix]]) -> Interface:
    name, ifindex, kind, up, mtu = found
    addresses = tuple(there.get(ifindex, ()))
    return Interface(name, ifindex, kind, up, mtu, addresses, opener_pid=None)
