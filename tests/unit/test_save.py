"""Writing what runs into a file: only what differs, comments and order kept."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.test_reload import ADDRESSES, KEYS, NETS, SECRETS, tunnels
from wgsvc.config.merge import merge
from wgsvc.config.model import TABLE_OFF, Peer, Tunnel
from wgsvc.config.parse import parse
from wgsvc.config.render import text
from wgsvc.config.save import save
from wgsvc.errors import ConfigError
from wgsvc.values import Endpoint

PATH = "/etc/wireguard/wg0.conf"


def k(raw: bytes) -> str:
    return b64encode(bytes(raw)).decode()


ALICE, BOB, CAROL = KEYS[0], KEYS[1], KEYS[2]
OFFICE = f"""\
# the office

[Interface]
PrivateKey={k(SECRETS[0])}
Address = 10.0.0.1/24, fd00::1/64 # both
# a note
MTU = 1400
PostUp = echo '# %i' # up

# --- on the road ---

# alice
[Peer]
PublicKey = {k(ALICE)}
AllowedIPs = 10.0.1.0/24,10.0.2.0/24 , 10.0.3.0/24  # three
Endpoint = vpn.example.org:51820

# bob
[peer]
\tpublickey={k(BOB)}
\tallowedips=10.0.4.0/24
\tPersistentKeepalive=25
"""


def read(data: str, *extra: tuple[str, bytes]) -> Tunnel:
    checked = parse(data.encode(), name="wg0", path=PATH, extra=extra)
    assert checked.tunnel is not None, checked.diagnostics
    return checked.tunnel


def saved(before: str, running: Tunnel, applied: Tunnel | None = None) -> str:
    found = save([(PATH, before.encode())], applied or read(before), running)
    return found.files.get(PATH, before.encode()).decode()


def with_peer(tunnel: Tunnel, key: bytes, **changes: object) -> Tunnel:
    return tunnel._replace(
        peers=tuple(
            peer._replace(**changes) if peer.public_key == key else peer  # type: ignore[arg-type]
            for peer in tunnel.peers
        )
    )


def test_an_untouched_tunnel_changes_no_file() -> None:
    tunnel = read(OFFICE)

    assert save([(PATH, OFFICE.encode())], tunnel, tunnel).files == {}


@pytest.mark.parametrize(
    ("key", "changes", "old", "new"),
    [
        (None, {"mtu": 1300}, "MTU = 1400", "MTU = 1300"),
        (None, {"listen_port": 7}, "# up\n", "# up\nListenPort = 7\n"),
        (None, {"fwmark": 255}, "# up\n", "# up\nFwMark = 0xff\n"),
        (None, {"private_key": SECRETS[1]}, k(SECRETS[0]), k(SECRETS[1])),
        (BOB, {"keepalive_s": 0}, "Keepalive=25", "Keepalive=off"),
        (BOB, {"keepalive_s": 7}, "Keepalive=25", "Keepalive=7"),
        (BOB, {"endpoint": Endpoint("192.0.2.1", 9)}, "=25\n", "=25\n\tEndpoint=192.0.2.1:9\n"),
        (BOB, {"allowed_ips": (NETS[0],)}, "10.0.4.0/24", "10.0.0.0/24"),
        (BOB, {"allowed_ips": ()}, "\tallowedips=10.0.4.0/24\n", ""),
        (ALICE, {"allowed_ips": (NETS[1], NETS[2])}, " , 10.0.3.0/24  #", "  #"),
        (ALICE, {"allowed_ips": (NETS[2], NETS[3])}, "10.0.1.0/24,10.0.2", "10.0.2"),
        (ALICE, {"allowed_ips": (*NETS[1:4], NETS[7])}, "3.0/24  #", "3.0/24 , 10.0.7.0/24  #"),
        (ALICE, {"allowed_ips": ()}, "AllowedIPs = 10.0.1.0/24,10.0.2.0/24 , 10.0.3.0/24  #", "#"),
    ],
)
def test_one_change_is_one_edit(
    key: bytes | None, changes: dict[str, object], old: str, new: str
) -> None:
    tunnel = read(OFFICE)
    running = with_peer(tunnel, key, **changes) if key else tunnel._replace(**changes)  # type: ignore[arg-type]
    assert OFFICE.count(old) == 1

    assert saved(OFFICE, running) == OFFICE.replace(old, new)


def test_an_address_more_and_one_less() -> None:
    tunnel = read(OFFICE)
    running = tunnel._replace(addresses=(tunnel.addresses[1], ADDRESSES[0]))

    assert "Address = fd00::1/64, 172.0.0.1/32 # both\n" in saved(OFFICE, running)


def test_a_name_stays_a_name() -> None:
    running = with_peer(read(OFFICE), ALICE, endpoint=Endpoint("192.0.2.1", 9), keepalive_s=3)

    now = saved(OFFICE, running)

    assert "Endpoint = vpn.example.org:51820\nPersistentKeepalive = 3\n" in now


def test_a_new_peer_goes_to_the_end() -> None:
    tunnel = read(OFFICE)
    new = Peer(CAROL, SECRETS[2], Endpoint("2001:db8::1", 9), 5, (NETS[8],))

    now = saved(OFFICE, tunnel._replace(peers=(*tunnel.peers, new)))

    assert now == OFFICE + (
        f"\n[Peer]\nPublicKey = {k(CAROL)}\nPresharedKey = {k(SECRETS[2])}\n"
        f"AllowedIPs = {NETS[8]}\nEndpoint = [2001:db8::1]:9\nPersistentKeepalive = 5\n"
    )


def test_a_peer_that_is_gone_takes_its_name_along_and_no_other_comment() -> None:
    tunnel = read(OFFICE)
    start, end = OFFICE.index("# alice"), OFFICE.index("# bob")

    assert saved(OFFICE, tunnel._replace(peers=tunnel.peers[1:])) == OFFICE[:start] + OFFICE[end:]
    now = saved(OFFICE, tunnel._replace(peers=tunnel.peers[:1]))
    assert now == OFFICE[:end].rstrip("\n") + "\n"


def test_a_comment_left_over_becomes_nobodys_name() -> None:
    before = OFFICE.replace("\n# alice\n", "\n# mobiles\n# alice\n").replace("# bob\n", "")
    tunnel = read(before)

    now = saved(before, tunnel._replace(peers=tunnel.peers[1:]))

    assert "# mobiles\n\n[peer]" in now
    assert read(now).peers[0].name == ""


def test_allowed_ips_one_a_line_stay_one_a_line() -> None:
    before = OFFICE.replace(
        "10.0.1.0/24,10.0.2.0/24 , 10.0.3.0/24  # three", "10.0.1.0/24"
    ).replace("\nEndpoint", "\nAllowedIPs = 10.0.2.0/24\nEndpoint")
    running = with_peer(read(before), ALICE, allowed_ips=(NETS[1], NETS[2], NETS[5]))

    now = saved(before, running)

    added = "Endpoint = vpn.example.org:51820\nAllowedIPs = 10.0.5.0/24\n"
    assert now == before.replace("Endpoint = vpn.example.org:51820\n", added)


def test_a_moved_allowed_ip_leaves_every_other_list() -> None:
    tunnel = read(OFFICE)
    running = with_peer(tunnel, ALICE, allowed_ips=(NETS[1], NETS[3]))
    running = with_peer(running, BOB, allowed_ips=(NETS[4], NETS[2]))

    now = saved(OFFICE, running)

    assert "AllowedIPs = 10.0.1.0/24 , 10.0.3.0/24  # three\n" in now
    assert "\tallowedips=10.0.4.0/24, 10.0.2.0/24\n" in now


def test_line_ends_of_windows_stay() -> None:
    before = OFFICE.replace("\n", "\r\n")
    tunnel = read(before)
    new = (*tunnel.peers, Peer(CAROL, allowed_ips=(NETS[7],)))

    now = saved(before, tunnel._replace(peers=new, fwmark=3))

    assert now.count("\n") == now.count("\r\n")
    assert read(now).fwmark == 3


def test_a_file_without_a_last_newline_gets_one_only_if_it_changes() -> None:
    before = OFFICE.rstrip("\n")
    tunnel = read(before)

    assert saved(before, tunnel) == before
    assert saved(before, with_peer(tunnel, BOB, keepalive_s=9)).endswith("Keepalive=9\n")


def test_what_was_edited_since_wins_over_what_runs() -> None:
    applied = read(OFFICE)
    edited = OFFICE.replace("Keepalive=25", "Keepalive=17").replace("MTU = 1400", "MTU = 1410")
    running = with_peer(applied, BOB, keepalive_s=9, preshared_key=SECRETS[1])

    now = saved(edited, running._replace(fwmark=3), applied)

    assert "Keepalive=17" in now
    assert "MTU = 1410" in now
    assert f"PresharedKey={k(SECRETS[1])}" in now
    assert "FwMark = 0x3" in now


def test_a_key_kept_in_a_file_of_its_own_is_left_there() -> None:
    before = OFFICE.replace(f"PrivateKey={k(SECRETS[0])}", "# wgsvc: private-key-file = key")
    applied = read(before)._replace(private_key=SECRETS[0])

    found = save([(PATH, before.encode())], applied, applied._replace(private_key=SECRETS[1]))

    assert found.files == {}
    assert "key" in found.left_out[0]
    assert k(SECRETS[1]) not in found.left_out[0]


def test_a_file_with_errors_is_left_alone() -> None:
    tunnel = read(OFFICE)

    with pytest.raises(ConfigError, match=r"wg0\.conf:\d+"):
        save([(PATH, b"nonsense\n")], tunnel, tunnel._replace(mtu=1300))


def test_peers_in_drop_ins_are_edited_there() -> None:
    dropin = (f"{PATH}.d/carol.conf", f"[Peer]\nPublicKey = {k(CAROL)}\n".encode())
    applied = read(OFFICE, dropin)
    running = with_peer(applied, CAROL, keepalive_s=5)

    found = save([(PATH, OFFICE.encode()), dropin], applied, running)

    assert found.files == {dropin[0]: dropin[1] + b"PersistentKeepalive = 5\n"}


def comparable(tunnel: Tunnel) -> tuple[object, ...]:
    return (
        tunnel.private_key,
        tunnel.listen_port,
        tunnel.fwmark or 0,
        tunnel.mtu,
        set(tunnel.addresses),
        {
            peer.public_key: (
                peer.preshared_key,
                peer.endpoint,
                peer.keepalive_s or 0,
                set(peer.allowed_ips),
            )
            for peer in tunnel.peers
        },
    )


def comments(data: str) -> list[str]:
    return [line for line in data.split("\n") if line.startswith("#")]


def named(tunnel: Tunnel) -> set[bytes]:
    return {
        peer.public_key for peer in tunnel.peers if peer.endpoint and "org" in peer.endpoint.host
    }


@settings(max_examples=150, deadline=None)
@given(applied=tunnels(), running=tunnels(), more=st.data())
def test_what_is_saved_is_what_runs(applied: Tunnel, running: Tunnel, more: st.DataObject) -> None:
    """Whatever ran and whatever runs now: the new file says the latter."""
    applied = applied._replace(table=TABLE_OFF, fwmark=applied.fwmark or None)
    before = text(applied)
    remarks = more.draw(st.lists(st.sampled_from(["", "# remark", "#[Peer]"]), max_size=8))
    lines = before.split("\n")
    for remark in remarks:
        lines.insert(more.draw(st.integers(0, len(lines))), remark)
    before = "\n".join(lines)
    applied = read(before)
    names = named(applied)
    running = running._replace(
        table=TABLE_OFF,
        mtu=more.draw(st.sampled_from([applied.mtu, 1380])),
        private_key=running.private_key or applied.private_key,
        listen_port=running.listen_port or applied.listen_port,
        peers=tuple(
            peer._replace(
                routes=None,
                endpoint=next(
                    (p.endpoint for p in applied.peers if p.public_key == peer.public_key),
                    None,
                )
                if peer.public_key in names or peer.endpoint is None
                else peer.endpoint,
            )
            for peer in running.peers
        ),
    )

    now = saved(before, running, applied)

    assert comparable(read(now)) == comparable(running)
    again = read(now)
    assert saved(now, again, again) == now
    if {p.public_key for p in applied.peers} <= {p.public_key for p in running.peers}:
        assert comments(now) == comments(before)


@settings(max_examples=100, deadline=None)
@given(file=tunnels(), applied=tunnels(), running=tunnels())
def test_merge_with_nothing_changed_is_the_file_and_with_nothing_edited_is_what_runs(
    file: Tunnel, applied: Tunnel, running: Tunnel
) -> None:
    assert merge(file, applied, applied) is file
    merged = merge(applied, applied, running)
    assert comparable(merged) == comparable(running)
