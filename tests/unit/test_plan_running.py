"""What runs, as a file would have it: each difference by itself."""

from __future__ import annotations

import pytest

from wgsvc.config.model import Peer, Tunnel
from wgsvc.plan.reload import Observed
from wgsvc.plan.running import running_tunnel
from wgsvc.uapi.parse import DeviceState, PeerState
from wgsvc.values import Endpoint, Prefix, SecretKey

KEYS = [bytes([number]) * 32 for number in range(1, 5)]
SECRETS = [SecretKey(bytes([number]) * 32) for number in range(101, 103)]
NETS = [Prefix(4, 10 << 24 | number << 8, 24) for number in range(3)]
ADDRESSES = [Prefix(4, 172 << 24 | number, 32) for number in range(3)]
LINK = Prefix(6, 0xFE80 << 112 | 1, 64)
HERE, THERE = Endpoint("192.0.2.1", 1000), Endpoint("2001:db8::1", 2000)
NAME = Endpoint("vpn.example.org", 3000)

PEER = Peer(KEYS[0], SECRETS[0], HERE, 25, (NETS[0], NETS[1]), name="alice")
FILE = Tunnel(
    "wg0",
    private_key=SECRETS[1],
    listen_port=7,
    fwmark=9,
    addresses=(ADDRESSES[0],),
    mtu=1380,
    peers=(PEER, Peer(KEYS[1])),
)
STATES = (
    PeerState(KEYS[0], SECRETS[0], HERE, 25, 0.0, 0, 0, (NETS[0], NETS[1])),
    PeerState(KEYS[1], None, None, 0, 0.0, 0, 0, ()),
)
SEEN = Observed(DeviceState(SECRETS[1], 7, 9, STATES), (ADDRESSES[0],), frozenset(), 1380)


def running(
    file: Tunnel = FILE, seen: Observed = SEEN, *, mark: int = 0, own_key: bytes = b"", **of: object
) -> Tunnel:
    """Return what runs, after a start with MTU 1420 and port 50000; `of` changes the device."""
    device = seen.device._replace(**of)  # type: ignore[arg-type]
    return running_tunnel(
        file, seen._replace(device=device), mtu=1420, port=50000, mark=mark, own_key=own_key
    )


def test_a_tunnel_that_runs_as_its_file_says_is_that_file() -> None:
    assert running() is FILE


def test_what_somebody_changed() -> None:
    assert running(private_key=SECRETS[0]) == FILE._replace(private_key=SECRETS[0])
    assert running(private_key=None) == FILE._replace(private_key=None)
    assert running(listen_port=8) == FILE._replace(listen_port=8)
    assert running(fwmark=0) == FILE._replace(fwmark=0)
    assert running(seen=SEEN._replace(mtu=1400)) == FILE._replace(mtu=1400)


def test_what_the_file_leaves_open_is_no_difference_as_it_was_chosen() -> None:
    silent = FILE._replace(listen_port=None, fwmark=None, mtu=None)
    chosen = SEEN._replace(mtu=1420)

    assert running(silent, chosen, listen_port=50000, fwmark=51820, mark=51820) is silent
    assert running(silent, chosen, listen_port=50000, fwmark=0) is silent
    assert running(silent, chosen, listen_port=50001, fwmark=0) == silent._replace(
        listen_port=50001
    )
    assert running(silent, chosen, listen_port=50000, fwmark=7) == silent._replace(fwmark=7)
    assert running(silent, SEEN, listen_port=50000, fwmark=0) == silent._replace(mtu=1380)


def test_a_device_that_is_down_has_no_port_to_keep() -> None:
    assert running(listen_port=0) is FILE


def test_without_a_full_tunnel_no_mark_is_chosen() -> None:
    silent = FILE._replace(fwmark=None)
    unmarked = SEEN._replace(device=SEEN.device._replace(fwmark=0))

    assert running_tunnel(silent, unmarked, mtu=1420, port=50000) is silent


def test_a_mark_of_nought_in_the_file_is_a_mark() -> None:
    unmarked = FILE._replace(fwmark=0)

    assert running(unmarked, fwmark=0, mark=51820) is unmarked
    assert running(unmarked, fwmark=51820, mark=51820) == unmarked._replace(fwmark=51820)


@pytest.mark.parametrize(
    ("seen", "addresses"),
    [
        ((ADDRESSES[0],), (ADDRESSES[0],)),
        ((ADDRESSES[1], ADDRESSES[0]), (ADDRESSES[1], ADDRESSES[0])),
        ((), ()),
        ((LINK, ADDRESSES[0]), (ADDRESSES[0],)),  # the kernel's own
    ],
)
def test_addresses(seen: tuple[Prefix, ...], addresses: tuple[Prefix, ...]) -> None:
    assert running(seen=SEEN._replace(addresses=seen)).addresses == addresses


def test_a_link_local_address_of_the_file_is_kept_and_order_is_no_difference() -> None:
    file = FILE._replace(addresses=(ADDRESSES[0], LINK))

    assert running(file, SEEN._replace(addresses=(LINK, ADDRESSES[0]))) is file


def with_state(**changes: object) -> Tunnel:
    return running(peers=(STATES[0]._replace(**changes), STATES[1]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "peer"),
    [
        ({}, {}),
        ({"preshared_key": SECRETS[1]}, {"preshared_key": SECRETS[1]}),
        ({"preshared_key": None}, {"preshared_key": None}),
        ({"keepalive_s": 0}, {"keepalive_s": 0}),
        ({"endpoint": THERE}, {"endpoint": THERE}),
        ({"endpoint": None}, {}),  # not known now, which is no wish
        ({"allowed_ips": (NETS[0],)}, {"allowed_ips": (NETS[0],)}),
        ({"allowed_ips": (NETS[1], NETS[0])}, {}),
        ({"rx_bytes": 5, "last_handshake_s": 5.0}, {}),
    ],
)
def test_a_peer(state: dict[str, object], peer: dict[str, object]) -> None:
    found = with_state(**state)

    assert found.peers == (PEER._replace(**peer), FILE.peers[1])  # type: ignore[arg-type]
    assert (found is FILE) is not bool(peer)


def test_an_endpoint_that_is_a_name_stays_one_and_a_new_one_is_kept() -> None:
    named = FILE._replace(peers=(PEER._replace(endpoint=NAME), FILE.peers[1]))
    without = FILE._replace(peers=(PEER._replace(endpoint=None), FILE.peers[1]))

    assert running(named) is named
    assert running(without) == FILE


def test_a_keepalive_that_the_file_does_not_name_is_off() -> None:
    silent = FILE._replace(peers=(PEER._replace(keepalive_s=None), FILE.peers[1]))

    assert running(silent) == FILE
    assert running(silent, peers=(STATES[0]._replace(keepalive_s=0), STATES[1])) is silent


def test_peers_that_came_are_last_and_those_that_went_are_gone() -> None:
    new = PeerState(KEYS[2], SECRETS[1], THERE, 5, 0.0, 0, 0, (NETS[2],))

    assert running(peers=(new, *STATES)).peers == (
        *FILE.peers,
        Peer(KEYS[2], SECRETS[1], THERE, 5, (NETS[2],)),
    )
    assert running(peers=STATES[:1]).peers == (PEER,)
    assert running(peers=STATES[1:]).peers == (FILE.peers[1],)
    assert running(peers=()).peers == ()


def test_the_own_key_among_the_files_peers_stays_though_no_device_has_it() -> None:
    assert running(peers=STATES[:1], own_key=KEYS[1]) is FILE
    new = STATES[0]._replace(keepalive_s=5)
    assert running(peers=(new,), own_key=KEYS[1]).peers == (
        PEER._replace(keepalive_s=5),
        FILE.peers[1],
    )


def test_peers_in_another_order_are_the_same() -> None:
    assert running(peers=STATES[::-1]) is FILE
