"""Whom a tunnel that has just been set greets, in which order, and by which words."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from wgsvc.config.model import Peer, Tunnel
from wgsvc.loop import Loop
from wgsvc.settings import Settings
from wgsvc.supervise import device, greet, network
from wgsvc.supervise.live import SESSION_S, Live
from wgsvc.supervise.wireguard_go import Daemon
from wgsvc.uapi import wg_text
from wgsvc.uapi.encode import DeviceChange, PeerChange, encode
from wgsvc.uapi.parse import DeviceState, PeerState
from wgsvc.values import Endpoint, Prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wgsvc.supervise.context import Context

KEYS = [bytes([number]) * 31 + b"\x40" for number in range(1, 21)]
HERE, AWAY = Endpoint("192.0.2.1", 51820), Endpoint("198.51.100.1", 51820)


def context(*, setting: str = "on", away: bool = True) -> Context:
    """Return one on a host that has a way to HERE, and to AWAY if told."""

    def path_mtu(address: Prefix, *, mark: int, not_by: int) -> int | None:
        assert (mark, not_by) == (0, 0)
        return 1500 if away or address.host == HERE.host else None

    settings = Settings(greet=setting)
    return cast(
        "Context", SimpleNamespace(settings=settings, system=SimpleNamespace(path_mtu=path_mtu))
    )


def state(
    key: bytes, endpoint: Endpoint | None = None, age_s: float | None = None, keepalive_s: int = 0
) -> PeerState:
    """Return a peer whose last handshake is so old."""
    handshake_s = 0.0 if age_s is None else time.time() - age_s
    return PeerState(key, None, endpoint, keepalive_s, handshake_s, 0, 0, ())


def seen(*peers: PeerState) -> DeviceState:
    return DeviceState(None, 51820, 0, peers)


def greeted(changes: Sequence[PeerChange]) -> list[bytes]:
    """Return whose keepalive is switched to something and back."""
    keys = [change.public_key for change in changes]
    assert keys[::2] == keys[1::2]
    return keys[::2]


def test_the_words_for_if_wg() -> None:
    """The kernel's WireGuard begins a handshake when an interval comes that is not 0."""
    key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAUA="

    assert " ".join(wg_text.keepalives(greet.turned(KEYS[0], 0))) == (
        f"peer {key} persistent-keepalive 25 peer {key} persistent-keepalive 0"
    )
    assert " ".join(wg_text.keepalives(greet.turned(KEYS[0], 77))) == (
        f"peer {key} persistent-keepalive 0 peer {key} persistent-keepalive 77"
    )


def test_the_lines_for_wireguard_go() -> None:
    """A section of its own for each value, or it would see the last one alone."""
    request = encode(DeviceChange(peers=greet.turned(KEYS[0], 0))).decode()
    key = f"public_key={KEYS[0].hex()}"

    assert request.split() == [
        "set=1",
        *(key, "update_only=true", "persistent_keepalive_interval=25"),
        *(key, "update_only=true", "persistent_keepalive_interval=0"),
    ]


def test_those_with_a_session_come_first_and_others_wait() -> None:
    live = Live(Tunnel("wg0"))
    live.last_seen = seen(
        state(KEYS[18], HERE, age_s=100),
        state(KEYS[19], HERE, age_s=5),
        state(KEYS[17], HERE, age_s=SESSION_S + 5),
    )
    peers = [PeerChange(key, endpoint=HERE) for key in KEYS]

    now = greeted(greet.first(context(), live, peers))

    assert now == [KEYS[19], KEYS[18], *KEYS[: greet.AT_ONCE - 2]]
    assert live.ungreeted == tuple(KEYS[greet.AT_ONCE - 2 : 18])


def test_nobody_is_greeted_without_an_endpoint_without_a_way_or_by_the_setting() -> None:
    live = Live(Tunnel("wg0"))
    peers = [
        PeerChange(KEYS[0]),
        PeerChange(KEYS[1], endpoint=AWAY),
        PeerChange(KEYS[2], endpoint=HERE),
        PeerChange(KEYS[3], endpoint=Endpoint("fe80::1%eth0", 51820)),
    ]

    assert greeted(greet.first(context(away=False), live, peers)) == [KEYS[2], KEYS[3]]
    assert list(live.ungreeted) == [KEYS[1]]
    assert greet.first(context(setting="off"), live, peers) == ()
    assert not live.ungreeted


@pytest.mark.parametrize(
    ("in_file", "age_s", "endpoint"),
    [
        (None, 60, AWAY),
        (None, SESSION_S + 60, None),
        (None, None, None),
        (HERE, 60, HERE),
        (Endpoint("vpn.example.net", 51820), 60, None),
    ],
)
def test_after_a_restart_the_file_goes_before_what_was_seen(
    in_file: Endpoint | None, age_s: float | None, endpoint: Endpoint | None
) -> None:
    live = Live(Tunnel("wg0", peers=(Peer(KEYS[0], endpoint=in_file),)))
    live.before = seen(state(KEYS[0], AWAY, age_s))

    (peer,) = device.whole(live, live.tunnel).peers

    assert peer.endpoint == endpoint


def test_an_address_for_a_peer_that_was_never_reached_makes_it_anew() -> None:
    live = Live(Tunnel("wg0"))
    prefixes = (Prefix(4, 10 << 24, 8),)
    live.last_seen = seen(state(KEYS[0], keepalive_s=25)._replace(allowed_ips=prefixes))

    removed, again, *rest = greet.new_address(context(), live, KEYS[0], HERE)

    assert removed == PeerChange(KEYS[0], remove=True)
    assert (again.endpoint, again.keepalive_s, again.allowed_ips) == (HERE, 25, prefixes)
    assert not again.update_only
    assert greeted(rest) == [KEYS[0]]


@pytest.mark.parametrize("why", ["it has a session", "the setting", "it is gone"])
def test_an_address_is_only_set_where(why: str) -> None:
    live = Live(Tunnel("wg0"))
    live.last_seen = seen(
        state(KEYS[1] if why == "it is gone" else KEYS[0], HERE, 9 if "session" in why else None)
    )
    setting = "off" if why == "the setting" else "on"

    assert greet.new_address(context(setting=setting), live, KEYS[0], AWAY) == (
        PeerChange(KEYS[0], update_only=True, endpoint=AWAY),
    )


def test_a_wireguard_that_is_not_set_yet_is_not_asked() -> None:
    """It would say that there are no peers: their endpoints would be forgotten, and their pins."""
    live = Live(Tunnel("wg0"))
    live.last_seen = seen(state(KEYS[0], AWAY))
    loop = Loop()
    live.daemon = Daemon(1, "", loop.future())
    try:
        assert not device.answers(live)
        where = loop.run(network.current_endpoints(context(), live))
    finally:
        loop.close()

    assert [str(at) for at in where] == ["198.51.100.1/32"]
    live.is_set = True
    assert device.answers(live)
