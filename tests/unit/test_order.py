"""Names in the order in which people count."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.order import natural


@pytest.mark.parametrize(
    "names",
    [
        ["wg2", "wg10"],
        ["wg", "wg0", "wg1", "wg2", "wg10", "wg100", "wga"],
        ["1", "2", "10"],
        ["eth0.2", "eth0.10", "eth1.1"],
        ["wg1", "wg01", "wg2"],
        ["a", "b1", "b2", "c"],
    ],
)
def test_numbers_count_as_numbers(names: list[str]) -> None:
    shuffled = names[::-1]

    assert sorted(shuffled, key=natural) == names


@given(st.lists(st.text(), unique=True))
def test_the_order_does_not_depend_on_where_one_begins(names: list[str]) -> None:
    ordered, names = sorted(names, key=natural), names[::-1]

    assert sorted(names, key=natural) == ordered
    assert all(natural(a) < natural(b) for a, b in pairwise(ordered))
