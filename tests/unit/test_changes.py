"""Differences and drift in words: what comes, what goes, and no secret in either."""

from __future__ import annotations

from base64 import b64encode

import pytest

from wgsvc.plan import steps
from wgsvc.plan.changes import LISTED_PEERS, lines
from wgsvc.plan.drift import TOLD, savable, words
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


def test_all_of_a_device_in_words() -> None:
    assert told(private_key=SECRET, listen_port=7, fwmark=9) == [
        "+ wg set wg0 private-key (changed: every session is renewed)",
        "+ wg set wg0 listen-port 7",
        "+ wg set wg0 fwmark 9",
    ]
    assert told(listen_port=0) == ["+ wg set wg0 listen-port 0"]
    assert told() == []


@pytest.mark.parametrize(
    ("change", "words_"),
    [
        (PeerChange(KEY, preshared_key=SECRET), "preshared-key (changed)"),
        (PeerChange(KEY, preshared_key=NO_KEY), "preshared-key off"),
        (PeerChange(KEY, keepalive_s=25), "persistent-keepalive 25"),
        (PeerChange(KEY, allowed_ips=(NET, OTHER)), "allowed-ips +10.0.0.0/24,+fd00::/64"),
        (PeerChange(KEY, dropped_ips=(NET, OTHER)), "allowed-ips -10.0.0.0/24,-fd00::/64"),
        (
            PeerChange(KEY, replace_allowed_ips=True, allowed_ips=(NET, OTHER)),
            "allowed-ips 10.0.0.0/24,fd00::/64",
        ),
    ],
)
def test_each_change_of_a_peer_in_the_words_of_wg(change: PeerChange, words_: str) -> None:
    assert told(change) == [f"+ wg set wg0 peer {NAMED} {words_}"]
    assert told(PeerChange(KEY)) == [f"+ wg set wg0 peer {NAMED}"]


def test_a_full_list_of_peers_is_shown_whole() -> None:
    peers = [PeerChange(number.to_bytes(32, "big"), remove=True) for number in range(51)]

    assert LISTED_PEERS == 50
    assert len(told(*peers[:50])) == 50
    assert told(*peers)[-1] == "  ... and 1 more peers"


def test_of_thousands_of_prefixes_some_are_shown() -> None:
    many = tuple(Prefix(4, number << 8, 24) for number in range(200))

    (line,) = told(PeerChange(KEY, allowed_ips=many, dropped_ips=many))

    assert line.count("+0.") == LISTED_PEERS
    assert line.count("-0.") == LISTED_PEERS


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Difference((steps.AddAddress("wg0", NET),), None, ()), "address 10.0.0.0/24 is missing"),
        (Difference((steps.SetMtu("wg0", 1380),), None, ()), "the MTU is not 1380"),
        (
            Difference((), None, (steps.DeleteAddress("wg0", NET),)),
            "address 10.0.0.0/24 was added",
        ),
        (
            Difference((steps.AddRules("wg0", 7, (4, 6)),), None, ()),
            (
                "the rules that lead IPv4 into the tunnel are missing; "
                "the rules that lead IPv6 into the tunnel are missing"
            ),
        ),
        (
            Difference((), DeviceChange(SECRET, 7, 9), ()),
            "the private key is another; the port is not 7; the mark is not 9",
        ),
        (Difference((), DeviceChange(fwmark=0), ()), "the mark is not off"),
        (Difference((), DeviceChange(), ()), ""),
    ],
)
def test_drift_of_each_kind(found: Difference, said: str) -> None:
    assert words(found) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (PeerChange(KEY, remove=True), "was added"),
        (PeerChange(KEY), "is missing"),
        (PeerChange(KEY, update_only=True, allowed_ips=(NET,)), "has AllowedIPs of its own"),
        (PeerChange(KEY, update_only=True, dropped_ips=(NET,)), "has AllowedIPs of its own"),
        (
            PeerChange(KEY, update_only=True, replace_allowed_ips=True),
            "has AllowedIPs of its own",
        ),
        (PeerChange(KEY, update_only=True, keepalive_s=0), "has a keepalive of its own"),
        (
            PeerChange(KEY, update_only=True, preshared_key=NO_KEY, keepalive_s=0),
            "has a keepalive and a preshared key of its own",
        ),
    ],
)
def test_drift_of_a_peer(change: PeerChange, said: str) -> None:
    """A peer is known by the first letters of its key, as wg(8)'s users know it."""
    assert words(Difference((), DeviceChange(peers=(change,)), ())) == f"peer {NAMED[:12]} {said}"


def test_as_many_as_are_told_are_told_without_a_count() -> None:
    assert TOLD == 4
    routes = tuple(Route(Prefix(4, number << 8, 24)) for number in range(5))

    def said(count: int) -> list[str]:
        missing = steps.AddRoutes("wg0", routes[:count])
        return words(Difference((missing,), None, ())).split("; ")

    assert len(said(4)) == 4
    assert said(4)[-1] == "the route to 0.0.3.0/24 is missing"
    assert said(5)[-1] == "1 more"
    assert len(said(5)) == 5


@pytest.mark.parametrize(
    ("found", "can"),
    [
        (Difference((), None, ()), False),
        (Difference((steps.AddRoutes("wg0", ()),), None, ()), False),
        (Difference((steps.AddRules("wg0", 7, (4,)),), None, ()), False),
        (Difference((steps.SetMtu("wg0", 1),), None, ()), True),
        (Difference((steps.AddRoutes("wg0", ()), steps.SetMtu("wg0", 1)), None, ()), True),
        (Difference((), None, (steps.DeleteAddress("wg0", NET),)), True),
        (Difference((), DeviceChange(fwmark=0), ()), True),
    ],
)
def test_what_a_file_can_say_can_be_saved(found: Difference, can: bool) -> None:  # noqa: FBT001
    """A missing route is put right by a reload alone: no file says that it is missing."""
    assert savable(found) is can
