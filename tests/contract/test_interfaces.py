"""What every system promises of interfaces."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from wgsvc.errors import NameTakenError, OSFailureError, UnavailableError, WgsvcError

if TYPE_CHECKING:
    from tests.contract.world import World
    from wgsvc.system.base import System, Tun

NO_SUCH = (errno.ENODEV, errno.ENXIO)


def names(system: System) -> set[str]:
    return {interface.name for interface in system.interfaces()}


def test_a_new_tun_has_its_name_and_is_down(world: World) -> None:
    tun = world.tun("wgct0")
    found = world.system.interface("wgct0")
    assert found is not None
    assert (found.name, found.ifindex, found.kind) == ("wgct0", tun.ifindex, "tun")
    assert not found.up
    assert found.addresses == ()
    assert tun.name == "wgct0"


def test_a_new_tun_is_among_all_interfaces(world: World) -> None:
    before = names(world.system)
    world.tun("wgct0")
    assert names(world.system) == before | {"wgct0"}


def test_two_tuns_are_two_interfaces(world: World) -> None:
    first, second = world.tun("wgct0"), world.tun("wgct1")
    assert first.ifindex != second.ifindex
    assert first.fd != second.fd
    assert {"wgct0", "wgct1"} <= names(world.system)


def test_a_foreign_interface_keeps_its_name(world: World) -> None:
    theirs = world.foreign("wgct0")
    before = world.system.interfaces()
    with pytest.raises(NameTakenError, match="wgct0"):
        world.tun("wgct0")
    assert world.system.interfaces() == before
    assert world.index("wgct0") == theirs


def test_our_own_tun_keeps_its_name(world: World, tunnel: Tun) -> None:
    before = world.system.interfaces()
    with pytest.raises(NameTakenError):
        world.tun(tunnel.name)
    assert world.system.interfaces() == before


@pytest.mark.parametrize("name", ["", "wgct-sixteen-byt", "wg/0", "wgct%d", "wg 0"])
def test_an_impossible_name_leaves_nothing(world: World, name: str) -> None:
    before = names(world.system)
    with pytest.raises(WgsvcError):
        world.tun(name)
    assert names(world.system) == before


def test_no_such_interface_is_none(system: System) -> None:
    assert system.interface("wgct9") is None
    assert system.interface("a-name-that-no-kernel-would-take") is None


def test_destroy_after_the_last_close_leaves_nothing(world: World, tunnel: Tun) -> None:
    world.close(tunnel)
    world.system.destroy(tunnel.name, tunnel.ifindex)
    assert world.system.interface(tunnel.name) is None
    assert world.system.routes(ifindex=tunnel.ifindex) == []


def test_destroy_of_what_is_gone_is_success(world: World, tunnel: Tun) -> None:
    world.close(tunnel)
    world.system.destroy(tunnel.name, tunnel.ifindex)
    world.system.destroy(tunnel.name, tunnel.ifindex)
    world.system.destroy("wgct9", 12345)


def test_destroy_spares_another_interface_of_that_name(world: World) -> None:
    theirs = world.foreign("wgct0")
    world.system.destroy("wgct0", theirs + 1)
    assert world.index("wgct0") == theirs


def test_a_name_can_be_used_again(world: World, tunnel: Tun) -> None:
    world.close(tunnel)
    world.system.destroy(tunnel.name, tunnel.ifindex)
    again = world.tun(tunnel.name)
    found = world.system.interface(tunnel.name)
    assert found is not None
    assert found.ifindex == again.ifindex
    assert found.addresses == ()


def test_nothing_of_a_tunnel_outlives_its_last_close(world: World, tunnel: Tun) -> None:
    world.close(tunnel)
    found = world.system.interface(tunnel.name)
    assert found is None or (found.addresses == () and not found.up)
    world.system.destroy(tunnel.name, tunnel.ifindex)


def test_the_mtu_is_what_was_set(system: System, tunnel: Tun) -> None:
    for mtu in (1280, 1400, 1400, 9000):
        system.set_mtu(tunnel.name, mtu)
        found = system.interface(tunnel.name)
        assert found is not None
        assert found.mtu == mtu


def test_an_impossible_mtu_changes_nothing(system: System, tunnel: Tun) -> None:
    with pytest.raises(OSFailureError) as caught:
        system.set_mtu(tunnel.name, 10_000_000)
    assert caught.value.errno == errno.EINVAL
    assert tunnel.name in caught.value.subject
    found = system.interface(tunnel.name)
    assert found is not None
    assert found.mtu == 1420


def test_up_is_up_and_stays_so(system: System, tunnel: Tun) -> None:
    for _ in range(2):
        system.set_up(tunnel.name)
        found = system.interface(tunnel.name)
        assert found is not None
        assert found.up


def test_changes_of_no_interface_say_so(system: System) -> None:
    with pytest.raises(OSFailureError, match="wgct9") as caught:
        system.set_up("wgct9")
    assert caught.value.errno in NO_SUCH
    with pytest.raises(OSFailureError, match="wgct9") as caught:
        system.set_mtu("wgct9", 1400)
    assert caught.value.errno in NO_SUCH


def test_a_foreign_interface_is_seen_but_is_no_wireguard(world: World) -> None:
    world.foreign("wgct0")
    found = world.system.interface("wgct0")
    assert found is not None
    assert found.kind != "wireguard"


def test_the_kernels_own_wireguard_is_made_or_said_to_be_missing(world: World) -> None:
    before = names(world.system)
    if not world.system.has_kernel_wireguard():
        with pytest.raises(UnavailableError) as caught:
            world.system.create_kernel("wgct0")
        assert caught.value.cure
        assert names(world.system) == before
        return
    ifindex = world.system.create_kernel("wgct0")
    try:
        found = world.system.interface("wgct0")
        assert found is not None
        assert (found.ifindex, found.kind, found.up) == (ifindex, "wireguard", False)
        with pytest.raises(NameTakenError):
            world.system.create_kernel("wgct0")
    finally:
        world.system.destroy("wgct0", ifindex)
    assert names(world.system) == before
