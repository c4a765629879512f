"""
The model kernel behaves as the real ones did.

Each test is named after the row of observed-13.2 it reproduces: section_row.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.models import freebsd_wire as wire
from tests.models.freebsd_flavours import FLAVOURS
from tests.models.freebsd_kernel import ModelKernel
from tests.models.freebsd_programs import (
    ExitedError,
    WireguardGo,
    ifconfig_name,
    wg_quick_down,
    wg_quick_up,
)
from tests.models.freebsd_vnet import (
    IFF_RUNNING,
    IFF_UP,
    Interface,
    KernelPanic,
    Machine,
    Vnet,
    WouldBlockForever,
)
from wgsvc.system.freebsd.system import FreeBSD
from wgsvc.values import Prefix, Route

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ADDRESS = (wire.INET, 0xC0A8DE01, 24)
OPEN_FLAGS = os.O_RDWR | os.O_CLOEXEC
CREATE, DESTROY, RENAME = 0xC020697C, 0x80206979, 0x80206928
SET_FLAGS, SET_MTU, STATUS = 0x80206910, 0x80206934, 0xC331693B
TRANSIENT, GET_TRANSIENT = 0x80047462, 0x40047463


@pytest.fixture(name="machine")
def _machine() -> Machine:
    return Machine(FLAVOURS["13.2"])


@pytest.fixture(name="jail")
def _jail(machine: Machine) -> Vnet:
    return machine.jail("a")


@pytest.fixture(name="place", params=["host", "jail"])
def _place(request: pytest.FixtureRequest, machine: Machine) -> Vnet:
    return machine.host if request.param == "host" else machine.jail("a")


def request(vnet: Vnet, code: int, name: str, value: int = 0) -> bytearray:
    """Send an interface request with a number after the name."""
    size = 817 if code == STATUS else 32
    argument = bytearray(struct.pack("=16si", name.encode(), value).ljust(size, b"\0"))
    ModelKernel(vnet).interface_ioctl(2, code, argument)
    return argument


def create(vnet: Vnet, driver: str) -> str:
    return request(vnet, CREATE, driver)[:16].rstrip(b"\0").decode()


def there(vnet: Vnet, name: str) -> Interface:
    found = vnet.by_name(name)
    assert found is not None
    return found


def errno_of(call: Callable[[], object]) -> int:
    with pytest.raises(OSError, match=r".") as caught:
        call()
    assert caught.value.errno is not None
    return caught.value.errno


def premade(vnet: Vnet, name: str) -> int:
    """Make a tun as section 2 did; return the descriptor."""
    kernel = ModelKernel(vnet)
    unit = create(vnet, "tun")
    descriptor = kernel.open(f"/dev/{unit}", OPEN_FLAGS)
    kernel.ioctl(descriptor, 0x80047460, bytearray(struct.pack("=i", 1)))
    kernel.ioctl(descriptor, 0x8004745E, bytearray(struct.pack("=i", 0x8002)))
    ifconfig_name(vnet, unit, name)
    return descriptor


def held(place: Vnet, sockets: Path) -> tuple[int, WireguardGo]:
    """Return our descriptor and a configured daemon on a copy of it, with address and route."""
    descriptor = premade(place, "wg7")
    daemon = WireguardGo(place, "wg7", sockets, descriptor=descriptor)
    place.add_address(there(place, "wg7"), ADDRESS)
    request(place, SET_MTU, "wg7", 1400)
    daemon.configure()
    return descriptor, daemon


def test_an_ipv4_address_takes_the_routes_along_that_were_added_under_it(jail: Vnet) -> None:
    descriptor = premade(jail, "wg0")
    wg0 = there(jail, "wg0")
    system = FreeBSD(ModelKernel(jail))
    asked = [Route(Prefix(4, 198 << 24, 8), wg0.ifindex), Route(Prefix(6, 7, 64), wg0.ifindex)]
    near = wire.INET, ADDRESS[1] + 7, 24
    jail.add_address(wg0, ADDRESS)
    assert system.add_routes(asked) == []
    jail.add_address(wg0, near)
    jail.delete_address(wg0, ADDRESS)
    left = {route.prefix for route in system.routes(ifindex=wg0.ifindex)}
    assert left == {asked[1].prefix.network, Prefix(4, ADDRESS[1] & ~255, 24)}
    jail.delete_address(wg0, near)
    left = {route.prefix for route in system.routes(ifindex=wg0.ifindex)}
    assert left == {asked[1].prefix.network}
    os.close(descriptor)


# --- section 1: life of a tun under wireguard-go


def test_1_1_a_daemon_makes_its_interface(jail: Vnet, tmp_path: Path) -> None:
    daemon = WireguardGo(jail, "wg0", tmp_path)
    found = there(jail, "wg0")
    assert found.groups == {"tun"}
    assert (found.flags, found.mtu) == (0x8002, 1420)
    assert request(jail, STATUS, "wg0")[16:].startswith(f"\tOpened by PID {daemon.pid}\n".encode())
    daemon.terminate()


def test_1_2_up_after_the_first_address_says_nothing(jail: Vnet, tmp_path: Path) -> None:
    daemon = WireguardGo(jail, "wg0", tmp_path)
    jail.add_address(there(jail, "wg0"), ADDRESS)
    assert there(jail, "wg0").flags & IFF_UP  # silently
    request(jail, SET_FLAGS, "wg0", IFF_UP)
    daemon.read_events()
    assert not daemon.bound
    daemon.terminate()


def test_1_3_an_mtu_makes_it_bind(jail: Vnet, tmp_path: Path) -> None:
    daemon = WireguardGo(jail, "wg0", tmp_path)
    jail.add_address(there(jail, "wg0"), ADDRESS)
    request(jail, SET_MTU, "wg0", 1400)
    daemon.read_events()
    assert daemon.bound
    daemon.terminate()


def test_1_4_kill_leaves_an_empty_interface(jail: Vnet, tmp_path: Path) -> None:
    before = set(jail.fibs[0])
    daemon = WireguardGo(jail, "wg0", tmp_path)
    jail.add_address(there(jail, "wg0"), ADDRESS)
    assert set(jail.fibs[0]) != before
    daemon.send(signal.SIGKILL)
    found = there(jail, "wg0")
    assert (found.addresses, found.flags) == ([], 0x8002)
    assert set(jail.fibs[0]) == before
    assert b"Opened" not in request(jail, STATUS, "wg0")
    assert daemon.socket.exists()


def test_1_5_to_1_7_a_dead_end_for_wg_quick(jail: Vnet, tmp_path: Path) -> None:
    daemon = WireguardGo(jail, "wg0", tmp_path)
    daemon.send(signal.SIGKILL)
    with pytest.raises(ExitedError, match="interface wg0 already exists"):
        WireguardGo(jail, "wg0", tmp_path)
    with pytest.raises(ExitedError, match="`wg0' is not a WireGuard interface"):
        wg_quick_down(daemon)
    with pytest.raises(ExitedError, match="`wg0' already exists"):
        wg_quick_up(jail, "wg0", tmp_path)


def test_1_8_a_closed_renamed_tun_is_destroyed_in_a_jail(jail: Vnet, tmp_path: Path) -> None:
    WireguardGo(jail, "wg0", tmp_path).send(signal.SIGKILL)
    request(jail, DESTROY, "wg0")
    assert jail.by_name("wg0") is None


def test_1_8_on_12_0_it_is_not(tmp_path: Path) -> None:
    machine = Machine(FLAVOURS["12.0"])
    jail = machine.jail("a")
    WireguardGo(jail, "wg0", tmp_path).send(signal.SIGKILL)
    assert errno_of(lambda: request(jail, DESTROY, "wg0")) == errno.EINVAL
    ifconfig_name(jail, "wg0", "tun0")
    request(jail, DESTROY, "tun0")
    WireguardGo(machine.host, "wg0", tmp_path).terminate()
    assert machine.host.by_name("wg0") is None  # there the cloner is


def test_1_9_term_leaves_nothing(jail: Vnet, tmp_path: Path) -> None:
    daemon = WireguardGo(jail, "wg0", tmp_path)
    daemon.send(signal.SIGTERM)
    assert daemon.state == "exited"
    assert jail.by_name("wg0") is None
    assert not daemon.socket.exists()


def test_1_10_a_daemon_named_as_its_unit(jail: Vnet, tmp_path: Path) -> None:
    WireguardGo(jail, "tun0", tmp_path).terminate()
    with pytest.raises(ExitedError, match="failed to rename tun0 to tun0: file exists"):
        WireguardGo(Machine(FLAVOURS["12.0"]).host, "tun0", tmp_path)


def test_1_11_units_are_shared_by_all_jails(machine: Machine, jail: Vnet) -> None:
    other = machine.jail("b")
    assert create(jail, "tun") == "tun0"
    assert errno_of(lambda: request(other, CREATE, "tun0")) == errno.EEXIST
    assert create(other, "tun") == "tun1"


def test_1_12_a_look_at_dev_tun_makes_an_interface(machine: Machine) -> None:
    ModelKernel(machine.host).stat("/dev/tun")
    assert machine.host.by_name("tun0") is not None


def test_1_13_a_hidden_tun_leaks_one_each_time(jail: Vnet, tmp_path: Path) -> None:
    for unit in (0, 1):
        with pytest.raises(ExitedError, match="open /dev/tun: no such file or directory"):
            WireguardGo(jail, "wg0", tmp_path, hides_tun=True)
        assert jail.by_name(f"tun{unit}") is not None
    assert create(jail, "tun") == "tun2"
    hidden = ModelKernel(jail, hides_tun=True)
    assert errno_of(lambda: hidden.open("/dev/tun2", OPEN_FLAGS)) == errno.ENOENT


def test_1_14_a_renamed_interface_outlives_its_daemon(jail: Vnet, tmp_path: Path) -> None:
    daemon = WireguardGo(jail, "wgd", tmp_path)
    ifconfig_name(jail, "wgd", "wge")
    daemon.terminate()
    assert daemon.state == "exited"
    assert jail.by_name("wge") is not None
    request(jail, DESTROY, "wge")
    assert jail.by_name("wge") is None


def test_1_15_a_tun_through_dev_tun_keeps_a_jail_dying(
    machine: Machine, jail: Vnet, tmp_path: Path
) -> None:
    WireguardGo(jail, "wg0", tmp_path).send(signal.SIGKILL)
    machine.remove_jail(jail)
    assert jail.dying
    other = machine.jail("b")
    create(other, "tun")  # no credential: it can go
    machine.remove_jail(other)
    assert other not in machine.jails


def test_1_16_the_kernels_own(jail: Vnet) -> None:
    assert create(jail, "wg") == "wg0"
    found = there(jail, "wg0")
    assert (found.flags, found.groups) == (0x8080, {"wg"})
    request(jail, DESTROY, "wg0")
    assert jail.by_name("wg0") is None


def test_1_17_no_transient_before_15(place: Vnet) -> None:
    descriptor = premade(place, "wg7")
    kernel = ModelKernel(place)
    assert errno_of(lambda: kernel.ioctl(descriptor, TRANSIENT, bytearray(4))) == errno.ENOTTY
    os.close(descriptor)


# --- section 2: a pre-made tun handed to wireguard-go


def test_2_1_a_held_descriptor_keeps_everything(place: Vnet, tmp_path: Path) -> None:
    descriptor, daemon = held(place, tmp_path)
    routes = dict(place.fibs[0])
    daemon.send(signal.SIGKILL)
    found = there(place, "wg7")
    assert found.flags & IFF_UP
    assert found.flags & IFF_RUNNING
    assert (found.addresses, found.mtu, place.fibs[0]) == ([ADDRESS], 1400, routes)
    os.close(descriptor)
    place.machine.settle()
    assert found.addresses == []


def test_2_2_a_respawn_resets_mtu_and_configuration_only(place: Vnet, tmp_path: Path) -> None:
    descriptor, daemon = held(place, tmp_path)
    routes = dict(place.fibs[0])
    for _ in range(5):
        daemon.send(signal.SIGKILL)
        daemon = WireguardGo(place, "wg7", tmp_path, descriptor=descriptor)
        found = there(place, "wg7")
        assert (found.addresses, place.fibs[0]) == ([ADDRESS], routes)
        assert found.mtu == 1420
        assert daemon.answers()
        assert not daemon.configured
    os.close(descriptor)
    daemon.terminate()


def test_2_3_term_while_held_freezes_every_destroy(place: Vnet, tmp_path: Path) -> None:
    descriptor, daemon = held(place, tmp_path)
    create(place, "wg")
    daemon.send(signal.SIGTERM)
    assert daemon.state == "D"
    assert daemon.wchan.startswith("tun_cond")
    daemon.send(signal.SIGKILL)
    assert daemon.state == "D"
    create(place, "tun")  # creating and looking still work
    with pytest.raises(WouldBlockForever):
        request(place, DESTROY, "wg0")
    os.close(descriptor)
    place.machine.settle()
    assert daemon.state == "exited"
    assert place.by_name("wg7") is None
    request(place, DESTROY, "wg0")


def test_2_4_the_socket_goes_before_the_tun_is_closed(place: Vnet, tmp_path: Path) -> None:
    descriptor, daemon = held(place, tmp_path)
    kernel = ModelKernel(place)
    watch = kernel.watch_directory(str(tmp_path))
    assert not readable(watch)

    def close_ours() -> None:
        assert readable(watch)
        os.close(descriptor)

    daemon.terminate(close_ours)
    assert daemon.state == "exited"
    assert place.by_name("wg7") is None
    kernel.drain(watch)
    assert not readable(watch)
    os.close(watch)


def test_2_5_our_close_first_then_term(place: Vnet, tmp_path: Path) -> None:
    descriptor, daemon = held(place, tmp_path)
    os.close(descriptor)
    daemon.send(signal.SIGTERM)
    assert daemon.state == "exited"
    assert place.by_name("wg7") is None
    assert not daemon.socket.exists()


def test_2_6_root_is_needed(place: Vnet, tmp_path: Path) -> None:
    descriptor = premade(place, "wg7")
    with pytest.raises(ExitedError, match="failed to set MTU on wg7: operation not permitted"):
        WireguardGo(place, "wg7", tmp_path, descriptor=descriptor, root=False)
    os.close(descriptor)


@pytest.mark.parametrize("listens", ["parent", "child"])
def test_2_7_credentials_name_who_listens(place: Vnet, tmp_path: Path, listens: str) -> None:
    path = str(tmp_path / "wg7.sock")
    code = "import socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\n"
    if listens == "child":
        code += "s.listen()\n"
    code += "print(flush=True)\nsys.stdin.read()\n"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        if listens == "parent":
            server.listen()
        with subprocess.Popen(
            [sys.executable, "-c", code, str(server.fileno())],
            pass_fds=[server.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            client.connect(path)
            answer = ModelKernel(place).peer_credentials(client)
            assert len(answer) == 88
            expected = child.pid if listens == "child" else os.getpid()
            assert struct.unpack_from("i", answer, 80)[0] == expected


def readable(descriptor: int) -> bool:
    import select

    return bool(select.select([descriptor], [], [], 0)[0])


# --- observed-15, and what was read in sources only


def test_15_1_a_transient_tun_goes_with_its_last_descriptor(tmp_path: Path) -> None:
    jail = Machine(FLAVOURS["15"]).jail("a")
    descriptor = premade(jail, "wgt")
    kernel = ModelKernel(jail)
    answer = bytearray(4)
    kernel.ioctl(descriptor, GET_TRANSIENT, answer)
    assert answer == bytes(4)
    kernel.ioctl(descriptor, TRANSIENT, bytearray(struct.pack("=i", 1)))
    daemon = WireguardGo(jail, "wgt", tmp_path, descriptor=descriptor)
    os.close(descriptor)
    daemon.send(signal.SIGKILL)
    assert jail.by_name("wgt") is None


def test_15_2_the_first_address_is_announced(tmp_path: Path) -> None:
    jail = Machine(FLAVOURS["15"]).jail("a")
    daemon = WireguardGo(jail, "wg0", tmp_path)
    jail.add_address(there(jail, "wg0"), ADDRESS)
    daemon.read_events()
    assert daemon.bound
    daemon.terminate()


@pytest.mark.parametrize(("flavour", "number"), [("12.0", 0), ("13.2", errno.ENXIO), ("15", 0)])
def test_15_4_a_tun_of_the_hosts_destroyed_in_a_jail(flavour: str, number: int) -> None:
    machine = Machine(FLAVOURS[flavour])
    jail = machine.jail("a")
    unit = create(machine.host, "tun")
    machine.move(there(machine.host, unit), jail)
    if number:
        assert errno_of(lambda: request(jail, DESTROY, unit)) == number
    else:
        request(jail, DESTROY, unit)


def test_a_foreign_unit_as_name_panics_later(machine: Machine, jail: Vnet) -> None:
    create(jail, "tun")
    ifconfig_name(jail, "tun0", "tun5")
    with pytest.raises(KernelPanic):
        request(machine.host, CREATE, "tun5")


def test_destroy_while_open_waits_and_a_second_is_enxio_on_12() -> None:
    vnet = Machine(FLAVOURS["12.0"]).host
    descriptor = premade(vnet, "wg7")
    with pytest.raises(WouldBlockForever):
        request(vnet, DESTROY, "wg7")
    assert errno_of(lambda: request(vnet, DESTROY, "wg7")) == errno.ENXIO
    os.close(descriptor)
    vnet.machine.settle()
    assert vnet.by_name("wg7") is None


def test_lo0_is_nobodys_to_destroy(place: Vnet) -> None:
    assert errno_of(lambda: request(place, DESTROY, "lo0")) == errno.EINVAL
    assert errno_of(lambda: request(place, DESTROY, "nope")) == errno.ENXIO


def test_a_jail_without_a_network_stack_may_not(machine: Machine) -> None:
    shared = machine.jail("plain", has_vnet=False)
    assert errno_of(lambda: create(shared, "tun")) == errno.EPERM
