"""
Every implementation of `System`, and the world around each.

On Linux that is the real one in a network namespace of its own; on FreeBSD the real one,
with names and addresses that nobody uses and a clean-up; and on both the FreeBSD one over
the model of its kernel, once for each version that behaves differently.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.world import (
    DEADLINE_S,
    FreeBSDWorld,
    LinuxWorld,
    ModelWorld,
    World,
    model_system,
    prefix,
    readable,
)
from wgsvc.system import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wgsvc.system.base import System, Tun

FLAVOURS = ("12.0", "13.2", "15")


def implementations() -> list[Any]:
    """Return what the suite runs over here."""
    real = [pytest.param("linux", marks=pytest.mark.root)] if sys.platform == "linux" else []
    if sys.platform.startswith("freebsd"):
        real = [pytest.param("freebsd", marks=pytest.mark.root)]
    return [*real, *(f"model-{flavour}" for flavour in FLAVOURS)]


@pytest.fixture(name="world", params=implementations())
def _world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Give each implementation with its surroundings."""
    kind: str = request.param
    world: World
    if kind == "linux":
        request.getfixturevalue("own_network")
        world = LinuxWorld(current(), isolated=True)
    elif kind == "freebsd":
        world = FreeBSDWorld(current())
    else:
        world = ModelWorld(model_system(kind.removeprefix("model-")), isolated=True)
    try:
        yield world
    finally:
        world.tidy()


@pytest.fixture(name="system")
def _system(world: World) -> System:
    return world.system


@pytest.fixture(name="tunnel")
def _tunnel(world: World) -> Tun:
    """Make a tun with addresses, MTU and UP, in the order that tunnels are brought up."""
    tun = world.tun("wgct0")
    world.system.add_addresses(tun.name, [prefix("198.18.0.1/24"), prefix("2001:db8:c0::1/64")])
    world.system.set_mtu(tun.name, 1420)
    world.system.set_up(tun.name)
    return tun


@pytest.fixture(name="isolated")
def _isolated(world: World) -> None:
    """Skip where changing the default route would cut somebody off."""
    if not world.isolated:
        pytest.skip("changes the default route: needs a VNET jail")


@pytest.fixture(name="hears")
def _hears(system: System) -> Iterator[Callable[[str], bool]]:
    """Open a monitor; give a function that waits for a word and says whether it came."""
    listener = system.monitor_open()

    def hears(word: str) -> bool:
        deadline = time.monotonic() + DEADLINE_S
        while readable(listener, deadline - time.monotonic()):
            if word in system.monitor_read(listener):
                return True
        return False

    try:
        yield hears
    finally:
        listener.close()
