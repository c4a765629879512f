"""VNET jails as fixtures; everything is removed, also after a failure."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.freebsd.machines import HOST_FILE, Machine, set_rc, why_no_jails
from wgsvc.lab import freebsd_jails, network
from wgsvc.lab.freebsd_jails import Jail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIRE = {"vpnr1": "172.31.1.11", "vpnr2": "172.31.2.11"}  # one wire for both; the keys are the lab's

PROGRAM = "/usr/local/etc/wgsvc"


class Pair(NamedTuple):
    """Two jails and the wire between them."""

    one: Machine
    two: Machine


def outside() -> list[str]:
    """Return what jails and tunnels could leave on this host."""
    return [
        freebsd_jails.output(["ifconfig", "-l"]),
        freebsd_jails.output(["jls", "-d", "name"]),
        freebsd_jails.output(["mount", "-p"]),
        freebsd_jails.output(["devfs", "rule", "showsets"]),
    ]


class Builder:
    """Makes jails below one folder."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.prefix = f"wgsvctest{os.getpid()}"
        self.rulesets: list[int] = []

    def ruleset(self, devices: tuple[str, ...] = freebsd_jails.DEVICES) -> int:
        """Return a devfs ruleset of ours."""
        self.rulesets.append(freebsd_jails.free_ruleset())
        freebsd_jails.make_ruleset(self.rulesets[-1], devices)
        return self.rulesets[-1]

    def jail(
        self,
        name: str,
        *,
        vnet: bool = True,
        hidden: bool = False,
        children: int = 0,
        writable: tuple[str, ...] = (),
    ) -> Machine:
        """Make a jail. `name` may be `parent.child`."""
        shown = tuple(d for d in freebsd_jails.DEVICES if not (hidden and d.startswith("tun")))
        made = Jail(f"{self.prefix}{name}", os.path.join(self.folder, name))
        freebsd_jails.create(
            made, self.ruleset(shown), vnet=vnet, children=children, writable=writable
        )
        machine = Machine(made)
        if vnet:
            machine.said("ifconfig", "lo0", "127.0.0.1/8", "up")
        return machine

    def pair(self, writable: tuple[str, ...] = ()) -> Pair:
        """Make two jails with a wire between them, and the article's two files."""
        switch = self.jail("switch", children=2)
        one, two = (self.jail(f"switch.{name}", writable=writable) for name in WIRE)
        end = switch.said("ifconfig", "epair", "create").strip().removesuffix("a")
        for machine, letter, (name, address) in zip((one, two), "ab", WIRE.items(), strict=True):
            switch.said("ifconfig", f"{end}{letter}", "vnet", name)
            machine.said("ifconfig", f"{end}{letter}", "name", f"vi_{name}")
            machine.said("ifconfig", f"vi_{name}", f"{address}/16", "up")
            machine.write(network.CONFIGS[name])
        return Pair(one, two)

    def remove(self) -> None:
        """Remove all of it."""
        freebsd_jails.remove_below(self.folder)
        for number in self.rulesets:
            freebsd_jails.delete_ruleset(number)
        os.rmdir(self.folder)


@pytest.fixture(name="builder")
def _builder() -> Iterator[Builder]:
    """Make jails; afterwards the host is as it was."""
    reason = why_no_jails()
    if reason:
        pytest.skip(reason)
    before = outside()
    builder = Builder(os.path.realpath(tempfile.mkdtemp(prefix="wgsvc-test-", dir="/var/run")))
    try:
        yield builder
    finally:
        builder.remove()
    assert outside() == before


@pytest.fixture(name="jail")
def _jail(builder: Builder) -> Machine:
    """Make a VNET jail with the article's file."""
    machine = builder.jail("vpnr1")
    machine.write(network.CONFIGS["vpnr1"])
    return machine


@pytest.fixture(name="pair")
def _pair(builder: Builder) -> Pair:
    """Make two VNET jails that are wired together, each with the article's file for it."""
    if "epair" not in freebsd_jails.output(["ifconfig", "-C"]).split():
        pytest.skip("needs epair (kldload if_epair)")
    return builder.pair()


@pytest.fixture(name="site")
def _site(builder: Builder) -> Machine:
    """Make a VNET jail with an /etc of its own, the service installed, two tunnels' files."""
    jail = builder.jail("site", writable=("/etc",))
    freebsd_jails.output(["cp", "-Rp", "/etc/.", f"{jail.root}/etc/"])
    jail.put("/etc/rc.conf", "", 0o644)
    jail.program(PROGRAM)
    os.mkdir(f"{jail.root}/usr/local/etc/rc.d")
    jail.ok("install-rc")
    set_rc(jail, wireguard_wgsvc=PROGRAM)
    jail.write(network.CONFIGS["vpnr1"])
    jail.write(HOST_FILE, "wg1")
    return jail


@pytest.fixture(name="here")
def _here() -> Iterator[Callable[[], Machine]]:
    """Give the host itself: what is started must be stopped, whatever happens."""
    made: list[Machine] = []
    folders: list[str] = []

    def make() -> Machine:
        folder = tempfile.mkdtemp(prefix="wgsvc-test-", dir="/var/run")
        folders.append(folder)
        options = ("--config-dir", f"{folder}/etc", "--run-dir", f"{folder}/run")
        os.mkdir(f"{folder}/etc", 0o700)
        made.append(Machine(None, options))
        return made[-1]

    try:
        yield make
    finally:
        for machine in made:
            machine.wgsvc("stop", "all")
        for folder in folders:
            freebsd_jails.run(["rm", "-r", folder])
