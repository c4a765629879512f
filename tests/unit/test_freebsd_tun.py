"""Making a tun: everything set that wireguard-go needs, and nothing left when it fails."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

import pytest

from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import REQUESTS, ModelKernel
from tests.models.freebsd_programs import WireguardGo, ifconfig_name
from tests.models.freebsd_routes import fail
from tests.models.freebsd_vnet import Interface, Machine, Vnet
from wgsvc.errors import (
    BusyError,
    NameTakenError,
    NotPermittedError,
    OSFailureError,
    UnavailableError,
    WgsvcError,
)
from wgsvc.system.freebsd.system import FreeBSD
from wgsvc.values import Prefix

if TYPE_CHECKING:
    from pathlib import Path

ADDRESS = Prefix(4, 0xC0A8DE01, 24)


@pytest.fixture(name="machine", params=[*FLAVOURS])
def _machine(request: pytest.FixtureRequest) -> Machine:
    return Machine(FLAVOURS[request.param])


@pytest.fixture(name="jail")
def _jail(machine: Machine) -> Vnet:
    return machine.jail("a")


class Spy(ModelKernel):
    """A kernel whose call number `fails_at` gives an errno; it notes what is opened."""

    def __init__(self, vnet: Vnet, *, fails_at: int = -1, number: int = errno.EIO) -> None:
        super().__init__(vnet)
        self.fails_at = fails_at
        self.number = number
        self.count = 0
        self.opened: list[str] = []

    def _tick(self) -> None:
        self.count += 1
        if self.count == self.fails_at:
            raise fail(self.number)

    def open(self, path: str, flags: int) -> int:
        self._tick()
        self.opened.append(path)
        return super().open(path, flags)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        self._tick()
        super().ioctl(descriptor, request, argument)

    def interface_ioctl(self, family: int, request: int, argument: bytearray) -> None:
        if REQUESTS[request][0] not in ("SIOCIFDESTROY", "SIOCGIFSTATUS"):  # the way back
            self._tick()
        super().interface_ioctl(family, request, argument)


def there(vnet: Vnet, name: str) -> Interface:
    found = vnet.by_name(name)
    assert found is not None
    return found


def test_a_tun_is_as_wireguard_go_wants_it(jail: Vnet) -> None:
    kernel = Spy(jail)
    tun = FreeBSD(kernel).create_tun("wg0", "wireguard")
    found = there(jail, "wg0")
    assert found.flags & 0x8012 == 0x8002  # BROADCAST, MULTICAST, no POINTOPOINT
    assert found.groups == {"tun", "wireguard"}
    assert found.nd6_flags == 0x109  # no link-local address, no duplicate address detection
    assert "wg0" in found.description
    assert (tun.kernel_name, tun.ifindex) == ("tun0", found.ifindex)
    assert kernel.opened == ["/dev/tun0"]
    assert not os.get_inheritable(tun.fd)
    assert found.tun is not None
    assert found.tun.transient == jail.machine.flavour.transient
    os.close(tun.fd)


def test_a_daemon_runs_on_it(jail: Vnet, tmp_path: Path) -> None:
    system = FreeBSD(ModelKernel(jail))
    tun = system.create_tun("wg0")
    daemon = WireguardGo(jail, "wg0", tmp_path, descriptor=tun.fd)
    system.add_addresses("wg0", [ADDRESS])
    system.set_mtu("wg0", 1420)
    system.set_up("wg0")
    daemon.read_events()
    assert daemon.bound
    os.close(tun.fd)
    daemon.terminate()


def test_the_opener_is_told_where_the_kernel_tells(jail: Vnet, tmp_path: Path) -> None:
    system = FreeBSD(ModelKernel(jail))
    tells = jail.machine.flavour.status_is_safe
    tun = system.create_tun("wg0")
    found = system.interface("wg0")
    assert found is not None
    assert found.opener_pid == (os.getpid() if tells else None)
    daemon = WireguardGo(jail, "wg0", tmp_path, descriptor=tun.fd)
    os.close(tun.fd)
    found = system.interface("wg0")
    assert found is not None
    assert found.opener_pid == (daemon.pid if tells else None)
    daemon.send(9)
    found = system.interface("wg0")
    if jail.machine.flavour.transient:
        assert found is None
    else:
        assert found is not None
        assert found.opener_pid == (0 if tells else None)
        assert found.kind == "tun"


@pytest.mark.parametrize("number", [errno.EIO, errno.EPERM, errno.EINVAL])
def test_a_failure_at_any_step_leaves_nothing(machine: Machine, number: int) -> None:
    probe = Spy(machine.jail("probe"))
    os.close(FreeBSD(probe).create_tun("wg0").fd)
    for fails_at in range(1, probe.count + 1):
        jail = machine.jail(f"j{fails_at}")
        machine.settle()
        before = set(machine.devices)
        kernel = Spy(jail, fails_at=fails_at, number=number)
        try:
            os.close(FreeBSD(kernel).create_tun("wg0").fd)
        except WgsvcError:
            assert [one.name for one in jail.interfaces.values()] == ["lo0"]
            assert set(machine.devices) == before
        else:
            assert number == errno.EINVAL  # only what an older kernel may refuse is let pass


def test_a_hidden_device_leaks_nothing(jail: Vnet) -> None:
    system = FreeBSD(ModelKernel(jail, hides_tun=True))
    for _ in range(3):
        with pytest.raises(UnavailableError, match="hidden") as caught:
            system.create_tun("wg0")
        assert "add path 'tun*' unhide" in caught.value.cure
        assert "devfs_ruleset" in caught.value.cure
    assert jail.machine.devices == {}


def test_a_jail_without_a_network_stack(machine: Machine) -> None:
    system = FreeBSD(ModelKernel(machine.jail("plain", has_vnet=False)))
    for make in (system.create_tun, system.create_kernel):
        if make == system.create_kernel and not machine.flavour.kernel_wg:
            continue
        with pytest.raises(NotPermittedError) as caught:
            make("wg0")
        assert "vnet" in caught.value.cure


def test_no_root(jail: Vnet) -> None:
    with pytest.raises(NotPermittedError):
        FreeBSD(ModelKernel(jail, root=False)).create_tun("wg0")


def test_a_taken_name_creates_nothing(jail: Vnet) -> None:
    jail.machine.create_tun(jail, None, None)
    ifconfig_name(jail, "tun0", "wg0")
    with pytest.raises(NameTakenError, match="wg0"):
        FreeBSD(ModelKernel(jail)).create_tun("wg0")
    assert list(jail.machine.devices) == [0]
    assert there(jail, "wg0").unit == 0


@pytest.mark.parametrize("name", ["tun7", "tap0", "vmnet3", "tun", "tap"])
def test_a_unit_of_the_kernels_is_no_name(jail: Vnet, name: str) -> None:
    with pytest.raises(NameTakenError, match="kernel gives"):
        FreeBSD(ModelKernel(jail)).create_tun(name)
    assert jail.machine.devices == {}


def test_the_unit_that_the_kernel_gives_is_a_name(jail: Vnet) -> None:
    system = FreeBSD(ModelKernel(jail))
    tun = system.create_tun("tun0")
    assert (tun.name, tun.kernel_name) == ("tun0", "tun0")
    os.close(tun.fd)
    system.destroy("tun0", tun.ifindex)
    assert jail.machine.devices == {}


@pytest.mark.parametrize("name", ["tunnel", "tape", "wg-tun0", "vmnets"])
def test_names_that_only_look_alike_are_fine(jail: Vnet, name: str) -> None:
    os.close(FreeBSD(ModelKernel(jail)).create_tun(name).fd)


def test_somebody_faster_keeps_it_and_nothing_blocks(jail: Vnet) -> None:
    """Between creation and open somebody opened the new device: destroying it would wait."""

    class Raced(ModelKernel):
        def open(self, path: str, flags: int) -> int:
            if "faster" not in self.__dict__:
                self.faster = ModelKernel(jail, pid=4711).open(path, flags)
            return super().open(path, flags)

    kernel = Raced(jail)
    with pytest.raises(BusyError):
        FreeBSD(kernel).create_tun("wg0")
    os.close(kernel.faster)


def test_the_kernels_own_under_any_name(machine: Machine, jail: Vnet) -> None:
    system = FreeBSD(ModelKernel(jail))
    assert system.has_kernel_wireguard() == machine.flavour.kernel_wg
    if not machine.flavour.kernel_wg:
        with pytest.raises(UnavailableError) as caught:
            system.create_kernel("wg0")
        assert "kldload if_wg" in caught.value.cure
        return
    for name in ("office", "wg0", "wg1"):
        ifindex = system.create_kernel(name)
        found = system.interface(name)
        assert found is not None
        assert (found.ifindex, found.kind, found.opener_pid) == (ifindex, "wireguard", None)
    with pytest.raises(NameTakenError):
        system.create_kernel("office")


@pytest.mark.parametrize(("group", "groups"), [("", {"tun"}), ("vpn.a_b", {"tun", "vpn.a_b"})])
def test_the_group_is_the_one_that_is_asked_for(jail: Vnet, group: str, groups: set[str]) -> None:
    tun = FreeBSD(ModelKernel(jail)).create_tun("wg0", group)
    assert there(jail, "wg0").groups == groups
    os.close(tun.fd)


def test_what_the_kernel_would_not_take_as_a_group_is_rolled_back(jail: Vnet) -> None:
    with pytest.raises(OSFailureError, match="SIOCAIFGROUP"):
        FreeBSD(ModelKernel(jail)).create_tun("wg0", "wg0")  # a digit last
    assert jail.by_name("wg0") is None


def test_a_kernel_wg_is_in_the_group_of_its_driver_alone(machine: Machine, jail: Vnet) -> None:
    if not machine.flavour.kernel_wg:
        pytest.skip("there is none in this version")
    FreeBSD(ModelKernel(jail)).create_kernel("wg0")
    assert there(jail, "wg0").groups == {"wg"}


def test_a_tun_in_group_wg_is_still_a_tun(jail: Vnet) -> None:
    system = FreeBSD(ModelKernel(jail))
    tun = system.create_tun("wg0", "wg")
    found = system.interface("wg0")
    assert found is not None
    assert found.kind == "tun"
    os.close(tun.fd)


def test_mtu_and_up_carry_their_values(jail: Vnet) -> None:
    system = FreeBSD(ModelKernel(jail))
    tun = system.create_tun("wg0")
    listener = system.monitor_open()
    system.set_mtu("wg0", 1420)
    system.set_mtu("wg0", 1420)
    words = [system.monitor_read(listener) for _ in range(2)]
    assert words == [[f"link wg0 {tun.ifindex}"]] * 2  # also the second time
    listener.close()
    os.close(tun.fd)


def test_a_longer_ipv6_prefix_replaces_the_old_one(jail: Vnet) -> None:
    system = FreeBSD(ModelKernel(jail))
    tun = system.create_tun("wg0")
    old, new = Prefix(6, 0xFD << 120 | 1, 64), Prefix(6, 0xFD << 120 | 1, 128)
    system.add_addresses("wg0", [old])
    system.add_addresses("wg0", [new])
    found = system.interface("wg0")
    assert found is not None
    assert found.addresses == (new,)
    os.close(tun.fd)


def test_an_address_that_is_there_is_not_touched(jail: Vnet) -> None:
    kernel = ModelKernel(jail)
    system = FreeBSD(kernel)
    tun = system.create_tun("wg0")
    system.add_addresses("wg0", [ADDRESS])
    kernel.calls.clear()
    system.add_addresses("wg0", [ADDRESS])
    assert {name for name, _subject in kernel.calls} == {"SIOCGIFINDEX"}
    os.close(tun.fd)


def test_the_name_of_the_failing_call_is_told(jail: Vnet) -> None:
    system = FreeBSD(ModelKernel(jail))
    with pytest.raises(OSFailureError) as caught:
        system.set_mtu("nope", 1400)
    assert (caught.value.call, caught.value.subject) == ("SIOCSIFMTU", "nope")


def test_the_rename_gets_a_pointer_to_16_bytes(jail: Vnet) -> None:
    """A name without a NUL in its 16 bytes is refused by the kernel, so there is always one."""
    names = ("a", "fifteen-bytes-x")
    system = FreeBSD(ModelKernel(jail))
    tuns = [system.create_tun(name) for name in names]
    assert [struct.pack("16s", name.encode())[-1] for name in names] == [0, 0]
    assert all(jail.by_name(name) is not None for name in names)
    for tun in tuns:
        os.close(tun.fd)
