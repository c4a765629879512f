"""What hooks do to routes is theirs: taken away, or brought along beside ours."""

from __future__ import annotations

import pytest

from tests.linux.far_side import SERVER
from tests.linux.full_client import (
    ELSEWHERE,
    INSIDE,
    _client,
    _far,
    client_tunnel,
    pings,
    wg_quick,
)
from tests.tunnels import Host, eventually, ip

__all__ = ["_client", "_far"]

pytestmark = pytest.mark.root

NUMERIC = f"{SERVER}:51820"
HALVES = "0.0.0.0/1, 128.0.0.0/1"
ADD = f"PostUp = ip route add {SERVER} via 192.0.2.1"
DELETE = f"PostDown = ip route delete {SERVER} via 192.0.2.1"


@pytest.mark.parametrize(
    ("allowed", "hook"),
    [
        ("10.9.0.0/24, 10.66.0.0/16", "ip route del 10.66.0.0/16 dev %i"),
        ("10.9.0.0/24", "ip address del 10.9.0.2/32 dev %i; ip address add 10.9.0.2/24 dev %i"),
        ("10.9.0.0/24, 10.66.0.0/16", "ip route replace 10.66.0.0/16 via 192.0.2.1"),
        ("10.9.0.0/24", "ip link set mtu 1300 dev %i"),
        ("0.0.0.0/0", "ip -4 rule del not fwmark $(wg show %i fwmark) table 51820"),
        ("0.0.0.0/0", "ip route del default dev %i table 51820"),
        ("0.0.0.0/0", "wg set %i fwmark off"),
    ],
)
def test_what_a_hook_takes_away_is_no_failure(client: Host, allowed: str, hook: str) -> None:
    client_tunnel(client, f"PostUp = {hook}", allowed=allowed, endpoint=NUMERIC)
    if "replace" in hook:
        client_tunnel(
            client, f"PostUp = {hook}", "PostDown = ip route del 10.66.0.0/16 via 192.0.2.1",
            allowed=allowed, endpoint=NUMERIC,
        )  # fmt: skip
    with wg_quick() as theirs:
        assert theirs.returncode == 0, theirs.stderr
    _clean_after_wg_quick(client)

    client.ok("start", "wg0")
    after = client.shown()
    assert client.status("wg0")["exit"] == 0, client.wgsvc("status").out
    assert "no change" in client.ok("reload", "wg0").said
    assert client.shown() == after

    client.kill(client.supervisor())
    client.ok("start", "wg0")  # adopted
    assert client.status("wg0")["exit"] == 0, client.wgsvc("status").out
    assert "no change" in client.ok("reload", "wg0").said
    assert client.shown() == after
    client.ok("stop", "wg0")
    client.untouched()


def _clean_after_wg_quick(client: Host) -> None:
    """Remove what wg-quick leaves where a hook took away what it goes by."""
    for version in (4, 6):
        while "suppress_prefixlength" in ip(f"-{version}", "rule"):
            ip(f"-{version}", "rule", "del", "table", "main", "suppress_prefixlength", "0")
        while "fwmark" in ip(f"-{version}", "rule"):
            ip(f"-{version}", "rule", "del", "table", "51820")
    client.untouched()


@pytest.mark.parametrize("allowed", [HALVES, "0.0.0.0/0"])
def test_the_user_s_own_route_to_the_endpoint(client: Host, allowed: str) -> None:
    client_tunnel(client, ADD, DELETE, allowed=allowed, endpoint=NUMERIC)
    with wg_quick() as theirs:
        assert theirs.returncode == 0, theirs.stderr
        assert pings(ELSEWHERE)

    result = client.ok("start", "wg0")

    assert pings(ELSEWHERE)
    assert "loop" not in result.said + client.ok("check").said
    eventually(lambda: ip("route", "show", SERVER).count("\n") == 1, what="theirs alone is left")
    assert f"{SERVER} via 192.0.2.1 dev eth0 \n" == ip("route", "show", SERVER)
    client.ok("stop", "wg0")  # PostDown finds theirs
    client.untouched()


def test_a_route_that_was_there_before_is_used_and_stays(client: Host) -> None:
    ip("route", "add", SERVER, "via", "192.0.2.1")
    client.before = client.shown()
    client_tunnel(client, allowed=HALVES, endpoint=NUMERIC)

    client.ok("start", "wg0")
    assert pings(ELSEWHERE)
    assert ip("route", "show", SERVER).count("\n") == 1
    client.ok("stop", "wg0")

    client.untouched()


def test_one_that_comes_and_goes_while_the_tunnel_is_up(client: Host) -> None:
    client_tunnel(client, allowed=HALVES, endpoint=NUMERIC)
    client.ok("start", "wg0")
    assert "metric 51820" in ip("route", "show", SERVER)

    ip("route", "add", SERVER, "via", "192.0.2.1")
    eventually(lambda: "metric" not in ip("route", "show", SERVER), what="ours has gone")
    assert pings(ELSEWHERE)
    ip("route", "del", SERVER)
    eventually(lambda: "metric 51820" in ip("route", "show", SERVER), what="ours is back")

    assert pings(ELSEWHERE)


def test_the_user_s_goes_on_after_ours_was_never_needed(client: Host) -> None:
    """Stop removes what is ours only, though both were to the same host."""
    client_tunnel(client, allowed=HALVES, endpoint=NUMERIC)
    client.ok("start", "wg0")
    ip("route", "add", SERVER, "via", "192.0.2.1")

    client.ok("stop", "wg0")

    assert ip("route", "show", SERVER) == f"{SERVER} via 192.0.2.1 dev eth0 \n"
    ip("route", "del", SERVER)
    client.untouched()


def test_the_endpoint_itself_among_the_allowed_ips(client: Host) -> None:
    client_tunnel(client, allowed=f"10.9.0.0/24, {SERVER}/32", endpoint=NUMERIC)

    client.ok("start", "wg0")

    assert pings(INSIDE)
    assert ip("route", "show", SERVER) == ""
    assert client.status("wg0")["exit"] == 0
    assert "no change" in client.ok("reload", "wg0").said
    client_tunnel(client, allowed=f"{HALVES}, {SERVER}/32", endpoint=NUMERIC)
    client.ok("reload", "wg0")
    assert pings(ELSEWHERE)
    assert "metric 51820" in ip("route", "show", SERVER)
