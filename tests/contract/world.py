"""The world around each implementation: what tests need besides `System`."""

from __future__ import annotations

import os
import select
import subprocess
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from wgsvc.values import Prefix

if TYPE_CHECKING:
    import socket

    from wgsvc.system.base import System, Tun

MODEL = os.path.join(os.path.dirname(__file__), "..", "models", "freebsd_kernel.py")
DEADLINE_S = 10.0


def prefix(text: str) -> Prefix:
    """Return `192.0.2.1/24` as a Prefix, host bits kept."""
    import ipaddress

    interface = ipaddress.ip_interface(text)
    return Prefix(interface.version, int(interface.ip), interface.network.prefixlen)


class World:
    """
    What tests need besides `System`: other people's interfaces, and an end for ours.

    `isolated`: nothing but the test uses this network stack, so default routes may change.
    """

    def __init__(self, system: System, *, isolated: bool) -> None:
        self.system = system
        self.isolated = isolated
        self.made: list[Tun] = []

    def tun(self, name: str) -> Tun:
        """Make a tun that the test's end removes."""
        tun = self.system.create_tun(name)
        self.made.append(tun)
        return tun

    def close(self, tun: Tun) -> None:
        """Close our descriptor, as the last holder."""
        self.made.remove(tun)
        self._close(tun.fd)

    def _close(self, descriptor: int) -> None:
        os.close(descriptor)

    def foreign(self, name: str) -> int:
        """Make an interface that is up and not ours; return its index."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Remove what the test left."""
        for tun in tuple(self.made):
            self.close(tun)
            self.system.destroy(tun.name, tun.ifindex)

    def index(self, name: str) -> int:
        """Return the index of an interface that is there."""
        found = self.system.interface(name)
        assert found is not None
        return found.ifindex


class LinuxWorld(World):
    """A fresh network namespace: what is left goes with it."""

    def foreign(self, name: str) -> int:
        """Make one end of a veth pair."""
        peer = f"{name}p"
        run("ip", "link", "add", name, "type", "veth", "peer", "name", peer)
        run("ip", "link", "set", name, "up")
        run("ip", "link", "set", peer, "up")
        return self.index(name)


class FreeBSDWorld(World):
    """The host or jail the tests run in."""

    def __init__(self, system: System) -> None:
        jailed = run("sysctl", "-n", "security.jail.jailed").strip() == "1"
        super().__init__(system, isolated=jailed)
        if jailed and "127.0.0.1" not in run("ifconfig", "lo0"):  # a jail without rc(8)
            run("ifconfig", "lo0", "inet", "127.0.0.1/8", "up")
        self.loopbacks: list[str] = []

    def foreign(self, name: str) -> int:
        """Make a loopback interface."""
        run("ifconfig", "lo", "create", "name", name)
        self.loopbacks.append(name)
        run("ifconfig", name, "up")
        return self.index(name)

    def tidy(self) -> None:
        """Remove the loopbacks too."""
        super().tidy()
        for name in self.loopbacks:
            run("ifconfig", name, "destroy")


class ModelWorld(World):
    """A model of FreeBSD's kernel: a VNET jail in it, nothing real."""

    def _close(self, descriptor: int) -> None:
        kernel: Any = self.system
        kernel.kernel.close(descriptor)

    def foreign(self, name: str) -> int:
        """Make a tun that somebody else uses."""
        return self.system.create_tun(name).ifindex


def run(*command: str) -> str:
    """Run a program that must succeed; return what it says."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def model_system(flavour: str) -> System:
    """Return the FreeBSD implementation over a fresh model kernel."""
    if not os.path.exists(MODEL):
        pytest.skip("there is no tests/models/freebsd_kernel.py")
    system: System = import_module("tests.models.freebsd_kernel").make_system(flavour)
    return system


def readable(descriptor: int | socket.socket, timeout_s: float) -> bool:
    """Wait until there is something to read."""
    return bool(select.select([descriptor], [], [], max(0.0, timeout_s))[0])
