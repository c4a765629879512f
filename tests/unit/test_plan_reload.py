"""Each difference of a reload by itself: what is done, in which order, and what is let be."""

from __future__ import annotations

from typing import Any

import pytest

from wgsvc.config.model import TABLE_OFF, Peer, Tunnel
from wgsvc.plan import reload, steps
from wgsvc.plan.reload import (
    LINK_LOCAL,
    Difference,
    Observed,
    device_difference,
    difference,
    needs_restart,
    whole_peer,
)
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange
from wgsvc.uapi.parse import DeviceState, PeerState
from wgsvc.values import Endpoint, Prefix, Route, SecretKey

KEYS = [bytes([number]) * 32 for number in range(1, 5)]
SECRETS = [SecretKey(bytes([number]) * 32) for number in range(101, 103)]
NETS = [Prefix(4, 10 << 24 | number << 8, 24) for number in range(4)]
ADDRESSES = [Prefix(4, 172 << 24 | number, 32) for number in range(3)]
EVERYTHING, EVERYTHING6 = Prefix(4, 0, 0), Prefix(6, 0, 0)
HERE, THERE = Endpoint("192.0.2.1", 1000), Endpoint("2001:db8::1", 2000)
NAME = Endpoint("vpn.example.org", 3000)
MTU = 1420


def state(*peers: PeerState, key: SecretKey | None = None, fwmark: int = 0) -> DeviceState:
    return DeviceState(key, 51820, fwmark, peers)


def having(key: bytes, *allowed: Prefix, keepalive_s: int = 0) -> PeerState:
    return PeerState(key, None, None, keepalive_s, 0.0, 0, 0, allowed)


def seen(
    *addresses: Prefix,
    routed: tuple[Prefix, ...] = (),
    ruled: tuple[int, ...] = (),
    device: DeviceState | None = None,
) -> Observed:
    return Observed(device or state(), addresses, frozenset(routed), MTU, ruled)


def of(
    wanted: Tunnel,
    observed: Observed,
    applied: Tunnel | None = None,
    *,
    mtu: int = MTU,
    **more: object,
) -> Difference:
    return difference(wanted, applied or wanted, observed, mtu=mtu, **more)  # type: ignore[arg-type]


# --- addresses, MTU, name servers


@pytest.mark.parametrize(
    ("number", "stays"),
    [
        (0xFE80 << 112 | 1, True),
        (0xFEBF << 112 | 1, True),  # the last /64 of fe80::/10
        (0xFEC0 << 112 | 1, False),
        (0xFE7F << 112 | 1, False),
        (0xFD << 120 | 1, False),
    ],
)
def test_link_local_addresses_are_the_kernels_own(number: int, *, stays: bool) -> None:
    """The kernel gives them to each interface: no reload takes them away."""
    address = Prefix(6, number, 64)

    found = of(Tunnel("wg0"), seen(address))

    assert found.removals == (() if stays else (steps.DeleteAddress("wg0", address),))
    assert LINK_LOCAL.version == 6


def test_a_link_local_address_of_the_file_is_added_as_any_other() -> None:
    address = Prefix(6, 0xFE80 << 112 | 1, 64)

    assert of(Tunnel("wg0", addresses=(address,)), seen()).additions == (
        steps.AddAddress("wg0", address),
    )


def test_an_address_more_and_one_less() -> None:
    wanted = Tunnel("wg0", addresses=(ADDRESSES[0], ADDRESSES[1]))

    found = of(wanted, seen(ADDRESSES[1], ADDRESSES[2]))

    assert found == Difference(
        (steps.AddAddress("wg0", ADDRESSES[0]),),
        None,
        (steps.DeleteAddress("wg0", ADDRESSES[2]),),
        False,
    )
    assert not found.empty
    assert not found.renews_sessions


def test_another_mtu() -> None:
    assert of(Tunnel("wg0"), seen(), mtu=1380).additions == (steps.SetMtu("wg0", 1380),)
    assert of(Tunnel("wg0"), seen()).empty


def test_name_servers_are_handed_over_as_the_mode_says() -> None:
    before = Tunnel("wg0", dns_servers=("192.0.2.53",), dns_search=("lan",))
    searched = before._replace(dns_servers=())

    found = of(searched, seen(), before, dns_mode="metric")

    assert found == Difference((steps.SetDns("wg0", (), ("lan",), "metric"),), None, ())
    assert of(before, seen(), searched).additions == (
        steps.SetDns("wg0", ("192.0.2.53",), ("lan",), "exclusive"),
    )
    served = before._replace(dns_search=())
    assert of(served, seen(), before).additions == (
        steps.SetDns("wg0", ("192.0.2.53",), (), "exclusive"),
    )
    gone = of(Tunnel("wg0"), seen(), searched)
    assert gone == Difference((), None, (steps.UnsetDns("wg0"),))


# --- the order of all of it


def test_what_comes_is_done_in_the_order_of_a_start_and_what_goes_afterwards() -> None:
    """
    Addresses, MTU, name servers, routes, rules; then the device; then what goes.

    A route before its address would have no source address, and rules before the routes of their
    table would lead packets into an empty one.
    """
    applied = Tunnel(
        "wg0",
        peers=(Peer(KEYS[0], allowed_ips=(NETS[0], EVERYTHING6)),),
        dns_servers=("192.0.2.1",),
    )
    wanted = Tunnel(
        "wg0",
        private_key=SECRETS[0],
        addresses=(ADDRESSES[0],),
        peers=(Peer(KEYS[1], allowed_ips=(NETS[1], EVERYTHING)),),
    )
    observed = seen(
        ADDRESSES[1],
        routed=(NETS[0], EVERYTHING6),
        ruled=(6,),
        device=state(having(KEYS[0], NETS[0], EVERYTHING6), fwmark=7),
    )

    found = of(wanted, observed, applied, mtu=1380, full_table=7)

    assert [type(step) for step in found.additions] == [
        steps.AddAddress,
        steps.SetMtu,
        steps.AddRoutes,
        steps.AddRules,
    ]
    assert [type(step) for step in found.removals] == [
        steps.DeleteAddress,
        steps.UnsetDns,
        steps.DeleteRules,
        steps.DeleteRoutes,
    ]
    assert found.additions[2:] == (
        steps.AddRoutes("wg0", (Route(EVERYTHING, table=7), Route(NETS[1]))),
        steps.AddRules("wg0", 7, (4,)),
    )
    assert found.removals[2:] == (
        steps.DeleteRules("wg0", 7, (6,)),
        steps.DeleteRoutes("wg0", (Route(NETS[0]), Route(EVERYTHING6, table=7))),
    )
    assert found.renews_sessions


def test_peers_that_are_changed_come_in_the_order_of_the_file_and_those_that_go_come_last() -> None:
    """Who gives an AllowedIP away is told before who loses everything."""
    wanted = Tunnel("wg0", peers=(Peer(KEYS[1], keepalive_s=5), Peer(KEYS[0]), Peer(KEYS[3])))
    device = state(having(KEYS[2]), having(KEYS[3], keepalive_s=7), having(KEYS[1]))

    change = device_difference(wanted, wanted, device)

    assert change == DeviceChange(
        peers=(
            PeerChange(KEYS[1], update_only=True, keepalive_s=5),
            whole_peer(Peer(KEYS[0])),
            PeerChange(KEYS[3], update_only=True, keepalive_s=0),
            PeerChange(KEYS[2], remove=True),
        )
    )


# --- routes and rules


def with_nets(*nets: Prefix) -> Tunnel:
    return Tunnel("wg0", peers=(Peer(KEYS[0], allowed_ips=nets),))


def routes_of(found: Difference) -> tuple[steps.Step, ...]:
    return (*found.additions, *found.removals)


def test_a_route_that_both_files_have_and_the_kernel_lost_comes_back() -> None:
    found = of(with_nets(NETS[0], NETS[1]), seen(routed=(NETS[1],)))

    assert found.additions == (steps.AddRoutes("wg0", (Route(NETS[0]),)),)
    assert found.removals == ()


def test_a_route_that_is_gone_already_is_not_taken_away() -> None:
    found = of(with_nets(), seen(), with_nets(NETS[0]))

    assert routes_of(found) == ()


def test_a_prefix_that_is_not_to_be_routed_is_not_missing() -> None:
    held = frozenset({NETS[0]})

    assert routes_of(of(with_nets(NETS[0]), seen(), unrouted=held)) == ()
    found = of(with_nets(NETS[0]), seen(routed=(NETS[0],)), with_nets(NETS[0]), unrouted=held)
    assert routes_of(found) == (steps.DeleteRoutes("wg0", (Route(NETS[0]),)),)


def test_routes_are_the_files_business_and_no_hooks() -> None:
    """`files` is what the files say; a hook that added to `wanted` adds its routes itself."""
    hooked, file = with_nets(NETS[0], NETS[1]), with_nets(NETS[0])

    assert routes_of(of(hooked, seen(routed=(NETS[0],)), hooked, files=(file, file))) == ()
    found = of(
        hooked, seen(routed=(NETS[0], NETS[2])), hooked, files=(file, with_nets(NETS[0], NETS[2]))
    )
    assert routes_of(found) == (steps.DeleteRoutes("wg0", (Route(NETS[2]),)),)


def test_rules_that_are_there_or_are_not_wanted_are_not_added() -> None:
    wanted = with_nets(EVERYTHING, EVERYTHING6)
    both = (EVERYTHING, EVERYTHING6)

    def rules(ruled: tuple[int, ...] = (), **more: Any) -> tuple[steps.Step, ...]:
        observed = seen(routed=both, ruled=ruled, device=state(having(KEYS[0], *both), fwmark=7))
        return routes_of(of(wanted, observed, full_table=7, **more))

    assert rules() == (steps.AddRules("wg0", 7, (4, 6)),)
    assert rules(ruled=(4,)) == (steps.AddRules("wg0", 7, (6,)),)
    assert rules(unruled=(4,)) == (steps.AddRules("wg0", 7, (6,)),)
    assert rules(ruled=(4,), unruled=(6,)) == ()
    assert rules(ruled=(4, 6)) == ()
    held = rules(unrouted=frozenset({EVERYTHING}))
    assert held == (steps.AddRules("wg0", 7, (6,)),)


def test_rules_of_a_version_that_the_file_no_longer_leads_go() -> None:
    observed = seen(
        routed=(EVERYTHING,), ruled=(4, 6), device=state(having(KEYS[0], EVERYTHING), fwmark=7)
    )

    assert routes_of(of(with_nets(EVERYTHING), observed, full_table=7)) == (
        steps.DeleteRules("wg0", 7, (6,)),
    )


def test_halves_have_no_rules() -> None:
    halved = (Prefix(4, 0, 1), Prefix(4, 1 << 31, 1))
    observed = seen(routed=halved, device=state(having(KEYS[0], EVERYTHING)))

    assert of(with_nets(EVERYTHING), observed).empty


# --- the device


@pytest.mark.parametrize(
    ("fwmark", "full_table", "now", "change"),
    [
        (None, 0, 0, None),
        (None, 7, 7, None),
        (None, 7, 0, 7),
        (None, 0, 7, 0),
        (0, 7, 0, None),
        (0, 7, 7, 0),
        (5, 7, 7, 5),
        (5, 7, 5, None),
    ],
)
def test_the_mark_of_a_full_tunnel_is_its_table_unless_the_file_names_one(
    fwmark: int | None, full_table: int, now: int, change: int | None
) -> None:
    allowed = EVERYTHING if full_table else NETS[0]
    wanted = with_nets(allowed)._replace(fwmark=fwmark)
    observed = seen(
        routed=(allowed,),
        ruled=(4,) if full_table else (),
        device=state(having(KEYS[0], allowed), fwmark=now),
    )

    found = of(wanted, observed, full_table=full_table)

    assert found.device == (None if change is None else DeviceChange(fwmark=change))


def test_a_tunnel_that_is_not_full_has_no_mark_though_others_have_a_table() -> None:
    observed = seen(routed=(NETS[0],), device=state(having(KEYS[0], NETS[0])))

    assert of(with_nets(NETS[0]), observed, full_table=7).empty


def test_a_file_without_a_key_or_a_port_says_nothing_about_them() -> None:
    device = state(key=SECRETS[0])

    assert device_difference(Tunnel("wg0"), Tunnel("wg0"), device) is None
    assert (
        device_difference(
            Tunnel("wg0", private_key=SECRETS[0], listen_port=51820), Tunnel("wg0"), device
        )
        is None
    )
    assert device_difference(Tunnel("wg0", listen_port=0), Tunnel("wg0"), device) is None
    assert device_difference(
        Tunnel("wg0", private_key=SECRETS[1], listen_port=9), Tunnel("wg0"), device
    ) == DeviceChange(SECRETS[1], 9)


def changed(peer: Peer, now: PeerState, before: Peer | None, **more: object) -> PeerChange | None:
    applied = Tunnel("wg0", peers=(before,) if before is not None else ())
    change = device_difference(
        Tunnel("wg0", peers=(peer,)),
        applied,
        state(now),
        **more,  # type: ignore[arg-type]
    )
    if change is None:
        return None
    (only,) = change.peers
    return only


def test_an_endpoint_is_sent_only_if_the_file_changed_it_and_only_as_an_address() -> None:
    now = having(KEYS[0])._replace(endpoint=THERE)
    here, name, none = (Peer(KEYS[0], endpoint=endpoint) for endpoint in (HERE, NAME, None))

    assert changed(here, now, Peer(KEYS[0], endpoint=HERE)) is None
    assert changed(here, now, none) == PeerChange(KEYS[0], update_only=True, endpoint=HERE)
    assert changed(here, now, None) == PeerChange(KEYS[0], update_only=True, endpoint=HERE)
    assert changed(name, now, here) is None
    assert changed(none, now, here) is None
    assert changed(none, now, None) is None


def test_each_value_of_a_peer() -> None:
    now = having(KEYS[0], keepalive_s=5)._replace(preshared_key=SECRETS[0])
    same = Peer(KEYS[0], SECRETS[0], keepalive_s=5)

    def change(peer: Peer) -> PeerChange | None:
        return changed(peer, now, same)

    assert change(same) is None
    assert change(same._replace(keepalive_s=None)) == PeerChange(
        KEYS[0], update_only=True, keepalive_s=0
    )
    assert change(same._replace(keepalive_s=9)) == PeerChange(
        KEYS[0], update_only=True, keepalive_s=9
    )
    assert change(same._replace(preshared_key=SECRETS[1])) == PeerChange(
        KEYS[0], update_only=True, preshared_key=SECRETS[1]
    )
    assert change(same._replace(preshared_key=None)) == PeerChange(
        KEYS[0], update_only=True, preshared_key=NO_KEY
    )
    zero = same._replace(preshared_key=SecretKey(NO_KEY))
    assert changed(zero, now._replace(preshared_key=None), zero) is None


def test_the_same_allowed_ips_in_another_order_are_the_same() -> None:
    peer = Peer(KEYS[0], allowed_ips=(NETS[0], NETS[1]))

    assert changed(peer, having(KEYS[0], NETS[1], NETS[0]), peer) is None


@pytest.mark.parametrize("minus_form", [True, False])
def test_an_allowed_ip_that_is_gone_is_dropped_or_all_are_sent_anew(*, minus_form: bool) -> None:
    peer = Peer(KEYS[0], allowed_ips=(NETS[0], NETS[1]))

    change = changed(peer, having(KEYS[0], NETS[1], NETS[2]), peer, minus_form=minus_form)

    if minus_form:
        assert change == PeerChange(
            KEYS[0], update_only=True, allowed_ips=(NETS[0],), dropped_ips=(NETS[2],)
        )
    else:
        assert change == PeerChange(
            KEYS[0], update_only=True, replace_allowed_ips=True, allowed_ips=(NETS[0], NETS[1])
        )


def test_the_minus_form_is_what_is_spoken_if_nothing_is_said() -> None:
    peer = Peer(KEYS[0])
    change = device_difference(
        Tunnel("wg0", peers=(peer,)), Tunnel("wg0"), state(having(KEYS[0], NETS[0]))
    )
    found = of(Tunnel("wg0", peers=(peer,)), seen(device=state(having(KEYS[0], NETS[0]))))

    assert change == found.device
    assert change == DeviceChange(
        peers=(PeerChange(KEYS[0], update_only=True, dropped_ips=(NETS[0],)),)
    )


def test_without_the_minus_form_one_more_is_one_line_more() -> None:
    peer = Peer(KEYS[0], allowed_ips=(NETS[0], NETS[1]))

    assert changed(peer, having(KEYS[0], NETS[0]), peer, minus_form=False) == PeerChange(
        KEYS[0], update_only=True, allowed_ips=(NETS[1],)
    )


def test_the_own_key_among_the_peers_is_no_peer() -> None:
    wanted = Tunnel("wg0", peers=(Peer(KEYS[0]), Peer(KEYS[1])))

    change = device_difference(wanted, wanted, state(), own_key=KEYS[0])

    assert change == DeviceChange(peers=(whole_peer(Peer(KEYS[1])),))


def test_a_whole_peer_says_all_there_is() -> None:
    peer = Peer(KEYS[0], SECRETS[0], HERE, 25, (NETS[0],))

    assert whole_peer(peer) == PeerChange(
        KEYS[0],
        preshared_key=SECRETS[0],
        endpoint=HERE,
        keepalive_s=25,
        replace_allowed_ips=True,
        allowed_ips=(NETS[0],),
    )
    named = Peer(KEYS[0], endpoint=NAME)
    assert whole_peer(named) == PeerChange(KEYS[0], replace_allowed_ips=True)
    assert whole_peer(named, THERE).endpoint == THERE
    assert whole_peer(peer, THERE).endpoint == THERE


def test_of_thousands_of_peers_that_are_the_same_none_is_looked_at_closely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reload of a large file costs what has changed."""

    def close_look(*_any: object, **_more: object) -> None:
        raise AssertionError

    monkeypatch.setattr(reload, "peer_difference", close_look)
    here = Peer(KEYS[0], SECRETS[0], HERE, None, (NETS[0],))
    there = Peer(KEYS[1], None, NAME, 25)
    roamed = having(KEYS[0], NETS[0])._replace(preshared_key=SECRETS[0], endpoint=THERE)
    device = state(roamed, having(KEYS[1], keepalive_s=25))
    wanted = Tunnel("wg0", peers=(here, there))
    read_again = Tunnel("wg0", peers=(here._replace(line=9), there._replace(line=10)))

    assert device_difference(wanted, wanted, device) is None
    assert device_difference(wanted, read_again, device) is None


@pytest.mark.parametrize(
    ("found", "empty"),
    [
        (Difference((), None, ()), True),
        (Difference((steps.SetMtu("wg0", 1),), None, ()), False),
        (Difference((), DeviceChange(fwmark=0), ()), False),
        (Difference((), None, (steps.UnsetDns("wg0"),)), False),
    ],
)
def test_there_is_nothing_to_do_only_if_no_part_has_anything(
    found: Difference, *, empty: bool
) -> None:
    assert found.empty is empty


def test_sessions_are_renewed_by_another_key_alone() -> None:
    device = state(key=SECRETS[0])

    for change in ({"listen_port": 9}, {"fwmark": 5}, {"peers": (Peer(KEYS[0]),)}):
        wanted = Tunnel("wg0", private_key=SECRETS[0])._replace(**change)
        found = of(wanted, seen(device=device))
        assert found.device is not None
        assert not found.renews_sessions
    assert of(Tunnel("wg0", private_key=SECRETS[1]), seen(device=device)).renews_sessions


# --- when it can't be done


@pytest.mark.parametrize(
    ("table", "fwmark", "full_table", "why"),
    [
        (None, None, 0, ""),
        (7, None, 0, "Table has changed"),
        (TABLE_OFF, None, 7, "Table has changed"),
        (None, None, 51820, ""),
        (None, 0, 51820, ""),
        (None, 51820, 51820, ""),
        (None, 5, 0, ""),
        (None, 5, 51820, "FwMark has changed, and the table of the /0 with it"),
    ],
)
def test_what_takes_a_restart(
    table: int | None, fwmark: int | None, full_table: int, why: str
) -> None:
    applied = with_nets(EVERYTHING)
    wanted = applied._replace(table=table, fwmark=fwmark)

    assert needs_restart(wanted, applied, full_table) == why
    if not full_table:
        assert needs_restart(wanted, applied) == why
    part = with_nets(NETS[0])._replace(table=None, fwmark=fwmark)
    assert needs_restart(part, applied, full_table) == ""
