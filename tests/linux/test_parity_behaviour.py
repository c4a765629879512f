"""
What wgsvc does otherwise than wg-quick on the same file: each row of the table in docs/config.md.

A row's test runs both in the same namespaces and shows the difference; that everything else is
the same is what test_corpus.py shows.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.linux.far_side import NARROW, NARROW_MTU, SERVER, FarSide
from tests.linux.full_client import (
    ELSEWHERE,
    INSIDE,
    NAME,
    _client,
    _far,
    client_tunnel,
    pings,
    wg_quick,
)
from tests.tunnels import Host, ip, some_public_key

__all__ = ["_client", "_far"]

pytestmark = pytest.mark.root

NUMERIC = f"{SERVER}:51820"
TOLD = Path("/run/told")
VALID_MARK = Path("/proc/sys/net/ipv4/conf/all/src_valid_mark")
RESOLV_CONF = Path("/etc/resolv.conf")


class Seen(NamedTuple):
    """What was to be seen with wgsvc, and what with wg-quick."""

    ours: object
    theirs: object


Act = Callable[[str], None]
"""Bring `wg0` up, or take it down: "up", "down". An "up" may fail."""


def both(client: Host, look: Callable[[Act], object]) -> Seen:
    """Let wgsvc and then wg-quick do the same; `look` says what was to be seen."""
    found = []
    for program in ("wgsvc", "wg-quick"):
        TOLD.unlink(missing_ok=True)

        def act(verb: str, program: str = program) -> None:
            if program == "wgsvc":
                client.wgsvc(verb, "wg0")
            else:
                subprocess.run(
                    ["wg-quick", verb, "wg0"],
                    env={**client.environment(), **ENVIRONMENT},
                    capture_output=True, check=False, timeout=60,
                )  # fmt: skip

        found.append(look(act))
        client.wgsvc("stop", "wg0")  # takes wg-quick's down as well
        VALID_MARK.write_text("0")
    return Seen(*found)


ENVIRONMENT = {
    "WG_QUICK_USERSPACE_IMPLEMENTATION": "wireguard-go",
    "WG_ENDPOINT_RESOLUTION_RETRIES": "0",
}


def told() -> str:
    return TOLD.read_text().strip() if TOLD.exists() else ""


def there() -> bool:
    return "wg0:" in ip("link")


def pre_up(client: Host, _far: FarSide) -> Seen:
    hook = (
        "PreUp = ip link show dev %i >/dev/null 2>&1 && echo yes >/run/told || echo no >/run/told"
    )
    client_tunnel(client, hook, endpoint=NUMERIC, allowed="10.9.0.0/24")

    def look(act: Act) -> str:
        act("up")
        found = told()
        act("down")
        return found

    return _expect(both(client, look), Seen("yes", "no"))


def failing_post_up(client: Host, _far: FarSide) -> Seen:
    client_tunnel(client, "PostUp = false", "PostDown = echo down >/run/told", endpoint=NUMERIC)
    client.startable.clear()

    def look(act: Act) -> tuple[str, bool]:
        act("up")
        return told(), there()

    return _expect(both(client, look), Seen(("down", False), ("", False)))


def failing_pre_down(client: Host, _far: FarSide) -> Seen:
    client_tunnel(client, "PreDown = false", endpoint=NUMERIC, allowed="10.9.0.0/24")
    client.startable.clear()
    client.names.clear()

    def look(act: Act) -> bool:
        act("up")
        act("down")
        return there()

    return _expect(both(client, look), Seen(ours=False, theirs=True))


def variables(client: Host, _far: FarSide) -> Seen:
    hook = "PostUp = echo ${INTERFACE-none} ${WGSVC_EVENT-none} >/run/told"
    client_tunnel(client, hook, endpoint=NUMERIC, allowed="10.9.0.0/24")

    def look(act: Act) -> str:
        act("up")
        found = told()
        act("down")
        return found

    return _expect(both(client, look), Seen("none PostUp", "wg0 none"))


def unknown_name(client: Host, far: FarSide) -> Seen:
    far.dns.names.pop(NAME)
    client.options = ["--set", "resolve_timeout_s=1"]
    client_tunnel(client, allowed="0.0.0.0/0, 10.66.0.0/16")

    def look(act: Act) -> tuple[bool, bool]:
        act("up")
        found = there(), "10.66.0.0/16" in ip("route")
        act("down")
        return found

    return _expect(both(client, look), Seen((True, True), (False, False)))


def several_ways(client: Host, _far: FarSide) -> Seen:
    client_tunnel(client, endpoint=NUMERIC, allowed="10.9.0.0/24")
    path = Path("/etc/wireguard/wg0.conf")
    more = f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = 10.8.0.0/24\n"
    path.write_text(f"{path.read_text()}{more}Endpoint = {NARROW}:51820\n")

    def look(act: Act) -> int:
        act("up")
        found = int(ip("link", "show", "wg0").partition("mtu ")[2].split()[0])
        act("down")
        return found

    return _expect(both(client, look), Seen(NARROW_MTU - 80, 1420))


def search_alone(client: Host, _far: FarSide) -> Seen:
    client_tunnel(client, "DNS = corp.example", endpoint=NUMERIC, allowed="10.9.0.0/24")

    def look(act: Act) -> tuple[bool, bool]:
        act("up")
        text = RESOLV_CONF.read_text()
        act("down")
        return "corp.example" in text, "nameserver" in text

    return _expect(both(client, look), Seen((True, True), (False, True)))


def endpoint_itself(client: Host, _far: FarSide) -> Seen:
    client_tunnel(client, endpoint=NUMERIC, allowed=f"10.9.0.0/24, {SERVER}/32")

    def look(act: Act) -> tuple[bool, bool]:
        act("up")
        found = ip("route", "show", SERVER) != "", pings(wait_s=1)
        act("down")
        return found

    return _expect(both(client, look), Seen((False, True), (True, False)))


def covering(client: Host, _far: FarSide) -> Seen:
    client_tunnel(client, endpoint=NUMERIC, allowed="10.9.0.0/24, 198.51.100.0/29")

    def look(act: Act) -> tuple[bool, bool]:
        act("up")
        found = ip("route", "show", SERVER) != "", pings(wait_s=1)
        act("down")
        return found

    return _expect(both(client, look), Seen((True, True), (False, False)))


def valid_mark(client: Host, _far: FarSide) -> Seen:
    client_tunnel(client, endpoint=NUMERIC)

    def look(act: Act) -> str:
        act("up")
        act("down")
        return VALID_MARK.read_text().strip()

    return _expect(both(client, look), Seen("0", "1"))


def edited(client: Host, _far: FarSide) -> Seen:
    client.startable.clear()

    def look(act: Act) -> tuple[str, bool]:
        lines = (f"DNS = {INSIDE}", "PostDown = echo down >/run/told")
        client_tunnel(client, *lines, endpoint=NUMERIC)
        act("up")
        client_tunnel(client, endpoint=NUMERIC)
        act("down")
        found = told(), INSIDE in RESOLV_CONF.read_text()
        subprocess.run(["resolvconf", "-f", "-d", "wg0"], check=False)
        return found

    return _expect(both(client, look), Seen(("down", False), ("", True)))


def again(client: Host, _far: FarSide) -> Seen:
    client_tunnel(client, endpoint=NUMERIC, allowed="10.9.0.0/24")
    client.ok("up", "wg0")
    ours = client.wgsvc("up", "wg0").code
    client.ok("down", "wg0")
    with wg_quick() as first, wg_quick() as second:
        return _expect(Seen(ours, second.returncode), Seen(0, 1 if not first.returncode else 0))


def several_full_tunnels(client: Host, _far: FarSide) -> Seen:
    peer = (
        f"[Peer]\nPublicKey = {some_public_key()}\nAllowedIPs = 0.0.0.0/0\nEndpoint = {SERVER}:9\n"
    )
    client.tunnel("wg1", peer=peer)
    client_tunnel(client, endpoint=NUMERIC)
    client.ok("up", "wg1")
    client.ok("up", "wg0")
    ours = pings(ELSEWHERE, wait_s=2)
    client.ok("down", "wg0")
    client.ok("down", "wg1")
    with wg_quick("wg1"), wg_quick("wg0"):
        theirs = pings(ELSEWHERE, wait_s=2)
    VALID_MARK.write_text("0")
    return _expect(Seen(ours, theirs), Seen(ours=True, theirs=False))


def _expect(found: Seen, expected: Seen) -> Seen:
    assert found == expected
    return found


ROWS: dict[str, Callable[[Host, FarSide], Seen]] = {
    "`PreUp`": pre_up,
    "a `PostUp` that fails": failing_post_up,
    "a `PreDown` that fails": failing_pre_down,
    "what hooks see": variables,
    "an endpoint's name that is not found": unknown_name,
    "`MTU` with ways of several sizes": several_ways,
    "`DNS` with search domains alone": search_alone,
    "an AllowedIP that is the endpoint": endpoint_itself,
    "an AllowedIP that covers the endpoint": covering,
    "`src_valid_mark`": valid_mark,
    "several full tunnels (Linux)": several_full_tunnels,
    "a file that was edited meanwhile": edited,
    "a tunnel that is up already": again,
}


@pytest.mark.parametrize("row", ROWS)
def test_a_difference_from_wg_quick(client: Host, far: FarSide, row: str) -> None:
    found = ROWS[row](client, far)

    assert found.ours != found.theirs
