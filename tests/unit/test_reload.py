"""What a reload does: the smallest change that makes a device equal to a file."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from wgsvc.config.fields import clamped
from wgsvc.config.model import TABLE_OFF, Hooks, Peer, Tunnel
from wgsvc.plan import steps
from wgsvc.plan.changes import hooks
from wgsvc.plan.reload import (
    Difference,
    Observed,
    device_difference,
    difference,
    needs_restart,
)
from wgsvc.plan.routes import tunnel_prefixes
from wgsvc.plan.running import running_tunnel
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange, encode
from wgsvc.uapi.parse import DeviceState, PeerState
from wgsvc.values import Endpoint, Prefix, Route, SecretKey

KEYS = [bytes([number]) * 32 for number in range(1, 7)]
SECRETS = [SecretKey(clamped(bytes([number]) * 32)) for number in range(101, 104)]
NETS = [Prefix(4, 10 << 24 | number << 8, 24) for number in range(8)]
NETS += [Prefix(6, 0xFD << 120 | number << 64, 64) for number in range(3)]
ADDRESSES = [Prefix(4, 172 << 24 | number, 32) for number in range(1, 5)]
HERE, THERE = Endpoint("192.0.2.1", 1000), Endpoint("2001:db8::1", 2000)
NAME = Endpoint("vpn.example.org", 3000)


class Device:
    """A device as the protocol's specification has it (wireguard.com/xplatform)."""

    def __init__(self, *, minus_form: bool = True) -> None:
        self.private_key: bytes | None = None
        self.listen_port = 1
        self.fwmark = 0
        self.peers: dict[bytes, PeerState] = {}
        self.rebinds = 0
        self._minus_form = minus_form

    def apply(self, change: DeviceChange | None) -> None:
        if change is None:
            return
        encode(change)  # what can't be sent can't be applied
        if change.private_key is not None:
            self.private_key = change.private_key
        if change.listen_port is not None:
            self.listen_port = change.listen_port
            self.rebinds += 1
        if change.fwmark is not None:
            self.fwmark = change.fwmark
        for peer in change.peers:
            self._apply_peer(peer)

    def _apply_peer(self, change: PeerChange) -> None:
        key = change.public_key
        if change.remove:
            self.peers.pop(key, None)
            return
        if key not in self.peers and change.update_only:
            return
        now = self.peers.get(key, PeerState(key, None, None, 0, 0.0, 0, 0, ()))
        if change.preshared_key is not None:
            cleared = change.preshared_key == NO_KEY
            now = now._replace(preshared_key=None if cleared else SecretKey(change.preshared_key))
        if change.endpoint is not None:
            now = now._replace(endpoint=change.endpoint)
        if change.keepalive_s is not None:
            now = now._replace(keepalive_s=change.keepalive_s)
        allowed = () if change.replace_allowed_ips else now.allowed_ips
        assert self._minus_form or not change.dropped_ips
        gone = {*change.dropped_ips, *change.allowed_ips}
        allowed = tuple(prefix for prefix in allowed if prefix not in gone) + change.allowed_ips
        for other, state in self.peers.items():
            if other != key:
                kept = tuple(p for p in state.allowed_ips if p not in change.allowed_ips)
                self.peers[other] = state._replace(allowed_ips=kept)
        self.peers[key] = now._replace(allowed_ips=allowed)

    @property
    def state(self) -> DeviceState:
        key = None if self.private_key is None else SecretKey(self.private_key)
        return DeviceState(key, self.listen_port, self.fwmark, tuple(self.peers.values()))


def wanted_by(peers: tuple[Peer, ...]) -> dict[bytes, tuple[object, ...]]:
    return {
        peer.public_key: (peer.preshared_key, peer.keepalive_s or 0, set(peer.allowed_ips))
        for peer in peers
    }


def had_by(state: DeviceState) -> dict[bytes, tuple[object, ...]]:
    return {
        peer.public_key: (peer.preshared_key, peer.keepalive_s, set(peer.allowed_ips))
        for peer in state.peers
    }


@st.composite
def tunnels(draw: st.DrawFn) -> Tunnel:
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=5))
    owners = {net: draw(st.sampled_from([*keys, None])) for net in NETS} if keys else {}
    peers = [
        Peer(
            key,
            preshared_key=draw(st.sampled_from([None, *SECRETS])),
            endpoint=draw(st.sampled_from([None, HERE, THERE, NAME])),
            keepalive_s=draw(st.sampled_from([None, 0, 25])),
            allowed_ips=tuple(net for net, owner in owners.items() if owner == key),
            routes=draw(st.sampled_from([None, (), (NETS[0], NETS[5])])),
        )
        for key in keys
    ]
    return Tunnel(
        "wg0",
        private_key=draw(st.sampled_from([None, *SECRETS])),
        listen_port=draw(st.sampled_from([None, 1, 51820])),
        fwmark=draw(st.sampled_from([None, 0, 7])),
        addresses=tuple(draw(st.lists(st.sampled_from(ADDRESSES), unique=True))),
        peers=tuple(peers),
        table=draw(st.sampled_from([None, 7, TABLE_OFF])),
    )


def run(found: Difference, seen: Observed, device: Device) -> Observed:
    addresses, routed, mtu = set(seen.addresses), set(seen.routed), seen.mtu
    for step in (*found.additions, *found.removals):
        match step:
            case steps.AddAddress(address=address):
                addresses.add(address)
            case steps.DeleteAddress(address=address):
                addresses.remove(address)
            case steps.SetMtu(mtu=new):
                mtu = new
            case steps.AddRoutes(routes=routes):
                assert routed.isdisjoint(route.prefix for route in routes)
                routed |= {route.prefix for route in routes}
            case steps.DeleteRoutes(routes=routes):
                routed -= {route.prefix for route in routes}
    device.apply(found.device)
    return Observed(device.state, tuple(sorted(addresses)), frozenset(routed), mtu)


@settings(max_examples=150, deadline=None)
@given(first=tunnels(), hand=tunnels(), second=tunnels(), minus_form=st.booleans())
def test_applied_to_a_device_it_makes_it_equal_to_the_file(
    first: Tunnel,
    hand: Tunnel,
    second: Tunnel,
    minus_form: bool,  # noqa: FBT001
) -> None:
    """Whatever was applied, whatever somebody did by hand since: one reload converges."""
    second = second._replace(table=first.table)
    device = Device(minus_form=minus_form)
    nothing = Observed(device.state, (), frozenset(), 1420)
    seen = run(difference(first, Tunnel("wg0"), nothing, mtu=1380), nothing, device)
    assert had_by(seen.device) == wanted_by(first.peers)
    device.apply(device_difference(hand, first, device.state, minus_form=minus_form))
    seen = Observed(device.state, hand.addresses, seen.routed, 1400)

    found = difference(second, first, seen, mtu=1380, minus_form=minus_form)
    after = run(found, seen, device)

    assert had_by(after.device) == wanted_by(second.peers)
    assert set(after.addresses) == set(second.addresses)
    assert after.mtu == 1380
    assert after.routed >= set(tunnel_prefixes(second))
    assert not after.routed & (set(tunnel_prefixes(first)) - set(tunnel_prefixes(second)))
    assert after.device.fwmark == (second.fwmark or 0)
    if second.private_key is not None:
        assert after.device.private_key == second.private_key
    again = difference(second, second, after, mtu=1380, minus_form=minus_form)
    assert again.empty, again


def one(peer: Peer, **more: object) -> Tunnel:
    return Tunnel("wg0", peers=(peer,), **more)  # type: ignore[arg-type]


def seen_of(tunnel: Tunnel) -> Observed:
    device = Device()
    nothing = Observed(device.state, (), frozenset(), 1420)
    return run(difference(tunnel, Tunnel("wg0"), nothing, mtu=1420), nothing, device)


def test_nothing_to_do_is_nothing_to_send() -> None:
    tunnel = one(Peer(KEYS[0], SECRETS[0], HERE, 25, (NETS[0], NETS[8])), listen_port=51820)

    found = difference(tunnel, tunnel, seen_of(tunnel), mtu=1420)

    assert found.empty
    assert found.device is None


def test_one_allowed_ip_more_is_one_line_more() -> None:
    peer = Peer(KEYS[0], SECRETS[0], HERE, 25, (NETS[0],))
    wanted = one(peer._replace(allowed_ips=(NETS[0], NETS[1])))

    found = difference(wanted, one(peer), seen_of(one(peer)), mtu=1420)

    assert found.device is not None
    assert encode(found.device).decode().split() == [
        "set=1", f"public_key={KEYS[0].hex()}", "update_only=true", f"allowed_ip={NETS[1]}"
    ]  # fmt: skip
    assert found.additions == (steps.AddRoutes("wg0", (Route(NETS[1]),)),)


def test_an_endpoint_that_roamed_is_left_where_it_is() -> None:
    tunnel = one(Peer(KEYS[0], endpoint=HERE))
    seen = seen_of(tunnel)
    roamed = seen.device.peers[0]._replace(endpoint=THERE)
    seen = seen._replace(device=seen.device._replace(peers=(roamed,)))

    assert difference(tunnel, tunnel, seen, mtu=1420).empty
    other = one(Peer(KEYS[0], endpoint=HERE._replace(port=7)))
    found = difference(other, tunnel, seen, mtu=1420)
    assert found.device is not None
    assert found.device.peers[0].endpoint == Endpoint(HERE.host, 7)


def test_a_moved_allowed_ip_is_given_never_taken_away_before() -> None:
    a, b = Peer(KEYS[0], allowed_ips=(NETS[0], NETS[1])), Peer(KEYS[1])
    before = Tunnel("wg0", peers=(a, b))
    wanted = Tunnel(
        "wg0", peers=(a._replace(allowed_ips=(NETS[1],)), b._replace(allowed_ips=(NETS[0],)))
    )

    found = difference(wanted, before, seen_of(before), mtu=1420)

    assert found.device == DeviceChange(
        peers=(PeerChange(KEYS[1], update_only=True, allowed_ips=(NETS[0],)),)
    )
    assert not found.additions
    assert not found.removals


def test_without_the_minus_form_one_peers_set_is_sent_again_and_no_other() -> None:
    a, b = Peer(KEYS[0], allowed_ips=(NETS[0], NETS[1])), Peer(KEYS[1], allowed_ips=(NETS[2],))
    before = Tunnel("wg0", peers=(a, b))
    wanted = Tunnel("wg0", peers=(a._replace(allowed_ips=(NETS[1],)), b))

    found = difference(wanted, before, seen_of(before), mtu=1420, minus_form=False)

    assert found.device == DeviceChange(
        peers=(
            PeerChange(KEYS[0], update_only=True, replace_allowed_ips=True, allowed_ips=(NETS[1],)),
        )
    )


def test_a_preshared_key_that_is_gone_is_cleared() -> None:
    before, wanted = one(Peer(KEYS[0], SECRETS[0])), one(Peer(KEYS[0]))

    found = difference(wanted, before, seen_of(before), mtu=1420)

    assert found.device is not None
    assert found.device.peers[0].preshared_key == NO_KEY


def test_our_own_key_among_the_peers_is_passed_over() -> None:
    tunnel = one(Peer(KEYS[0]))
    nobody = Observed(Device().state, (), frozenset(), 1420)

    assert difference(tunnel, tunnel, nobody, mtu=1420, own_key=KEYS[0]).empty
    assert not difference(tunnel, tunnel, nobody, mtu=1420).empty


def test_the_order_in_which_wireguard_go_lists_peers_has_no_say() -> None:
    tunnel = one(Peer(KEYS[3]))
    states = tuple(PeerState(key, None, None, 0, 0.0, 0, 0, ()) for key in KEYS)
    seen = [
        seen_of(tunnel)._replace(device=DeviceState(None, 1, 0, listed))
        for listed in (states, states[::-1])
    ]

    found = [difference(tunnel, tunnel, each, mtu=1420) for each in seen]
    now = [running_tunnel(tunnel, each, mtu=1420, port=1) for each in seen]

    assert found[0] == found[1] != Difference((), None, ())
    assert now[0] == now[1]
    assert [peer.public_key for peer in now[0].peers] == [KEYS[3], *KEYS[:3], *KEYS[4:]]


def test_the_port_is_sent_only_if_it_is_another() -> None:
    plain = one(Peer(KEYS[0]))

    assert difference(plain, plain, seen_of(plain), mtu=1420).empty
    found = difference(plain._replace(listen_port=9), plain, seen_of(plain), mtu=1420)
    assert found.device == DeviceChange(listen_port=9)


def test_a_new_private_key_says_that_sessions_are_renewed() -> None:
    before = one(Peer(KEYS[0]), private_key=SECRETS[0])
    found = difference(before._replace(private_key=SECRETS[1]), before, seen_of(before), mtu=1420)

    assert found.renews_sessions


def test_routes_that_somebody_else_added_stay() -> None:
    tunnel = one(Peer(KEYS[0], allowed_ips=(NETS[0],)))
    seen = seen_of(tunnel)
    seen = seen._replace(routed=seen.routed | {NETS[7]})

    assert difference(tunnel, tunnel, seen, mtu=1420).empty
    found = difference(Tunnel("wg0"), tunnel, seen, mtu=1420)
    assert found.removals == (steps.DeleteRoutes("wg0", (Route(NETS[0]),)),)


def test_another_table_takes_a_restart() -> None:
    assert "Table" in needs_restart(Tunnel("wg0", table=7), Tunnel("wg0"))
    assert not needs_restart(Tunnel("wg0", table=7), Tunnel("wg0", table=7))


def test_hooks_that_differ_are_named_and_nothing_is_to_be_done() -> None:
    before = Tunnel("wg0", hooks=Hooks(post_up=("a",), pre_down=("b", "c")))
    seen = seen_of(before)
    after = before._replace(hooks=Hooks(("new",), ("a",), ("c", "b")))

    assert difference(before, before, seen, mtu=1420).hooks == ()
    found = difference(after, before, seen, mtu=1420)

    assert found.empty
    assert list(hooks(found)) == [
        "PreUp differs: it runs at the next start",
        "PreDown differs: it runs at the next stop",
    ]


def test_dns_changes_with_the_file_only() -> None:
    before = Tunnel("wg0", dns_servers=("192.0.2.53",))
    seen = seen_of(before)

    assert difference(before, before, seen, mtu=1420).empty
    found = difference(before._replace(dns_search=("corp",)), before, seen, mtu=1420)
    assert found.additions == (steps.SetDns("wg0", ("192.0.2.53",), ("corp",), "exclusive"),)
    found = difference(Tunnel("wg0"), before, seen, mtu=1420)
    assert found.removals == (steps.UnsetDns("wg0"),)
