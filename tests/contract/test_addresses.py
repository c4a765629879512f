"""What every system promises of addresses."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from tests.contract.world import prefix
from wgsvc.errors import OSFailureError
from wgsvc.values import Route

if TYPE_CHECKING:
    from tests.contract.world import World
    from wgsvc.system.base import System, Tun
    from wgsvc.values import Prefix


def addresses(system: System, name: str = "wgct0") -> set[Prefix]:
    found = system.interface(name)
    assert found is not None
    assert len(found.addresses) == len(set(found.addresses))
    return set(found.addresses)


@pytest.mark.parametrize(
    "text",
    ["198.18.0.1/24", "198.18.0.1/32", "198.18.0.1/31", "2001:db8:c0::1/64", "2001:db8:c0::1/128"],
)
def test_an_address_is_there_with_its_length(world: World, text: str) -> None:
    world.tun("wgct0")
    world.system.add_addresses("wgct0", [prefix(text)])
    assert addresses(world.system) == {prefix(text)}


def test_there_is_ipv6(system: System, tunnel: Tun) -> None:
    assert system.without_ipv6() is None
    assert system.without_ipv6(tunnel.name) is None


def test_both_families_together(system: System, tunnel: Tun) -> None:
    assert addresses(system) == {prefix("198.18.0.1/24"), prefix("2001:db8:c0::1/64")}
    all_of_them = {there.name: set(there.addresses) for there in system.interfaces()}
    assert all_of_them[tunnel.name] == addresses(system)


def test_adding_again_is_success(system: System, tunnel: Tun) -> None:
    before = addresses(system)
    system.add_addresses(tunnel.name, sorted(before))
    assert addresses(system) == before


def test_removing_is_removing_and_again_is_success(system: System, tunnel: Tun) -> None:
    for _ in range(2):
        system.delete_addresses(tunnel.name, [prefix("198.18.0.1/24")])
        assert addresses(system) == {prefix("2001:db8:c0::1/64")}
    for _ in range(2):
        system.delete_addresses(tunnel.name, [prefix("2001:db8:c0::1/64")])
        assert addresses(system) == set()


def test_others_of_the_same_network_stay(system: System, tunnel: Tun) -> None:
    more = [prefix(f"198.18.0.{number}/24") for number in range(2, 6)]
    system.add_addresses(tunnel.name, more)
    system.delete_addresses(tunnel.name, [prefix("198.18.0.1/24")])
    assert addresses(system) == {*more, prefix("2001:db8:c0::1/64")}


def test_a_changed_length_is_add_before_remove(system: System, tunnel: Tun) -> None:
    system.delete_addresses(tunnel.name, [prefix("198.18.0.1/24")])
    system.add_addresses(tunnel.name, [prefix("198.18.0.1/25")])
    assert prefix("198.18.0.1/25") in addresses(system)
    assert prefix("198.18.0.1/24") not in addresses(system)


def test_the_same_address_of_another_length_is_not_this_one(system: System, tunnel: Tun) -> None:
    before = addresses(system)
    system.delete_addresses(tunnel.name, [prefix("2001:db8:c0::1/128"), prefix("198.18.0.1/16")])
    assert addresses(system) == before


def test_many_addresses(system: System, tunnel: Tun) -> None:
    many = [prefix(f"198.18.{number}.1/32") for number in range(1, 60)]
    many += [prefix(f"2001:db8:c0:{number:x}::1/128") for number in range(1, 60)]
    before = addresses(system)
    system.add_addresses(tunnel.name, many)
    assert addresses(system) == before | set(many)
    system.delete_addresses(tunnel.name, many)
    assert addresses(system) == before


@pytest.mark.parametrize(
    "others", [["198.18.0.9/24"], ["198.18.9.9/32"], ["2001:db8:c1::1/64", "198.18.9.9/24"]]
)
def test_routes_stay_when_an_address_gives_way_to_another(
    system: System, tunnel: Tun, others: list[str]
) -> None:
    texts = ("198.19.1.0/24", "198.19.2.7/32", "2001:db8:c7::/64", "2001:db8:c8::7/128")
    asked = [Route(prefix(text), tunnel.ifindex) for text in texts]
    assert system.add_routes(asked) == []
    before = {
        route for route in system.routes(ifindex=tunnel.ifindex) if str(route.prefix) in texts
    }
    assert len(before) == len(texts)
    system.add_addresses(tunnel.name, [prefix(text) for text in others])
    system.delete_addresses(tunnel.name, [prefix("198.18.0.1/24"), prefix("2001:db8:c0::1/64")])
    assert addresses(system) == {prefix(text) for text in others}
    assert before <= set(system.routes(ifindex=tunnel.ifindex))


def test_routes_stay_when_an_address_gets_another_length(system: System, tunnel: Tun) -> None:
    asked = Route(prefix("198.19.1.0/24"), tunnel.ifindex)
    assert system.add_routes([asked]) == []
    system.add_addresses(tunnel.name, [prefix("198.18.0.1/32")])
    system.delete_addresses(tunnel.name, [prefix("198.18.0.1/24")])
    assert prefix("198.18.0.1/32") in addresses(system)
    assert "198.19.1.0/24" in {str(one.prefix) for one in system.routes(ifindex=tunnel.ifindex)}


def test_no_such_interface(system: System) -> None:
    with pytest.raises(OSFailureError) as caught:
        system.add_addresses("wgct9", [prefix("198.18.0.1/24")])
    assert caught.value.errno in (errno.ENODEV, errno.ENXIO)
    assert "wgct9" in caught.value.subject
    system.delete_addresses("wgct9", [prefix("198.18.0.1/24")])
