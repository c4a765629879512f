"""Status as a table and as an exit status."""

from __future__ import annotations

import base64
import json
import sys
import time
from typing import Any

import pytest

from wgsvc.report import table
from wgsvc.report.snapshot import device_table, exit_status, peers_up, tunnel_table
from wgsvc.uapi.parse import DeviceState, PeerState
from wgsvc.values import Endpoint, Prefix, SecretKey

NOW = 1_700_000_000.0
KEY = b"k" * 32


def peer(**more: Any) -> PeerState:
    state = PeerState(
        KEY, SecretKey(b"p" * 32), Endpoint("192.0.2.1", 51820), 25, NOW - 65, 2048, 5 << 20,
        (Prefix(4, 10 << 24, 8),),
    )  # fmt: skip
    return state._replace(**more)


def tunnel(state: str = "up", *peers: PeerState, **more: Any) -> dict[str, Any]:
    device = DeviceState(SecretKey(b"s" * 32), 51820, 0, peers)
    known: dict[str, Any] = {
        "state": state,
        "since": NOW,
        "children": [{"role": "wireguard-go", "pid": 42}],
        "addresses": ["10.0.0.1/24"],
        **device_table(device, {KEY: ("office", "vpn.example:51820")}),
    }
    return tunnel_table("wg0", **(known | more))


def shown(*tunnels: dict[str, Any], verbose: bool = False) -> str:
    snapshot = {"schema": 1, "supervisor": {"pid": 7, "since": NOW}, "tunnels": list(tunnels)}
    return table.render(snapshot, verbose=verbose)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def test_peers_stand_as_in_the_file_and_then_by_key() -> None:
    keys = [bytes([number]) * 32 for number in (9, 3, 7)]
    states = [peer(public_key=key) for key in (b"z" * 32, *sorted(keys), b"a" * 32)]
    known: dict[bytes, tuple[str, str | None]] = {key: (str(key[0]), None) for key in keys}

    told = device_table(DeviceState(None, 1, 0, tuple(states)), known, {keys[2]: 5.0})["peers"]

    assert [one["name"] for one in told] == ["9", "3", "7", "", ""]
    assert [base64.b64decode(one["public_key"])[:1] for one in told[3:]] == [b"a", b"z"]
    assert [one["unresolved_since"] for one in told] == [None, None, 5.0, None, None]


def test_a_table_has_every_key_and_no_other() -> None:
    down, up = tunnel_table("wg0"), tunnel_table("wg1", state="up", drift=True)

    assert list(down) == list(up)
    assert (up["state"], up["drift"], down["drift"]) == ("up", True, False)
    with pytest.raises(TypeError):
        tunnel_table("wg0", surprise=1)


def test_a_row() -> None:
    _, row, last = shown(tunnel("up", peer())).splitlines()

    assert row.split()[:6] == ["wg0", "up", "42", "51820", "1/1", "1m05s"]
    assert "2.0 KiB  5.0 MiB" in row
    assert last.startswith("supervisor: PID 7")


def test_columns_are_aligned_whatever_the_names() -> None:
    lines = shown({**tunnel("up"), "name": "a"}, {**tunnel("failed"), "name": "fifteen-bytes-x"})
    first = [line.index(" 42") for line in lines.splitlines()[1:3]]

    assert len(set(first)) == 1


def test_nothing_runs() -> None:
    assert "no tunnel is running" in shown()


def test_reason_and_other_children_are_told() -> None:
    text = shown(
        tunnel(
            "failed",
            reason="wireguard-go died 6 times",
            children=[{"role": "route-monitor", "pid": 9}],
        )
    )

    assert "wg0: wireguard-go died 6 times" in text
    assert "route-monitor" in text


def test_a_degraded_tunnel_is_called_so() -> None:
    assert "degraded" in shown(tunnel("up", degraded=True))


def test_verbose_shows_names_endpoints_and_how_many_prefixes_more() -> None:
    many = tuple(Prefix(4, number << 8, 24) for number in range(9))
    text = shown(tunnel("up", peer(allowed_ips=many, endpoint=None)), verbose=True)

    assert "office" in text
    assert "vpn.example:51820 (unresolved)" in text
    assert "(+5)" in text


def test_no_secret_is_in_table_or_data() -> None:
    one = tunnel("up", peer())
    told = json.dumps(one) + shown(one, verbose=True)

    for secret in (b"s" * 32, b"p" * 32):
        assert secret.hex() not in told
        assert base64.b64encode(secret).decode() not in told
    assert one["peers"][0]["preshared_key"] is True


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in shown(tunnel())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32mup" in shown(tunnel())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(tunnel())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert "\x1b" not in shown(tunnel())


@pytest.mark.parametrize(
    ("age_s", "up"), [(0, 1), (179, 1), (181, 0), (NOW, 0)], ids=["now", "fresh", "old", "never"]
)
def test_a_peer_is_up_while_its_session_lives(age_s: float, up: int) -> None:
    assert peers_up(tunnel("up", peer(last_handshake_s=NOW - age_s)), NOW) == up


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([], 3),
        (["up"], 0),
        (["up", "up"], 0),
        (["down"], 3),
        (["up", "down"], 3),
        (["failed"], 1),
        (["up", "failed"], 1),
        (["down", "failed"], 1),
        (["starting"], 1),
        (["respawning"], 1),
        (["stopping"], 1),
        (["unsupervised"], 1),
    ],
)
def test_exit_status(states: list[str], status: int) -> None:
    assert exit_status([{"state": state} for state in states]) == status


def test_exit_status_of_a_degraded_one() -> None:
    assert exit_status([{"state": "up", "degraded": True}]) == 1


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (3 << 40, "3.0 TiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert table.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s ago"),
        (59.9, "59s ago"),
        (60, "1m00s ago"),
        (3599, "59m59s ago"),
        (90000, "25h00m ago"),
    ],
)
def test_ago(seconds: float, text: str) -> None:
    assert table.ago(seconds) == text
