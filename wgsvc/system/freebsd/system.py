"""FreeBSD as a `System`: each method hands over to the file that knows the subject."""

from __future__ import annotations

from functools import cached_property

from wgsvc.errors import UnavailableError
from wgsvc.light import TYPE_CHECKING
from wgsvc.system.freebsd import address, destroy, link, monitor, process, route, tun, watch
from wgsvc.system.freebsd.kernel import Kernel

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterable, Sequence

    from wgsvc.system.base import DefaultRoute, Interface, RouteFailure, RulePair, Tun
    from wgsvc.values import Prefix, Route


class FreeBSD:
    """The network stack this process is in: the host's or that of a VNET jail."""

    name = "freebsd"
    holds_through_exit = False
    has_metrics = False
    routes_by_mark = False

    def __init__(self, kernel: Kernel | None = None) -> None:
        self.kernel = kernel or Kernel()

    @cached_property
    def default_table(self) -> int:
        """The FIB of this process."""
        return route.default_table(self.kernel)

    # --- interfaces

    def create_tun(self, name: str, group: str = "") -> Tun:
        """See `System`."""
        return tun.create(self.kernel, name, group)

    def create_kernel(self, name: str) -> int:
        """See `System`."""
        return tun.create_kernel(self.kernel, name)

    def has_kernel_wireguard(self) -> bool:
        """See `System`. A module that is not loaded yet does not count: a jail can't load it."""
        return link.has_driver(self.kernel, "wg")

    def destroy(self, name: str, ifindex: int) -> None:
        """See `System`."""
        destroy.destroy(self.kernel, name, ifindex)

    def abandoned(self, name: str) -> list[Interface]:
        """See `System`."""
        return tun.abandoned(self.kernel, name)

    def interface(self, name: str) -> Interface | None:
        """See `System`."""
        ifindex = link.index_of(self.kernel, name)
        if ifindex is None:
            return None
        found = link.interfaces(self.kernel, ifindex)
        return found[0] if found and found[0].name == name else None

    def interfaces(self) -> list[Interface]:
        """See `System`."""
        return link.interfaces(self.kernel)

    def add_addresses(self, name: str, addresses: Iterable[Prefix]) -> None:
        """See `System`."""
        address.add(self.kernel, name, addresses)

    def delete_addresses(self, name: str, addresses: Iterable[Prefix]) -> None:
        """See `System`."""
        address.delete(self.kernel, name, addresses)

    def without_ipv6(self, name: str = "") -> UnavailableError | None:
        """See `System`. An interface alone can't be without: a first address switches it on."""
        del name
        return address.without_ipv6(self.kernel)

    def set_mtu(self, name: str, mtu: int) -> None:
        """See `System`."""
        link.set_mtu(self.kernel, name, mtu)

    def set_up(self, name: str) -> None:
        """See `System`."""
        link.set_up(self.kernel, name)

    # --- routes

    def add_routes(self, routes: Sequence[Route]) -> list[RouteFailure]:
        """See `System`."""
        return route.add(self.kernel, routes)

    def delete_routes(self, routes: Sequence[Route]) -> list[RouteFailure]:
        """See `System`."""
        return route.delete(self.kernel, routes)

    def routes(self, *, ifindex: int | None = None, table: int | None = None) -> list[Route]:
        """See `System`."""
        return route.routes(self.kernel, ifindex, table)

    def default_route(
        self, version: int, *, table: int | None = None, exclude_ifindex: int | None = None
    ) -> DefaultRoute | None:
        """See `System`."""
        return route.default_route(self.kernel, version, table, exclude_ifindex)

    def path_mtu(
        self,
        address: Prefix,
        *,
        table: int | None = None,
        mark: int = 0,  # noqa: ARG002
        not_by: int = 0,
    ) -> int | None:
        """See `System`."""
        return route.path_mtu(self.kernel, address, table, not_by)

    def add_rules(self, table: int, versions: Sequence[int]) -> None:
        """See `System`: packets are not routed by a mark here."""
        raise UnavailableError(f"FreeBSD has no routing rules (table {table}, IPv{versions})")

    def find_rules(self, table: int) -> tuple[RulePair, ...]:  # noqa: ARG002
        """See `System`: there are none."""
        return ()

    def delete_rules(self, table: int, pairs: Sequence[RulePair]) -> None:
        """See `System`: there are none."""

    def rules_in_force(self, table: int, pairs: Sequence[RulePair]) -> tuple[int, ...]:  # noqa: ARG002
        """See `System`: there are none."""
        return ()

    def set_passing(self, marks: Sequence[int], *, wanted: bool) -> None:
        """See `System`: there are no rules to pass by."""

    def free_table(self, taken: Collection[int]) -> int:
        """See `System`: a full tunnel has no table of its own here."""
        raise UnavailableError(f"FreeBSD routes nothing by marks ({len(taken)} in use)")

    def set_valid_mark(self, value: str) -> str:
        """See `System`: Linux's alone."""
        return value

    def mark_socket(self, descriptor: int, mark: int) -> None:
        """See `System`: a mark (SO_USER_COOKIE) has no say in routing here."""

    def fib_count(self) -> int | None:
        """See `System`."""
        return route.fib_count(self.kernel)

    # --- the route monitor's ear

    def monitor_open(self, table: int | None = None) -> socket.socket:
        """See `System`."""
        return monitor.open_listener(self.kernel, table)

    def monitor_read(self, listener: socket.socket) -> list[str]:
        """See `System`."""
        return monitor.read(self.kernel, listener)

    def watch_directory(self, path: str) -> int | None:
        """See `System`."""
        return watch.watch_directory(self.kernel, path)

    def watch_drain(self, watch: int) -> None:
        """See `System`."""
        self.kernel.drain(watch)

    # --- processes

    def unbroken_pipe(self) -> tuple[int, int, tuple[int, ...]]:
        """See `System`."""
        return process.unbroken_pipe()

    def become_reaper(self) -> None:
        """See `System`."""
        process.become_reaper(self.kernel)

    def die_with_parent(self) -> None:
        """See `System`."""
        process.die_with_parent(self.kernel)

    def set_title(self, title: str) -> None:
        """See `System`."""
        self.kernel.set_title(title)

    def exit_watch(self, pid: int) -> int:
        """See `System`."""
        return process.exit_watch(self.kernel, pid)

    def start_id(self, pid: int) -> str | None:
        """See `System`."""
        return process.start_id(self.kernel, pid)

    def signal(self, pid: int, start_id: str, exit_watch: int, signal: int) -> bool:
        """See `System`."""
        return process.send_signal(self.kernel, pid, start_id, exit_watch, signal)

    def peer_pid(self, connection: socket.socket) -> int:
        """See `System`."""
        return process.peer_pid(self.kernel, connection)

    def peer_uid(self, connection: socket.socket) -> int:
        """See `System`."""
        return process.peer_uid(self.kernel, connection)

    def peer_groups(self, connection: socket.socket) -> tuple[int, ...]:
        """See `System`."""
        return process.peer_groups(self.kernel, connection)

    def take_tun(self, pid: int, name: str) -> int | None:  # noqa: ARG002
        """See `System`: FreeBSD lets nobody take a descriptor out of another process."""
        return None

    def boot_id(self) -> str:
        """See `System`."""
        return process.boot_id(self.kernel)
