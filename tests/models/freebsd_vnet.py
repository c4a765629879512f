"""
The state of the model kernel: the machine, its network stacks, interfaces and tun devices.

A tun descriptor is one end of a real socket pair, so copies, inheritance and the death of
a process count as they do in a kernel: the last copy is closed when the other end hangs up.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from typing import TYPE_CHECKING

from tests.models import freebsd_routes as routes
from tests.models import freebsd_wire as wire
from tests.models.freebsd_flavours import Flavour
from tests.models.freebsd_routes import Ear, Entry, fail

if TYPE_CHECKING:
    from collections.abc import Callable

IFF_UP, IFF_BROADCAST, IFF_LOOPBACK, IFF_POINTOPOINT, IFF_RUNNING, IFF_NOARP, IFF_MULTICAST = (
    0x1,
    0x2,
    0x8,
    0x10,
    0x40,
    0x80,
    0x8000,
)

Address = tuple[int, int, int]  # family, number, prefix length


class KernelPanic(AssertionError):  # noqa: N818  it is what the console says
    """The real kernel would have stopped the machine here."""


class WouldBlockForever(AssertionError):  # noqa: N818  a state, not an error of the caller's making
    """The real call would not return until somebody else closes a descriptor."""


class TunDevice:
    """A /dev/tunN."""

    def __init__(self, unit: int, credential: Vnet | None) -> None:
        self.unit = unit
        self.credential = credential  # the jail that made it through /dev/tun
        self.pid = 0
        self.transient = False
        self.dying = False
        self.kernel_end: int | None = None
        self.inode = 0

    @property
    def is_open(self) -> bool:
        """Whether any process has a copy of the descriptor."""
        return self.kernel_end is not None

    def open(self, pid: int) -> int:
        """Return a new descriptor."""
        kernel_end, user_end = socket.socketpair()
        self.kernel_end = kernel_end.detach()
        self.pid = pid
        self.inode = os.fstat(user_end.fileno()).st_ino
        return user_end.detach()

    def closed(self) -> None:
        """Forget who had it open."""
        if self.kernel_end is not None:
            os.close(self.kernel_end)
        self.kernel_end = None
        self.pid = self.inode = 0

    __del__ = closed

    def hung_up(self) -> bool:
        """Whether the last copy was closed since."""
        if self.kernel_end is None:
            return False
        poller = select.poll()
        poller.register(self.kernel_end, 0)
        return any(event & select.POLLHUP for _fd, event in poller.poll(0))


class Interface:
    """An ifnet."""

    def __init__(self, vnet: Vnet, name: str, driver: str, unit: int | None, flags: int) -> None:
        self.vnet = vnet
        self.home = vnet
        self.name = name
        self.driver = driver
        self.unit_name = driver if unit is None else f"{driver}{unit}"
        self.unit = unit
        self.ifindex = 0
        self.flags = flags
        self.mtu = 1500
        self.addresses: list[Address] = []
        self.groups = {driver}
        self.description = ""
        self.nd6_flags = 0x29
        self.tun: TunDevice | None = None


class Vnet:
    """A network stack: the host's, or a VNET jail's. `has_vnet` False: a jail without its own."""

    def __init__(self, machine: Machine, name: str, *, jailed: bool, has_vnet: bool = True) -> None:
        self.machine = machine
        self.name = name
        self.jailed = jailed
        self.has_vnet = has_vnet
        self.interfaces: dict[int, Interface] = {}
        self.fibs: list[dict[routes.Key, list[Entry]]] = [{}]
        self.ears: list[Ear] = []
        self.dying = False
        loopback = Interface(self, "lo0", "lo", 0, IFF_UP | IFF_LOOPBACK | IFF_RUNNING)
        loopback.mtu = 16384
        self.attach(loopback)
        self.add_address(loopback, (wire.INET, 0x7F000001, 8))
        self.add_address(loopback, (wire.INET6, 1, 128))

    def need_privilege(self) -> None:
        """Refuse what a jail without a network stack of its own may not do."""
        if not self.has_vnet:
            raise fail(errno.EPERM)

    def by_name(self, name: str) -> Interface | None:
        """Return the interface of this name."""
        return next((one for one in self.interfaces.values() if one.name == name), None)

    def by_index(self, ifindex: int) -> Interface | None:
        """Return the interface of this index."""
        return self.interfaces.get(ifindex)

    def attach(self, interface: Interface) -> None:
        """Give it the lowest free index: numbers come back soon, as in the kernel."""
        interface.vnet = self
        interface.ifindex = next(n for n in range(1, 1 << 15) if n not in self.interfaces)
        self.interfaces[interface.ifindex] = interface
        self.tell(wire.announce(interface.ifindex, interface.name, gone=False))

    def detach(self, interface: Interface) -> None:
        """Take it out with all its addresses and routes."""
        self.tell_state(interface)
        self.purge(interface)
        del self.interfaces[interface.ifindex]
        self.tell(wire.announce(interface.ifindex, interface.name, gone=True))

    def tell(self, message: bytes, fib: int | None = None) -> None:
        """Say something to everybody who listens (to this FIB)."""
        self.ears = [ear for ear in self.ears if fib not in (None, ear.fib) or ear.hear(message)]

    def tell_state(self, interface: Interface) -> None:
        """Send RTM_IFINFO."""
        self.tell(wire.ifinfo(interface.ifindex, interface.flags, interface.mtu))

    # --- addresses

    def add_address(self, interface: Interface, address: Address) -> None:
        """Add an address with its own route and that of its prefix."""
        family, number, length = address
        bits = wire.BITS[family]
        for present in [one for one in interface.addresses if one[:2] == (family, number)]:
            if family == wire.INET6 and present[2] != length:
                raise fail(errno.EINVAL)
            self.delete_address(interface, present)
        interface.addresses.append(address)
        first_up = interface.tun is not None and not interface.flags & IFF_UP
        if first_up:
            interface.flags |= IFF_UP | IFF_RUNNING  # silently: tuninit
        self.tell(wire.ifa(wire.NEWADDR, interface.ifindex, interface.name, address))
        gateway = wire.link(interface.ifindex)
        if length < bits:
            network = number >> (bits - length) << (bits - length)
            hop = Entry(wire.UP | wire.PINNED, gateway, interface.ifindex)
            self._kernel_route((family, network, length), hop)
        own = Entry(wire.UP | wire.HOST | wire.PINNED, gateway, self.loopback_index)
        self._kernel_route((family, number, bits), own)
        if first_up and self.machine.flavour.first_address_says_up:
            self.tell_state(interface)

    def delete_address(self, interface: Interface, address: Address) -> None:
        """Remove an address and the routes that came with it or were added under it."""
        family, number, length = address
        bits = wire.BITS[family]
        interface.addresses.remove(address)
        self.tell(wire.ifa(wire.DELADDR, interface.ifindex, interface.name, address))
        network = number >> (bits - length) << (bits - length)
        for table in self.fibs:
            table.pop((family, number, bits), None)
            hops = table.get((family, network, length), [])
            shared = any(
                (one[0], one[1] >> bits - length, one[2])
                == (family, number >> bits - length, length)
                for one in interface.addresses
            )
            if (
                not shared
                and hops
                and hops[0].flags & wire.PINNED
                and hops[0].ifindex == interface.ifindex
            ):
                del table[family, network, length]
            if family == wire.INET:  # in_ifadown; IPv6 has nothing like it
                for key, (hop, *_) in list(table.items()):
                    if (hop.ifindex, hop.source) == (interface.ifindex, number):
                        del table[key]

    def _kernel_route(self, key: routes.Key, hop: Entry) -> None:
        if key not in self.fibs[0]:
            routes.add(self, 0, key, hop)
            told = hop._replace(flags=hop.flags | wire.DONE)
            self.tell(routes.message_of(self, wire.ADD, key, told, (0, 0, 0)), 0)

    @property
    def loopback_index(self) -> int:
        """The index of lo0."""
        return 1

    def purge(self, interface: Interface) -> None:
        """Remove all addresses of an interface, and all routes that leave by it."""
        for address in list(interface.addresses):
            self.delete_address(interface, address)
        for fib, table in enumerate(self.fibs):
            for key in [key for key, hops in table.items() if hops[0].ifindex == interface.ifindex]:
                hop = table.pop(key)[0]
                self.tell(routes.message_of(self, wire.DELETE, key, hop, (0, 0, 0)), fib)


class Machine:
    """A host: what all its network stacks share."""

    def __init__(self, flavour: Flavour) -> None:
        self.flavour = flavour
        self.has_inet6 = True  # options INET6
        self.devices: dict[int, TunDevice] = {}  # units are the whole host's
        self.aliases: dict[str, TunDevice] = {}  # names a rename made in /dev
        self.interfaces_of: dict[int, Interface] = {}  # unit -> interface
        self.stuck_destroy: Interface | None = None
        self.on_unstuck: Callable[[], None] | None = None
        self.pids: dict[int, bool] = {}  # modelled processes, and whether they live
        self.host = Vnet(self, "host", jailed=False)
        self.jails: list[Vnet] = []

    def jail(self, name: str, *, has_vnet: bool = True) -> Vnet:
        """Make a jail."""
        made = Vnet(self, name, jailed=True, has_vnet=has_vnet)
        self.jails.append(made)
        return made

    def remove_jail(self, jail: Vnet) -> None:
        """Remove a jail: its interfaces go, but a device with its credential keeps it dying."""
        pinned = any(device.credential is jail for device in self.devices.values())
        for interface in list(jail.interfaces.values()):
            if interface.tun is not None and interface.home is jail and not pinned:
                self.remove(interface)
        jail.dying = pinned
        if not pinned:
            self.jails.remove(jail)

    def new_pid(self) -> int:
        """Return the PID of a modelled process; far above any real one."""
        pid = 5_000_000 + len(self.pids)
        self.pids[pid] = True
        return pid

    # --- tun

    def create_tun(self, vnet: Vnet, unit: int | None, credential: Vnet | None) -> Interface:
        """Make a tun; units are taken from the whole host."""
        if unit is None:
            unit = next(n for n in range(1 << 15) if n not in self.devices)
        elif unit in self.devices:
            raise fail(errno.EEXIST)
        if f"tun{unit}" in self.aliases:
            raise KernelPanic(f"make_dev_sv: bad si_name (error=17, si_name=tun{unit})")
        interface = Interface(vnet, f"tun{unit}", "tun", unit, IFF_POINTOPOINT | IFF_MULTICAST)
        interface.tun = TunDevice(unit, credential)
        self.devices[unit] = interface.tun
        self.interfaces_of[unit] = interface
        vnet.attach(interface)
        return interface

    def device(self, path: str) -> TunDevice | None:
        """Return the device behind /dev/tunN or an alias of it."""
        name = path.removeprefix("/dev/")
        if name.startswith("tun") and name[3:].isdigit() and int(name[3:]) in self.devices:
            return self.devices[int(name[3:])]
        return self.aliases.get(name)

    def rename(self, interface: Interface, new_name: str) -> None:
        """Rename; from 12.2 a tun's new name appears in /dev."""
        vnet = interface.vnet
        if new_name == interface.name and self.flavour.same_name_rename:
            return
        if vnet.by_name(new_name) is not None:
            raise fail(errno.EEXIST)
        vnet.tell(wire.announce(interface.ifindex, interface.name, gone=True))
        interface.name = new_name
        vnet.tell(wire.announce(interface.ifindex, new_name, gone=False))
        if interface.tun is not None and self.flavour.alias_on_rename:
            self.aliases = {
                name: one for name, one in self.aliases.items() if one is not interface.tun
            }
            if self.device(f"/dev/{new_name}") is None:
                self.aliases[new_name] = interface.tun

    def destroy(self, vnet: Vnet, name: str, on_unstuck: Callable[[], None] | None = None) -> None:
        """SIOCIFDESTROY. Blocks, and with it every later one, while the device is open."""
        interface = vnet.by_name(name)
        if interface is None:
            raise fail(errno.ENXIO)
        if self.stuck_destroy is not None and self.flavour.lock_around_destroy:
            raise WouldBlockForever(f"destroy of {name} waits behind a destroy that waits")
        if interface.driver not in ("tun", "wg", "epair"):
            raise fail(errno.EINVAL)
        if interface.tun is not None:
            self._check_cloner(vnet, interface)
            if interface.tun.dying:
                raise fail(errno.ENXIO)
            if interface.tun.is_open:
                interface.tun.dying = True
                self.stuck_destroy, self.on_unstuck = interface, on_unstuck
                raise WouldBlockForever(f"destroy of {name} waits for the last close")
        self.remove(interface)

    def _check_cloner(self, vnet: Vnet, interface: Interface) -> None:
        own_name = interface.name == interface.unit_name
        if not self.flavour.cloner_in_every_vnet:
            if vnet.jailed and not own_name:
                raise fail(errno.EINVAL)
        elif interface.home is not vnet and self.flavour.moved_in_destroy == "ENXIO":
            raise fail(errno.ENXIO)

    def remove(self, interface: Interface) -> None:
        """Take an interface away."""
        interface.vnet.detach(interface)
        device = interface.tun
        if device is not None:
            self.aliases = {name: one for name, one in self.aliases.items() if one is not device}
            del self.devices[device.unit]
            del self.interfaces_of[device.unit]

    def move(self, interface: Interface, vnet: Vnet) -> None:
        """`ifconfig IF vnet JAIL`."""
        interface.vnet.detach(interface)
        vnet.attach(interface)

    def settle(self) -> None:
        """Notice which tun devices were closed, and do what the kernel does at once."""
        for unit, device in list(self.devices.items()):
            if device.hung_up():
                self._last_close(self.interfaces_of[unit], device)

    def _last_close(self, interface: Interface, device: TunDevice) -> None:
        device.closed()
        interface.flags &= ~(IFF_UP | IFF_RUNNING)
        interface.vnet.purge(interface)
        interface.vnet.tell_state(interface)
        if device.dying or device.transient:
            self.remove(interface)
        if self.stuck_destroy is interface:
            self.stuck_destroy = None
            if self.on_unstuck is not None:
                self.on_unstuck()
