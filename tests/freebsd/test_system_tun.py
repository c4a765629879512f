"""tun on a real FreeBSD kernel, under the real wireguard-go."""

from __future__ import annotations

import errno
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from wgsvc.errors import BusyError, NameTakenError, OSFailureError
from wgsvc.system import current
from wgsvc.system.base import Interface, System, Tun
from wgsvc.system.freebsd import ioctl
from wgsvc.values import Prefix, Route

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "wgt0"
SOCKETS = "/var/run/wireguard"
DEADLINE_S = 20.0
ADDRESSES = [Prefix(4, 198 << 24 | 18 << 16 | 1, 24), Prefix(6, 0x20010DB8 << 96 | 0xC0 << 80, 64)]
NET = Prefix(4, 198 << 24 | 19 << 16, 16)

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not sys.platform.startswith("freebsd"), reason="needs FreeBSD"),
]
needs_wireguard_go = pytest.mark.skipif(
    shutil.which("wireguard-go") is None, reason="needs wireguard-go"
)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def there(system: System, name: str = NAME) -> Interface:
    found = system.interface(name)
    assert found is not None
    return found


def is_there(path: str) -> bool:
    """Whether the daemon behind a socket answers."""
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(path)
        except OSError:
            return False
        return True


@pytest.fixture(name="system")
def _system() -> Iterator[System]:
    """Check that a test leaves the interfaces that it found."""
    system = current()
    before = [(one.name, one.ifindex) for one in system.interfaces()]
    yield system
    assert [(one.name, one.ifindex) for one in system.interfaces()] == before


class Tunnel:
    """A tun, our copy of its descriptor, and a wireguard-go on another."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.tun: Tun = system.create_tun(NAME, "wireguard")
        self.descriptor = self.tun.fd
        self.daemon: subprocess.Popen[bytes] | None = None

    def spawn(self) -> subprocess.Popen[bytes]:
        path = os.path.join(SOCKETS, f"{NAME}.sock")
        if os.path.exists(path):
            os.unlink(path)
        self.daemon = subprocess.Popen(
            ["wireguard-go", "-f", NAME],
            env={
                "PATH": os.environ["PATH"],
                "WG_TUN_FD": str(self.descriptor),
                "WG_PROCESS_FOREGROUND": "1",
                "LOG_LEVEL": "silent",
            },
            pass_fds=[self.descriptor],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: is_there(path))
        return self.daemon

    def configure(self) -> None:
        self.system.add_addresses(NAME, ADDRESSES)
        self.system.set_mtu(NAME, 1400)
        self.system.set_up(NAME)
        assert self.system.add_routes([Route(NET, self.tun.ifindex)]) == []

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def kill(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait(DEADLINE_S)
        self.daemon = None

    def end(self) -> None:
        self.close()
        self.kill()
        self.system.destroy(NAME, self.tun.ifindex)
        if os.path.exists(os.path.join(SOCKETS, f"{NAME}.sock")):
            os.unlink(os.path.join(SOCKETS, f"{NAME}.sock"))


@pytest.fixture(name="tunnel")
def _tunnel(system: System) -> Iterator[Tunnel]:
    tunnel = Tunnel(system)
    yield tunnel
    tunnel.end()


def is_transient(tunnel: Tunnel) -> bool:
    import fcntl

    answer = bytearray(4)
    try:
        fcntl.ioctl(tunnel.descriptor, ioctl.TUNSTRANSIENT.code ^ 0xC0000001, answer)
    except OSError as error:
        assert error.errno == errno.ENOTTY  # noqa: PT017  the kernel knows no such request
        return False
    return answer != bytes(4)


def test_a_tun_as_ifconfig_shows_it(tunnel: Tunnel) -> None:
    shown = said("ifconfig", NAME)
    assert "BROADCAST" in shown
    assert "POINTOPOINT" not in shown
    assert "AUTO_LINKLOCAL" not in shown
    assert "NO_DAD" in shown
    assert f"WireGuard tunnel {NAME}" in shown
    assert NAME in said("ifconfig", "-g", "wireguard").split()
    assert NAME not in said("ifconfig", "-g", "wg").split()
    assert there(tunnel.system).opener_pid == os.getpid()
    assert tunnel.tun.kernel_name.startswith("tun")


def test_making_and_removing_leaves_nothing(system: System) -> None:
    for _ in range(30):
        tun = system.create_tun(NAME)
        os.close(tun.fd)
        system.destroy(NAME, tun.ifindex)
        assert system.interface(NAME) is None


def test_what_we_hold_ourselves_is_not_destroyed(tunnel: Tunnel) -> None:
    with pytest.raises(BusyError, match=str(os.getpid())):
        tunnel.system.destroy(NAME, tunnel.tun.ifindex)
    assert there(tunnel.system).ifindex == tunnel.tun.ifindex


def test_a_transient_tun_goes_with_its_last_descriptor(tunnel: Tunnel) -> None:
    transient = is_transient(tunnel)
    tunnel.configure()
    tunnel.close()
    if transient:
        until(lambda: tunnel.system.interface(NAME) is None)
        return
    found = there(tunnel.system)
    assert (found.addresses, found.up, found.opener_pid) == ((), False, 0)


@pytest.mark.parametrize("name", ["tun4711", "tap4711", "vmnet4711"])
def test_a_unit_of_the_kernels_is_no_name(system: System, name: str) -> None:
    with pytest.raises(NameTakenError):
        system.create_tun(name)


def test_lo0_is_left(system: System) -> None:
    from wgsvc.errors import NotPermittedError

    with pytest.raises(NotPermittedError):
        system.destroy("lo0", there(system, "lo0").ifindex)


def test_a_fib_that_is_not_there(system: System) -> None:
    count = system.fib_count()
    assert count is not None
    with pytest.raises(OSFailureError) as caught:
        system.add_routes([Route(NET, 1, table=count)])
    assert (caught.value.call, caught.value.errno) == ("SO_SETFIB", errno.EINVAL)
    with pytest.raises(OSFailureError):
        system.monitor_open(count)


@needs_wireguard_go
def test_a_crash_loses_nothing_while_we_hold_a_copy(tunnel: Tunnel) -> None:
    tunnel.spawn()
    tunnel.configure()
    before = tunnel.system.routes(ifindex=tunnel.tun.ifindex)
    for _ in range(3):
        tunnel.kill()
        found = there(tunnel.system)
        assert (set(found.addresses), found.up) == (set(ADDRESSES), True)
        tunnel.spawn()
        found = there(tunnel.system)
        assert set(found.addresses) == set(ADDRESSES)
        assert found.mtu == 1420  # it resets it
        tunnel.system.set_mtu(NAME, 1400)
        assert tunnel.system.routes(ifindex=tunnel.tun.ifindex) == before


@needs_wireguard_go
def test_a_running_daemon_is_named_and_left(tunnel: Tunnel) -> None:
    daemon = tunnel.spawn()
    tunnel.close()
    with pytest.raises(BusyError, match=str(daemon.pid)):
        tunnel.system.destroy(NAME, tunnel.tun.ifindex)
    assert daemon.poll() is None
    assert there(tunnel.system).opener_pid == daemon.pid


@needs_wireguard_go
def test_a_copy_whose_opener_has_ended_is_left(tunnel: Tunnel) -> None:
    tunnel.spawn()
    tunnel.kill()
    with pytest.raises(BusyError, match="can't be named"):
        tunnel.system.destroy(NAME, tunnel.tun.ifindex)
    assert there(tunnel.system).ifindex == tunnel.tun.ifindex


@needs_wireguard_go
def test_the_watch_frees_a_daemon_that_others_end(tunnel: Tunnel) -> None:
    daemon = tunnel.spawn()
    tunnel.configure()
    watch = tunnel.system.watch_directory(SOCKETS)
    assert watch is not None
    exited = tunnel.system.exit_watch(daemon.pid)
    try:
        tunnel.system.watch_drain(watch)
        assert not select.select([watch], [], [], 0)[0]
        daemon.send_signal(signal.SIGTERM)
        assert select.select([watch], [], [], DEADLINE_S)[0]
        assert not is_there(os.path.join(SOCKETS, f"{NAME}.sock"))
        tunnel.close()
        assert select.select([exited], [], [], DEADLINE_S)[0]
        assert daemon.wait(DEADLINE_S) == 0
        until(lambda: tunnel.system.interface(NAME) is None)
    finally:
        os.close(watch)
        os.close(exited)


@needs_wireguard_go
def test_the_socket_names_its_daemon(tunnel: Tunnel) -> None:
    daemon = tunnel.spawn()
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(os.path.join(SOCKETS, f"{NAME}.sock"))
        assert tunnel.system.peer_pid(asking) == daemon.pid


@needs_wireguard_go
def test_the_mtu_makes_it_bind(tunnel: Tunnel) -> None:
    daemon = tunnel.spawn()
    tunnel.configure()
    until(lambda: str(daemon.pid) in said("sockstat", "-4", "-l", "-P", "udp"))
