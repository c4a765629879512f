"""The interface group of a tunnel: not the one in which wg(8) looks for the kernel's WireGuard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.models.supervisors import NAME, Supervisor, World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("setting", "groups"),
    [(None, {"tun", "wireguard"}), ("vpn", {"tun", "vpn"}), ("", {"tun"})],
)
@pytest.mark.parametrize("flavour", ["12.0", "15"])
def test_a_start_puts_the_tun_into_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flavour: str,
    setting: str | None,
    groups: set[str],
) -> None:
    world = World(flavour, str(tmp_path), monkeypatch)
    if setting is not None:
        world.settings = world.settings._replace(interface_group=setting)
    supervisor = Supervisor(world)

    supervisor.do(supervisor.start())

    found = world.jail.by_name(NAME)
    assert found is not None
    assert found.groups == groups
    supervisor.do(supervisor.stop())
    assert world.jail.by_name(NAME) is None
