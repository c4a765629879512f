"""Differences and drift in words: what comes, what goes, and no secret in either."""

from __future__ import annotations

from base64 import b64encode

from wgsvc.plan import steps
from wgsvc.plan.changes import LISTED_PEERS, lines
from wgsvc.plan.drift import TOLD, words
from wgsvc.plan.reload import Difference
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange
from wgsvc.values import Endpoint, Prefix, Route, SecretKey

KEY = bytes([7]) * 32
SECRET = SecretKey(bytes([9]) * 32)
NET, OTHER = Prefix(4, 10 << 24, 24), Prefix(6, 0xFD << 120, 64)
NAMED = b64encode(KEY).decode()


def told(*peers: PeerChange, **device: object) -> list[str]:
    change = DeviceChange(peers=peers, **device)  # type: ignore[arg-type]
    return list(lines(Difference((), change, ()), "wg0", "linux"))


def test_additions_before_the_device_before_removals() -> None:
    found = Difference(
        (steps.AddAddress("wg0", NET),),
        DeviceChange(fwmark=0),
        (steps.DeleteRoutes("wg0", (Route(OTHER),)),),
    )

    assert list(lines(found, "wg0", "linux")) == [
        "+ ip -4 address add 10.0.0.0/24 dev wg0",
        "+ wg set wg0 fwmark off",
        "- ip -6 route del fd00::/64 dev wg0",
    ]


def test_a_peer_is_one_line_with_all_that_changes() -> None:
    change = PeerChange(
        KEY,
        update_only=True,
        endpoint=Endpoint("2001:db8::1", 9),
        keepalive_s=0,
        allowed_ips=(NET,),
        dropped_ips=(OTHER,),
    )

    (line,) = told(change)
    assert line == (
        f"+ wg set wg0 peer {NAMED} endpoint [2001:db8::1]:9 persistent-keepalive off "
        "allowed-ips +10.0.0.0/24,-fd00::/64"
    )
    assert told(PeerChange(KEY, remove=True)) == [f"- wg set wg0 peer {NAMED} remove"]


def test_no_secret_is_shown() -> None:
    changes = told(
        PeerChange(KEY, update_only=True, preshared_key=SECRET),
        PeerChange(KEY, update_only=True, preshared_key=NO_KEY),
        private_key=SECRET,
    )

    text = "\n".join(changes)
    assert b64encode(SECRET).decode() not in text
    assert SECRET.hex() not in text
    assert "every session is renewed" in text
    assert "preshared-key off" in text


def test_of_thousands_of_peers_some_are_shown_and_the_rest_counted() -> None:
    peers = [PeerChange(number.to_bytes(32, "big"), remove=True) for number in range(10_000)]

    changes = told(*peers)

    assert len(changes) == LISTED_PEERS + 1
    assert changes[-1] == f"  ... and {10_000 - LISTED_PEERS} more peers"


def test_drift_in_plain_words() -> None:
    found = Difference(
        (steps.AddRoutes("wg0", (Route(NET),)),),
        DeviceChange(peers=(PeerChange(KEY, update_only=True, keepalive_s=5, allowed_ips=(NET,)),)),
        (steps.DeleteAddress("wg0", OTHER),),
    )

    assert words(found) == (
        "the route to 10.0.0.0/24 is missing; address fd00::/64 was added; "
        f"peer {NAMED[:12]} has AllowedIPs and a keepalive of its own"
    )
    assert words(Difference((), None, ())) == ""


def test_much_drift_is_counted() -> None:
    routes = tuple(Route(Prefix(4, number << 8, 24)) for number in range(1000))

    said = words(Difference((steps.AddRoutes("wg0", routes),), None, ()))

    assert said.endswith(f"; {1000 - TOLD} more")
    assert len(said) < 300
