"""A full tunnel's packet filter, as text for nft(8)."""

from __future__ import annotations

import pytest

from wgsvc.plan.firewall import removal, ruleset, table_name
from wgsvc.values import Prefix

FOUR, SIX = Prefix(4, 0x0A000001, 24), Prefix(6, 0xFD << 120 | 1, 64)

IPV4 = """\
table ip wgsvc-wg0 {
  chain early {
    type filter hook prerouting priority -300;
    iifname != "wg0" ip daddr 10.0.0.1 fib saddr type != local drop
  }
  chain incoming {
    type filter hook prerouting priority -150;
    meta l4proto udp meta mark set ct mark
  }
  chain outgoing {
    type filter hook postrouting priority -150;
    meta l4proto udp mark 51820 ct mark set mark
  }
}
"""
IPV6 = IPV4.replace("table ip ", "table ip6 ").replace("ip daddr 10.0.0.1", "ip6 daddr fd00::1")


def test_the_tables_of_both_versions_replace_what_there_was() -> None:
    before = removal("wg0", (4, 6))

    assert ruleset("wg0", 51820, (4, 6), (FOUR, SIX)) == before + IPV4 + IPV6
    assert ruleset("wg0", 51820, (6,), (FOUR, SIX)) == removal("wg0", (6,)) + IPV6


def test_removal_works_where_there_is_nothing() -> None:
    """To delete a table that there is not is an error of nft's, so it is added first."""
    assert removal("wg0", (4, 6)).splitlines() == [
        "add table ip wgsvc-wg0",
        "delete table ip wgsvc-wg0",
        "add table ip6 wgsvc-wg0",
        "delete table ip6 wgsvc-wg0",
    ]


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("wg0", "wgsvc-wg0"),
        ("a_b-C.9", "wgsvc-a_b-C.9"),
        ("wg=0", "wgsvc-wg_3d0"),
        ("a+b", "wgsvc-a_2bb"),
        ("azAZ09", "wgsvc-azAZ09"),
    ],
)
def test_every_interface_has_a_table_that_nft_takes(name: str, called: str) -> None:
    assert table_name(name) == called
