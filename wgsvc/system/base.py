"""
What wgsvc asks of an operating system: the whole list.

One class an OS implements `System`; nothing else in the package knows which OS it
runs on. Every method is synchronous and short, except `destroy`, which may wait on
the kernel and is therefore only called in a disposable child with a deadline.

All of them raise `OSFailureError` with the name of the system call that failed, or
`NotPermittedError` where the caller lacks the right; what else they raise is said at the
method.
"""

from __future__ import annotations

from wgsvc.light import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterable, Sequence

    from wgsvc.errors import UnavailableError
    from wgsvc.values import Prefix, Route


class Tun(NamedTuple):
    """
    A tun interface that we made and have open.

    `kernel_name` is what the kernel called it at first (`tun3` on FreeBSD, where
    it may be renamed back to that and to nothing else); on Linux it equals `name`.
    """

    fd: int
    name: str
    ifindex: int
    kernel_name: str


class Interface(NamedTuple):
    """
    What the kernel shows of an interface.

    `kind` is the driver: `tun`, `wireguard` (the kernel's own, both systems), or
    whatever else it is. `opener_pid` is who has the tun open where the kernel tells
    (FreeBSD, SIOCGIFSTATUS), 0 where it tells that nobody has, None where it doesn't.
    """

    name: str
    ifindex: int
    kind: str
    up: bool
    mtu: int
    addresses: tuple[Prefix, ...]
    opener_pid: int | None


class RouteFailure(NamedTuple):
    """A route the kernel refused, and its errno."""

    route: Route
    errno: int


class DefaultRoute(NamedTuple):
    """
    The present way out.

    `gateway` is None where the default route names only an interface (point-to-point
    uplinks, `link#N`).
    """

    gateway: str | None
    ifindex: int
    mtu: int


class RulePair(NamedTuple):
    """
    The priorities of the two routing rules that lead one IP version into a full tunnel's table.

    `selecting` is that of the rule for unmarked packets; `suppressing` that of the rule before
    it, which leaves all but the default route of the main table in force.
    """

    version: int
    selecting: int
    suppressing: int


class System(Protocol):
    """An operating system."""

    name: str
    """`linux` or `freebsd`."""

    holds_through_exit: bool
    """
    Whether our copy of a tun is closed after the end of its wireguard-go. On FreeBSD before:
    wireguard-go destroys the interface, which waits for every other copy (observed-13.2:
    section 2, rows 3 and 4).
    """

    has_metrics: bool
    """
    Whether a second route to the same prefix can stand beside the first, told apart by its
    metric (Linux). Then a `Route.pin` has one of its own; else it looks like anybody's.
    """

    routes_by_mark: bool
    """
    Whether a full tunnel can have a routing table of its own for all packets without its mark
    (Linux). Where it can't, its /0 becomes two halves in the default table.
    """

    @property
    def default_table(self) -> int:
        """254 (main) on Linux; on FreeBSD the FIB of this process."""

    # --- interfaces

    def create_tun(self, name: str, group: str = "") -> Tun:
        """
        Make a tun interface called `name`, open, down, ready for wireguard-go (WG_TUN_FD).

        `group` is the interface group to put it in, where there are such (FreeBSD); "" is none.

        The descriptor is close-on-exec and non-blocking where wireguard-go wants that.
        On failure nothing is left behind.

        Raises: NameTakenError, UnavailableError (no tun device here), NotPermittedError.
        """

    def create_kernel(self, name: str) -> int:
        """
        Make an interface of the kernel's own WireGuard; return its index.

        Raises: NameTakenError, UnavailableError (no such driver), NotPermittedError.
        """

    def has_kernel_wireguard(self) -> bool:
        """Return whether `create_kernel` can work here; tries nothing, changes nothing."""

    def destroy(self, name: str, ifindex: int) -> None:
        """
        Remove an interface if `name` still is interface `ifindex`; gone already is success.

        May wait on the kernel: call it in a disposable child.
        """

    def abandoned(self, name: str) -> list[Interface]:
        """
        Return what a killed process of ours left half-made of `name`, or half-removed.

        Under whatever name it has; never what anybody has open.
        """

    def interface(self, name: str) -> Interface | None:
        """Return what is known of an interface, None if there is none."""

    def interfaces(self) -> list[Interface]:
        """Return all interfaces of this network stack (namespace, vnet)."""

    def add_addresses(self, name: str, addresses: Iterable[Prefix]) -> None:
        """
        Add addresses; one that is already there, with the same length, is success.

        Raises: OSFailureError with ENODEV or ENXIO if there is no such interface.
        """

    def delete_addresses(self, name: str, addresses: Iterable[Prefix]) -> None:
        """
        Remove addresses; one that is not there is success, and so is no such interface.

        The others stay, also those of the same network, and so do all routes that somebody added.
        """

    def without_ipv6(self, name: str = "") -> UnavailableError | None:
        """
        Return why an interface can't have IPv6 addresses and routes, None if it can.

        "" is an interface that is yet to be made. The error says the cause and a cure.
        """

    def set_mtu(self, name: str, mtu: int) -> None:
        """
        Set the MTU, and make the kernel announce it.

        The announcement is what makes wireguard-go open its UDP sockets on FreeBSD
        (observed-13.2: section 1, rows 2 and 3), so there it is sent also if the value is the
        same.
        """

    def set_up(self, name: str) -> None:
        """Bring the interface up."""

    # --- routes

    def add_routes(self, routes: Sequence[Route]) -> list[RouteFailure]:
        """
        Add routes through one socket; return those refused.

        A route that is there already, the same in every respect, is success.
        """

    def delete_routes(self, routes: Sequence[Route]) -> list[RouteFailure]:
        """Remove routes through one socket; one that is not there is success."""

    def routes(self, *, ifindex: int | None = None, table: int | None = None) -> list[Route]:
        """
        Return the unicast and blackhole routes, of one interface or one table if given.

        Their `table` is always the number, their prefix without host bits. Those that the
        kernel made for addresses may be among them. Of no interface and no table given:
        the routes of all tables (Linux; without `local`) or of the default FIB (FreeBSD).
        """

    def default_route(
        self, version: int, *, table: int | None = None, exclude_ifindex: int | None = None
    ) -> DefaultRoute | None:
        """Return the default route of an IP version that does not leave by `exclude_ifindex`."""

    def path_mtu(
        self,
        address: Prefix,
        *,
        table: int | None = None,
        mark: int = 0,
        not_by: int = 0,
    ) -> int | None:
        """
        Return the MTU of the way to a host: the route's own, else its interface's.

        It is the way of packets that bear `mark`, where marks have a say in routing. One that
        leads by the interface of index `not_by` counts as none.
        """

    def add_rules(self, table: int, versions: Sequence[int]) -> None:
        """
        Lead all packets but those that bear the mark `table` into routing table `table`.

        Only those for which the main table has nothing but its default route. `versions`
        are IP versions. Raises: UnavailableError where `routes_by_mark` is False.
        """

    def find_rules(self, table: int) -> tuple[RulePair, ...]:
        """Return where the rules for a table are, for each IP version that has both."""

    def delete_rules(self, table: int, pairs: Sequence[RulePair]) -> None:
        """Take such rules back; ones that are not there are fine."""

    def rules_in_force(self, table: int, pairs: Sequence[RulePair]) -> tuple[int, ...]:
        """Return the IP versions whose two rules are still there."""

    def set_passing(self, marks: Sequence[int], *, wanted: bool) -> None:
        """Have packets with these marks pass by the rules of all full tunnels, or not any more."""

    def free_table(self, taken: Collection[int]) -> int:
        """Return the first routing table from 51820 on without a route, and not in `taken`."""

    def set_valid_mark(self, value: str) -> str:
        """
        Set Linux's net.ipv4.conf.all.src_valid_mark to "0" or "1"; return what it was.

        "0" is only set if no tunnel's rule, ours or anybody's, needs "1" any more.
        """

    def mark_socket(self, descriptor: int, mark: int) -> None:
        """Have the packets of a socket bear a mark, so that `add_rules` does not lead them."""

    def fib_count(self) -> int | None:
        """Return how many FIBs there are (FreeBSD net.fibs); None where any table will do."""

    # --- the route monitor's ear

    def monitor_open(self, table: int | None = None) -> socket.socket:
        """
        Open a blocking socket that hears changes of links, addresses and one table's routes.

        A default route's change is told as `default` only, not as `route` too.
        """

    def monitor_read(self, listener: socket.socket) -> list[str]:
        """
        Read one datagram; return what changed.

        Words: `link IFNAME INDEX`, `address INDEX`, `route PREFIX INDEX`, `default VERSION`,
        and `overflow` when messages were lost (everything has to be read again).
        """

    def watch_directory(self, path: str) -> int | None:
        """
        Return a descriptor that turns readable when names in a directory change.

        None where the caller needs no such watch: on Linux a held tun descriptor
        blocks nobody; on FreeBSD it does (observed-13.2: section 2, rows 3 and 4).
        The descriptor stays readable until `watch_drain` is called on it.
        """

    def watch_drain(self, watch: int) -> None:
        """Make a watch wait for the next change."""

    # --- processes

    def unbroken_pipe(self) -> tuple[int, int, tuple[int, ...]]:
        """
        Return a pipe that does not break: read end, write end, what a child inherits besides.

        A child that has the write end, and what is to be inherited, gets no SIGPIPE when
        all others have closed their read ends: it is a reader itself. When the pipe is full
        (64 KiB) and nobody reads, who writes waits.
        """

    def become_reaper(self) -> None:
        """Make orphans of our descendants our own children. Call before the first fork."""

    def die_with_parent(self) -> None:
        """Ask the kernel to SIGKILL the calling process when its parent ends."""

    def set_title(self, title: str) -> None:
        """Have ps(1) show this process as `title`, as far as there is room for it."""

    def exit_watch(self, pid: int) -> int:
        """
        Return a descriptor that turns readable when process `pid` ends, child or not.

        Raises: ProcessLookupError if there is no such process.
        """

    def start_id(self, pid: int) -> str | None:
        """
        Return what tells this process from any other that ever has the same PID, None if gone.

        It does not change when somebody sets the clock.
        """

    def signal(self, pid: int, start_id: str, exit_watch: int, signal: int) -> bool:
        """
        Signal a process if it is still the one of `start_id`; False if it is not.

        `exit_watch` is the descriptor that `exit_watch()` gave for it (a pidfd on Linux,
        which makes this free of races).
        """

    def peer_pid(self, connection: socket.socket) -> int:
        """Return the PID of who listens at the other end of a UNIX socket."""

    def peer_uid(self, connection: socket.socket) -> int:
        """Return the effective user of who connected to us over a UNIX socket."""

    def peer_groups(self, connection: socket.socket) -> tuple[int, ...]:
        """
        Return the groups of who connected to us, the first of them the effective one.

        Not always all: FreeBSD tells 16, Linux none but the first to a kernel before 4.13.
        """

    def take_tun(self, pid: int, name: str) -> int | None:
        """Return a copy of the tun descriptor another process holds, None where it can't be had."""

    def boot_id(self) -> str:
        """Return what tells this boot from any other."""
