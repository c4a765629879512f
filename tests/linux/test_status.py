"""What status tells: the order of things, the same keys for all, and what no supervisor watches."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.tunnels import Host

pytestmark = pytest.mark.root


def test_names_come_in_the_order_in_which_people_count(host: Host) -> None:
    names = ["wg1", "wg2", "wg10"]
    for name in reversed(names):
        host.tunnel(name, number=int(name[2:]))

    started = json.loads(host.ok("start", "--json", "all").out)["results"]
    checked = json.loads(host.ok("check", "--json").out)["files"]
    told = host.status()["tunnels"]

    assert [one["name"] for one in started] == names
    assert [one["what"] for one in checked] == names
    assert [one["name"] for one in told] == names
    host.kill(host.supervisor())
    assert [one["name"] for one in host.status()["tunnels"]] == names
    stopped = json.loads(host.ok("stop", "--json").out)["results"]
    assert [one["name"] for one in stopped] == names
