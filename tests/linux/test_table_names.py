"""`Table = NAME` is what ip(8) makes of it: the same table, and the routes that wg-quick makes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tunnels import Host, eventually, ip, private_key, some_public_key
from wgsvc import routetables
from wgsvc.config.fields import BadValue, table
from wgsvc.files import LOOK_UPS

pytestmark = pytest.mark.root

RT_TABLES = """\
# reserved values
255\tlocal
254\tmain
253\tdefault
0\tunspec

  100  vpn
0x65 hexadecimal # a comment
1000 far-away trailing words
45 twice
300 twice
45 twice-the-number
46 same-bucket
302 same-bucket
201straight
-7 negative
4001 vpn_2
"""
MORE = "77 from-a-file\n5 100\nnot a number\n78 after-a-bad-line\n"
TEXTS = [
    "main", "default", "local", "unspec", "vpn", "hexadecimal", "far-away", "twice", "straight",
    "same-bucket",
    "twice-the-number", "negative", "from-a-file", "100", "after-a-bad-line", "vpn_2", "hidden",
    "Main", "VPN", "trailing", "0", "7", "0x1f", "0X1F", "010", "08", "0x", "+9", "-1", "1x",
    "4294967295", "4294967296", "99999999999999999999", "#", "1000000000000000000000000",
]  # fmt: skip


@pytest.fixture(name="names")
def _names(own_network: None, tmp_path: Path) -> Path:  # noqa: ARG001 - it is where we are
    """Let this mount namespace have an /etc/iproute2 of its own; return it."""
    (tmp_path / "rt_tables").write_text(RT_TABLES)
    (tmp_path / "rt_tables.d").mkdir()
    (tmp_path / "rt_tables.d" / "more.conf").write_text(MORE)
    (tmp_path / "rt_tables.d" / "ignored").write_text("79 hidden\n")
    subprocess.run(["mount", "--bind", str(tmp_path), "/etc/iproute2"], check=True)
    return tmp_path


def ips(text: str) -> int | None:
    """Return the table in which `ip route add ... table TEXT` puts a route, None if it refuses."""
    words = ["ip", "route", "add", "192.0.2.0/24", "dev", "lo", "table", text]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        return None
    (line,) = (
        line
        for line in ip("-Numeric", "route", "show", "table", "all").splitlines()
        if line.startswith("192.0.2.0/24 ")
    )
    ip("route", "del", "192.0.2.0/24", "dev", "lo", "table", text)
    found = line.split()
    return int(found[found.index("table") + 1]) if "table" in found else 254


def ours(text: str) -> int | None:
    try:
        return table(text.encode(), LOOK_UPS.route_table)
    except BadValue:
        return None


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("text", TEXTS)
def test_a_table_is_what_ip_takes_it_for(text: str) -> None:
    assert ours(text) == ips(text)


def test_the_distributions_file_is_read_where_etc_has_none(
    names: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As iproute2 since 6.4 does: by file, /etc first."""
    usr = tmp_path / "usr"
    (usr / "rt_tables.d").mkdir(parents=True)
    (usr / "rt_tables").write_text("500 of-the-distribution\n")
    (usr / "rt_tables.d" / "more.conf").write_text("501 replaced\n")
    (usr / "rt_tables.d" / "other.conf").write_text("502 added\n")
    monkeypatch.setattr(routetables, "FOLDERS", (str(names), str(usr)))

    assert [ours(name) for name in ("of-the-distribution", "replaced", "added")] == [
        None, None, 502,
    ]  # fmt: skip
    (names / "rt_tables").unlink()
    (names / "rt_tables.d" / "more.conf").unlink()
    assert [ours(name) for name in ("of-the-distribution", "replaced", "added", "vpn")] == [
        500, 501, 502, None,
    ]  # fmt: skip


def routes() -> list[str]:
    """Return the routes of wg0 that the kernel did not make itself, each with its table."""
    return sorted(
        f"{version} {' '.join(line.split())}"
        for version in ("-4", "-6")
        for line in ip("-Numeric", version, "route", "show", "table", "all").splitlines()
        if "dev wg0" in line and "proto 2" not in line and "table 255" not in line
    )


def wg_quick(word: str) -> None:
    done = subprocess.run(["wg-quick", word, "wg0"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("name", ["main", "vpn", "from-a-file", "0x1f", "0"])
def test_a_tunnel_in_a_table_by_name(host: Host, name: str) -> None:
    """The routes are those that wg-quick makes of the same file, and all of them go again."""
    host.write(
        "wg0",
        f"[Interface]\nPrivateKey = {private_key()}\nAddress = 10.1.0.1/32, fd00:1::1/128\n"
        f"Table = {name}\n[Peer]\nPublicKey = {some_public_key()}\n"
        "AllowedIPs = 10.7.0.0/16, 10.1.0.2/32, fd00:7::/32\n",
    )
    wg_quick("up")
    theirs = routes()
    wg_quick("down")
    eventually(lambda: not host.strangers())
    assert host.shown() == host.before

    host.ok("start", "wg0")

    assert routes() == theirs
    assert len(theirs) == 3
    assert host.state()["state"] == "up"
    assert not host.state()["drift"]
    assert "no change" in host.ok("reload", "wg0").said
    host.ok("stop", "wg0")
    assert host.shown() == host.before


def test_the_network_of_an_address_in_the_main_table(host: Host) -> None:
    """The kernel has made that route: wg-quick fails at it, docs/config.md has the difference."""
    host.write(
        "wg0",
        f"[Interface]\nPrivateKey = {private_key()}\nAddress = 10.1.0.1/24, fd00:1::1/64\n"
        f"Table = main\n[Peer]\nPublicKey = {some_public_key()}\n"
        "AllowedIPs = 10.1.0.0/24, fd00:1::/64, 10.7.0.0/16\n",
    )
    theirs = subprocess.run(["wg-quick", "up", "wg0"], capture_output=True, text=True, check=False)
    assert theirs.returncode != 0
    assert "File exists" in theirs.stderr
    eventually(lambda: not host.strangers())

    host.ok("start", "wg0")

    assert host.state()["state"] == "up"
    assert any(route.startswith("-4 10.7.0.0/16 ") for route in routes())
    host.ok("stop", "wg0")
    assert host.shown() == host.before
