"""The words of wg(8): what it prints into values, changes into what it reads."""

from __future__ import annotations

from base64 import b64encode

import pytest

from wgsvc.errors import ProtocolError
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange
from wgsvc.uapi.parse import DeviceState, PeerState
from wgsvc.uapi.wg_text import conf, parse_dump, removed
from wgsvc.values import Endpoint, Prefix, SecretKey

KEYS = [bytes([number]) * 32 for number in range(1, 5)]
TEXTS = [b64encode(key).decode() for key in KEYS]
FOUR, SIX = Prefix(4, 10 << 24, 8), Prefix(6, 0xFD << 120, 64)
THIRD = Prefix(4, 11 << 24, 8)
HERE = Endpoint("192.0.2.1", 9)


def dump(*peers: str, device: str = f"{TEXTS[0]}\t{TEXTS[1]}\t51820\toff") -> DeviceState:
    return parse_dump("\n".join((device, *peers)) + "\n", "wg0")


def test_all_of_a_device() -> None:
    state = dump(
        f"{TEXTS[2]}\t{TEXTS[3]}\t[2001:db8::1]:7\t10.0.0.0/8,fd00::/64\t1700000000\t5\t6\t25",
        f"{TEXTS[3]}\t(none)\t(none)\t(none)\t0\t0\t0\toff",
    )

    assert state == DeviceState(
        SecretKey(KEYS[0]),
        51820,
        0,
        (
            PeerState(
                KEYS[2],
                SecretKey(KEYS[3]),
                Endpoint("2001:db8::1", 7),
                25,
                1700000000.0,
                5,
                6,
                (FOUR, SIX),
            ),
            PeerState(KEYS[3], None, None, 0, 0.0, 0, 0, ()),
        ),
    )
    assert type(state.peers[0].last_handshake_s) is float


def test_a_device_that_has_nothing_yet() -> None:
    assert dump(device="(none)\t(none)\t0\toff") == DeviceState(None, 0, 0, ())
    zero = b64encode(NO_KEY).decode()
    assert dump(device=f"{zero}\t{zero}\t0\t0xca6c") == DeviceState(None, 0, 0xCA6C, ())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x\n",
        f"{TEXTS[0]}\t{TEXTS[1]}\t51820\n",
        f"{TEXTS[0]}\t{TEXTS[1]}\tx\toff\n",
        f"{TEXTS[0][:-4]}\t{TEXTS[1]}\t1\toff\n",  # a key of 30 bytes
        f"{TEXTS[0][:-2]}\t{TEXTS[1]}\t1\toff\n",  # half a key
        f"{TEXTS[0]}\t{TEXTS[1]}\t1\toff\n{TEXTS[2][:-4]}\t(none)\t(none)\t(none)\t0\t0\t0\toff\n",
        f"{TEXTS[0]}\t{TEXTS[1]}\t1\toff\n(none)\t(none)\t(none)\t(none)\t0\t0\t0\toff\n",
        f"{TEXTS[0]}\t{TEXTS[1]}\t1\toff\n{TEXTS[2]}\t(none)\t(none)\t(none)\t0\t0\toff\n",
    ],
)
def test_what_wg_never_prints_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ProtocolError, match=r"wg0: .*Error in its answer") as failure:
        parse_dump(text, "wg0")

    assert TEXTS[0][:8] not in failure.value.message


def test_a_change_of_nothing() -> None:
    assert conf(DeviceChange(), None) == "[Interface]\n"


def test_all_of_a_change() -> None:
    peer = PeerChange(
        KEYS[1], preshared_key=KEYS[2], endpoint=HERE, keepalive_s=0, allowed_ips=(FOUR, SIX)
    )
    change = DeviceChange(SecretKey(KEYS[0]), 7, 0, peers=(peer, PeerChange(KEYS[3])))

    assert conf(change, None).splitlines() == [
        "[Interface]",
        f"PrivateKey = {TEXTS[0]}",
        "ListenPort = 7",
        "FwMark = 0",
        "[Peer]",
        f"PublicKey = {TEXTS[1]}",
        f"PresharedKey = {TEXTS[2]}",
        "Endpoint = 192.0.2.1:9",
        "PersistentKeepalive = 0",
        "AllowedIPs = 10.0.0.0/8, fd00::/64",
        "[Peer]",
        f"PublicKey = {TEXTS[3]}",
    ]


def now(*allowed: Prefix) -> DeviceState:
    return DeviceState(None, 1, 0, (PeerState(KEYS[0], None, None, 0, 0.0, 0, 0, allowed),))


@pytest.mark.parametrize(
    ("change", "result"),
    [
        (PeerChange(KEYS[0], allowed_ips=(THIRD,)), (FOUR, SIX, THIRD)),
        (PeerChange(KEYS[0], allowed_ips=(FOUR,)), (FOUR, SIX)),
        (PeerChange(KEYS[0], allowed_ips=(THIRD,), dropped_ips=(FOUR,)), (SIX, THIRD)),
        (PeerChange(KEYS[0], allowed_ips=(THIRD,), replace_allowed_ips=True), (THIRD,)),
        (PeerChange(KEYS[0], keepalive_s=5), (FOUR, SIX)),
        (PeerChange(KEYS[1], allowed_ips=(THIRD, THIRD)), (THIRD, THIRD)),
    ],
)
def test_allowed_ips_are_given_in_full(change: PeerChange, result: tuple[Prefix, ...]) -> None:
    """wg(8) replaces them by what it reads."""
    text = conf(DeviceChange(peers=(change,)), now(FOUR, SIX))

    assert text.splitlines()[-1] == f"AllowedIPs = {', '.join(map(str, result))}"


def test_a_removed_peer_is_named_apart_and_one_to_update_must_be_there() -> None:
    change = DeviceChange(
        peers=(
            PeerChange(KEYS[0], remove=True),
            PeerChange(KEYS[1], update_only=True),
            PeerChange(KEYS[2]),
            PeerChange(KEYS[3], remove=True),
        )
    )

    assert conf(change, now()).splitlines() == ["[Interface]", "[Peer]", f"PublicKey = {TEXTS[2]}"]
    assert conf(change, None).splitlines() == ["[Interface]", "[Peer]", f"PublicKey = {TEXTS[2]}"]
    assert removed(change) == [TEXTS[0], TEXTS[3]]
    updated = DeviceChange(peers=(PeerChange(KEYS[0], update_only=True),))
    assert conf(updated, now()).splitlines() == ["[Interface]", "[Peer]", f"PublicKey = {TEXTS[0]}"]


def test_a_key_of_another_length_never_reaches_wg() -> None:
    with pytest.raises(ValueError, match="another length"):
        conf(DeviceChange(private_key=SecretKey(b"short")), None)
    with pytest.raises(ValueError, match="another length"):
        removed(DeviceChange(peers=(PeerChange(b"k" * 33, remove=True),)))
