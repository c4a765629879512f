"""Names of interfaces."""

from __future__ import annotations

import pytest

from wgsvc.config.names import check_name
from wgsvc.config.parse import parse


@pytest.mark.parametrize("name", ["wg0", "a", "x" * 15, "Büro"[:1] + "_=+.-9", "0", ".x", "tun0"])
def test_usable(name: str) -> None:
    """What wg-quick takes."""
    assert check_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x" * 16,
        ".",
        "..",
        "-wg0",
        "wg 0",
        "wg/0",
        "wg0\n",
        "büro",
        "$(reboot)",
        "a;b",
        "%i",
        "٣",
    ],
)
def test_not_usable(name: str) -> None:
    """What would be an option, a path, or a piece of a hook."""
    assert check_name(name)


@pytest.mark.parametrize(
    ("name", "usable"),
    [("tun", False), ("tun0", False), ("tap12", False), ("vmnet3", False), ("tunnel", True),
     ("tun0a", True), ("mytun0", True)],
)  # fmt: skip
def test_the_cloners_own_names_on_freebsd(name: str, *, usable: bool) -> None:
    """A tun that is called like another one's unit can't be renamed back."""
    assert (check_name(name, freebsd=True) is None) == usable


def test_a_file_with_a_bad_name_is_no_tunnel() -> None:
    """The name ends up in hooks: the parser itself refuses it."""
    checked = parse(b"", name="a;b", path="a;b.conf")

    assert checked.tunnel is None
    assert [(found.line, found.severity) for found in checked.errors] == [(0, "error")]
