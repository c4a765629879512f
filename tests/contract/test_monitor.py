"""What every system promises of the route monitor's ear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.world import prefix
from wgsvc.values import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.world import World
    from wgsvc.system.base import System, Tun


def test_a_link_that_changes(tunnel: Tun, hears: Callable[[str], bool], system: System) -> None:
    system.set_mtu(tunnel.name, 1300)
    assert hears(f"link {tunnel.name} {tunnel.ifindex}")


def test_a_link_that_comes(hears: Callable[[str], bool], world: World) -> None:
    tun = world.tun("wgct0")
    assert hears(f"link wgct0 {tun.ifindex}")


def test_a_link_that_goes(world: World, tunnel: Tun, hears: Callable[[str], bool]) -> None:
    world.close(tunnel)
    world.system.destroy(tunnel.name, tunnel.ifindex)
    assert hears(f"link {tunnel.name} {tunnel.ifindex}")


@pytest.mark.parametrize("text", ["198.18.7.1/32", "2001:db8:c7::1/128"])
def test_an_address(tunnel: Tun, hears: Callable[[str], bool], system: System, text: str) -> None:
    system.add_addresses(tunnel.name, [prefix(text)])
    assert hears(f"address {tunnel.ifindex}")


def test_an_address_that_goes(tunnel: Tun, hears: Callable[[str], bool], system: System) -> None:
    system.delete_addresses(tunnel.name, [prefix("198.18.0.1/24")])
    assert hears(f"address {tunnel.ifindex}")


@pytest.mark.parametrize("text", ["198.19.3.0/24", "198.19.3.7/32", "2001:db8:c3::/48"])
def test_a_route_that_comes_and_goes(
    tunnel: Tun, hears: Callable[[str], bool], system: System, text: str
) -> None:
    route = Route(prefix(text), tunnel.ifindex)
    assert system.add_routes([route]) == []
    assert hears(f"route {text} {tunnel.ifindex}")
    assert system.delete_routes([route]) == []
    assert hears(f"route {text} {tunnel.ifindex}")


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize(("text", "version"), [("0.0.0.0/0", 4), ("::/0", 6)])
def test_a_default_route(
    tunnel: Tun, hears: Callable[[str], bool], system: System, text: str, version: int
) -> None:
    route = Route(prefix(text), tunnel.ifindex)
    assert system.add_routes([route]) == []
    assert hears(f"default {version}")
    assert system.delete_routes([route]) == []
    assert hears(f"default {version}")
