"""The dialect: what each value gives, and what each defect is told."""

from __future__ import annotations

import base64
import sys

import pytest

from wgsvc.config.fields import LookUps
from wgsvc.config.findings import Findings
from wgsvc.config.model import TABLE_OFF, Checked, Hooks, Peer, Tunnel
from wgsvc.config.parse import parse
from wgsvc.config.quote import quoted
from wgsvc.config.reader import Reader
from wgsvc.values import Endpoint, Prefix

A_KEY = "oK56DE9Ue9zK76rAc8pBl6opph+1v36lm7cXXsQKrQM="
B_KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
C_KEY = "TrMvSoP4jYQlY6RIzBgbssQqY3vxI2Pi+y71lOWWXX0="
PRIVATE = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
ZERO = "A" * 43 + "="


def read(text: str | bytes, *dropins: str) -> Checked:
    """Parse a file called wg0.conf and its drop-ins."""
    data = text if isinstance(text, bytes) else text.encode()
    extra = [(f"wg0.conf.d/{i}.conf", each.encode()) for i, each in enumerate(dropins)]
    services = {"domain": 53, "x-none": None}
    tables = {"main": 254, "vpn": 4000000000, "Off-site": 7}
    look_ups = LookUps(services.get, tables.get)
    return parse(data, name="wg0", path="wg0.conf", extra=extra, look_ups=look_ups)


def tunnel(interface: str = "", *peers: str) -> Tunnel:
    """Return the tunnel of [Interface] lines and [Peer] lines; there must be no error."""
    checked = read(conf(interface, *peers))
    assert checked.errors == ()
    assert checked.tunnel is not None
    return checked.tunnel


def conf(interface: str = "", *peers: str) -> str:
    """Put a file together."""
    sections = [f"[Interface]\nPrivateKey = {PRIVATE}\n{interface}\n"]
    sections += [f"[Peer]\n{peer}\n" for peer in peers]
    return "".join(sections)


def peer(lines: str) -> Peer:
    """Return the one peer these lines (and a key) describe."""
    return tunnel("", f"PublicKey = {A_KEY}\n{lines}").peers[0]


def net(text: str) -> Prefix:
    """Read a prefix with the standard library, as a second opinion."""
    import ipaddress

    interface = ipaddress.ip_interface(text)
    return Prefix(interface.version, int(interface.ip), interface.network.prefixlen)


# --- what is accepted


def test_the_configuration_of_a_site() -> None:
    """A whole file, every key of it."""
    given = tunnel(
        "ListenPort = 51820\nFwMark = 0xca6c\nAddress = 192.168.222.1/24, fd00::1/64\n"
        "DNS = 192.168.1.53, fd00::53, example.org\nMTU = 1400\nTable = off\nSaveConfig = true\n"
        "PreUp = a\nPostUp = b # c\nPostUp = d %i\nPreDown = e\nPostDown = f",
        f"PublicKey = {A_KEY}\nPresharedKey = {B_KEY}\nEndpoint = [2001:db8::1]:51820\n"
        "PersistentKeepalive = 25\nAllowedIPs = 10.0.0.0/8, ::/0\nAllowedIPs = 192.0.2.1",
    )

    assert given.private_key == base64.b64decode(PRIVATE)
    assert (given.listen_port, given.fwmark, given.mtu, given.table) == (51820, 0xCA6C, 1400, -1)
    assert given.addresses == (net("192.168.222.1/24"), net("fd00::1/64"))
    assert given.dns_servers == ("192.168.1.53", "fd00::53")
    assert given.dns_search == ("example.org",)
    assert given.save_config
    assert given.hooks == Hooks(("a",), ("b # c", "d %i"), ("e",), ("f",))
    assert given.peers == (
        Peer(
            base64.b64decode(A_KEY),
            base64.b64decode(B_KEY),  # type: ignore[arg-type]  # equal as bytes
            Endpoint("2001:db8::1", 51820),
            25,
            (net("10.0.0.0/8"), net("::/0"), net("192.0.2.1/32")),
            line=15,
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        conf("", f"PublicKey = {A_KEY}\nAllowedIPs = ::/0").replace("\n", "\r\n"),
        conf("", f"AllowedIPs = ::/0\nPublicKey = {A_KEY}").rstrip("\n"),
        conf("", f"PublicKey = {A_KEY}\nAllowedIPs = ::/0")
        .upper()
        .replace(A_KEY.upper(), A_KEY)
        .replace(PRIVATE.upper(), PRIVATE),
        conf("", f"\vPublic \t Key\f= {A_KEY[:7]} {A_KEY[7:]} # comment\nAllowed IPs=: :/ 0"),
        conf("", f"PublicKey={A_KEY}\nAllowedIPs=::/0").replace("[Peer]", " [ Peer ] # comment"),
        conf("", f"# AllowedIPs = nonsense\n\n#\nPublicKey={A_KEY}#\nAllowedIPs = ::/0#"),
    ],
    ids=[
        "CRLF",
        "no-last-newline",
        "capitals",
        "blanks-everywhere",
        "blanks-in-section",
        "comments",
    ],
)
def test_spellings_of_the_same_file(text: str) -> None:
    """They differ only in what wg ignores."""
    checked = read(text)

    assert checked.diagnostics == ()
    assert checked.tunnel is not None
    assert [p.public_key for p in checked.tunnel.peers] == [base64.b64decode(A_KEY)]


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("ListenPort = 0", "listen_port", 0),
        ("ListenPort = 65535", "listen_port", 65535),
        ("ListenPort = 0051820", "listen_port", 51820),
        ("ListenPort = domain", "listen_port", 53),
        ("FwMark = OFF", "fwmark", None),
        ("FwMark = 4294967295", "fwmark", 2**32 - 1),
        ("FwMark = 0xFFffFFff", "fwmark", 2**32 - 1),
        ("FwMark = 0x00000000ff", "fwmark", 255),
        ("Address = 10.0.0.1", "addresses", (net("10.0.0.1/32"),)),
        ("Address = 10.0.0.1/24 fd00::1,10.0.0.2/024,", "addresses",
         (net("10.0.0.1/24"), net("fd00::1/128"), net("10.0.0.2/24"))),
        ("Address =", "addresses", ()),
        ("DNS = fe80::1%em0", "dns_servers", ("fe80::1%em0",)),
        ("DNS = ~corp.example, .", "dns_search", ("~corp.example", ".")),
        ("DNS = ~., ~example", "dns_search", ("~.", "~example")),
        ("MTU = 576", "mtu", 576),
        ("MTU =", "mtu", None),
        ("Table = auto", "table", None),
        ("Table = OFF", "table", TABLE_OFF),
        ("Table = 3", "table", 3),
        ("Table = main", "table", 254),
        ("Table = vpn # as in rt_tables", "table", 4000000000),
        ("Table = Off-site", "table", 7),
        ("Table = 0x1F", "table", 31),
        ("Table = 010", "table", 8),
        ("Table = +5", "table", 5),
        ("Table = 0", "table", 254),
        ("Table = 037777777777", "table", 2**32 - 1),
        ("SaveConfig = FALSE", "save_config", False),
        ("PostUp = echo 'a=b' | tee /tmp/x; # %i", "hooks",
         Hooks(post_up=("echo 'a=b' | tee /tmp/x; # %i",))),
        ("ListenPort = 1\nListenPort = 2", "listen_port", 2),
        ("Address = 10.0.0.1\n[Interface]\nAddress = 10.0.0.2", "addresses",
         (net("10.0.0.1"), net("10.0.0.2"))),
    ],
)  # fmt: skip
def test_interface_values(line: str, field: str, value: object) -> None:
    """One line, and the field it fills."""
    assert getattr(tunnel(line), field) == value


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("PersistentKeepalive = off", "keepalive_s", 0),
        ("PersistentKeepalive = 65535", "keepalive_s", 65535),
        (f"PresharedKey = {ZERO}", "preshared_key", None),
        ("Endpoint = vpn.example.org:51820", "endpoint", Endpoint("vpn.example.org", 51820)),
        ("Endpoint = a_b.example.:domain", "endpoint", Endpoint("a_b.example.", 53)),
        ("Endpoint = 2001:DB8::1:51820", "endpoint", Endpoint("2001:db8::1", 51820)),
        ("Endpoint = [fe80::1%em0]:1", "endpoint", Endpoint("fe80::1%em0", 1)),
        ("Endpoint = [192.0.2.1]:1", "endpoint", Endpoint("192.0.2.1", 1)),
        ("AllowedIPs = 10.0. 0.1 / 32", "allowed_ips", (net("10.0.0.1/32"),)),
        ("AllowedIPs = 10.0.0.0/8,10.0.0.0/8", "allowed_ips", (net("10.0.0.0/8"),)),
        ("AllowedIPs = ::ffff:192.0.2.1", "allowed_ips", (net("::ffff:192.0.2.1"),)),
        ("AllowedIPs = +10.0.0.0/8", "allowed_ips", (net("10.0.0.0/8"),)),
        ("AllowedIPs = 10.1.2.3/8", "allowed_ips", (net("10.0.0.0/8"),)),
        ("AllowedIPs = 0.0.0.0/0", "allowed_ips", (net("0.0.0.0/0"),)),
        ("# wgsvc: name = head office", "name", "head office"),
        ("#WGSVC : Name=büro = 1", "name", "büro = 1"),
        ("# wgsvc: routes = 10.1.0.0/16, fd00::/8", "routes",
         (net("10.1.0.0/16"), net("fd00::/8"))),
        ("# wgsvc: routes = off", "routes", ()),
    ],
)  # fmt: skip
def test_peer_values(line: str, field: str, value: object) -> None:
    """One line, and the field it fills."""
    assert getattr(peer(line), field) == value


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("# laptop", "laptop"),
        ("### Client Zürich", "Client Zürich"),
        ("# one\n# two", "two"),
        ("# far away\n", ""),
        ("#", ""),
        (f"# PresharedKey = {B_KEY}", ""),
        (f"# {B_KEY[:43]}", ""),
        ("# bell \a", ""),
        ("# " + "x " * 40, ""),
        ("# wgsvc: name = wrong place", ""),
    ],
)
def test_name_from_the_comment_over_a_peer(comment: str, name: str) -> None:
    """The line directly over [Peer], unless it can't be a name."""
    text = f"[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {B_KEY}\n"
    text += f"{comment}\n[Peer]\nPublicKey = {A_KEY}\n"
    given = read(text).tunnel

    assert given is not None
    assert given.peers[1].name == name


def test_explicit_name_wins_over_the_comment() -> None:
    """Both are there; the one that is meant for wgsvc counts."""
    text = conf() + f"# laptop\n[Peer]\nPublicKey = {A_KEY}\n# wgsvc: name = desk\n"
    given = read(text).tunnel

    assert given is not None
    assert given.peers[0].name == "desk"


def test_an_empty_file_is_a_tunnel_without_peers() -> None:
    """As with wg; but it is worth a warning, since it can't reach anybody."""
    checked = read("")

    assert checked.tunnel is not None
    assert checked.tunnel.peers == ()
    assert [found.key for found in checked.diagnostics] == ["PrivateKey"]


def test_private_key_as_curve25519_uses_it() -> None:
    """WireGuard reports the clamped key; a comparison with the file must not see a change."""
    given = read(f"[Interface]\nPrivateKey = {base64.b64encode(b'x' * 32).decode()}").tunnel

    assert given is not None
    assert given.private_key is not None
    assert given.private_key[0] & 7 == 0
    assert given.private_key[31] & 0xC0 == 0x40
    assert given.private_key[1:31] == b"x" * 30


def test_private_key_file_is_kept_as_written() -> None:
    """The parser opens nothing."""
    given = read("[Interface]\n# wgsvc: private-key-file = keys/wg0.key\n")

    assert given.diagnostics == ()
    assert given.tunnel is not None
    assert given.tunnel.private_key_file == "keys/wg0.key"
    assert given.tunnel.private_key is None


def test_dropins_add_peers_and_change_the_digest() -> None:
    """In the order given; a change in one of them is a change of the tunnel."""
    alone = read(conf("", f"PublicKey = {A_KEY}")).tunnel
    both = read(conf("", f"PublicKey = {A_KEY}"), f"[Peer]\nPublicKey = {B_KEY}").tunnel
    other = read(conf("", f"PublicKey = {A_KEY}"), f"[Peer]\nPublicKey = {C_KEY}").tunnel

    assert alone is not None
    assert both is not None
    assert other is not None
    assert [p.public_key for p in both.peers] == [base64.b64decode(k) for k in (A_KEY, B_KEY)]
    assert len({alone.digest, both.digest, other.digest}) == 3


# --- peers that meet


def test_the_same_key_twice_is_one_peer_and_the_later_allowed_ips_replace() -> None:
    """What a device has after wg setconf."""
    text = conf(
        "",
        f"PublicKey = {A_KEY}\nAllowedIPs = 10.0.0.0/8\nPersistentKeepalive = 5\nEndpoint=a:1",
        f"PublicKey = {B_KEY}\nAllowedIPs = ::/0",
        f"PublicKey = {A_KEY}\nAllowedIPs = 172.16.0.0/12\nEndpoint = b:2",
    )
    checked = read(text)

    assert checked.tunnel is not None
    first, second = checked.tunnel.peers
    assert (first.allowed_ips, first.keepalive_s) == ((net("172.16.0.0/12"),), 5)
    assert first.endpoint == Endpoint("b", 2)
    assert second.public_key == base64.b64decode(B_KEY)
    assert [(found.severity, found.line) for found in checked.diagnostics] == [("warning", 12)]


def test_plus_adds_to_the_section_before() -> None:
    """The + of wg in front of a prefix; by itself it changes nothing."""
    given = tunnel(
        "",
        f"PublicKey = {A_KEY}\nAllowedIPs = 10.0.0.0/8",
        f"PublicKey = {A_KEY}\nAllowedIPs = +172.16.0.0/12",
    )

    assert given.peers[0].allowed_ips == (net("10.0.0.0/8"), net("172.16.0.0/12"))


def test_a_prefix_belongs_to_the_last_peer_that_has_it() -> None:
    """And both places are named."""
    text = conf(
        "",
        f"PublicKey = {A_KEY}\nAllowedIPs = 10.0.0.0/8, 10.1.0.0/16",
        f"PublicKey = {B_KEY}\nAllowedIPs = 10.0.0.0/8",
    )
    checked = read(text)

    assert checked.tunnel is not None
    assert checked.tunnel.peers[0].allowed_ips == (net("10.1.0.0/16"),)
    assert checked.tunnel.peers[1].allowed_ips == (net("10.0.0.0/8"),)
    assert [str(found) for found in checked.diagnostics] == [
        (
            "wg0.conf:9:14: warning: AllowedIPs: 10.0.0.0/8 is also the peer's at line 4; "
            "this peer, the later, gets it"
        )
    ]


def test_a_prefix_given_back_by_a_third_section() -> None:
    """A, B, then A again with the prefix: it is A's."""
    given = tunnel(
        "",
        f"PublicKey = {A_KEY}\nAllowedIPs = 10.0.0.0/8",
        f"PublicKey = {B_KEY}\nAllowedIPs = 10.0.0.0/8",
        f"PublicKey = {A_KEY}\nAllowedIPs = 10.0.0.0/8",
    )

    assert [p.allowed_ips for p in given.peers] == [(net("10.0.0.0/8"),), ()]


def test_a_prefix_that_was_replaced_is_free() -> None:
    """B takes what A's second section gave up: nothing to warn of but the two sections."""
    checked = read(
        conf(
            "",
            f"PublicKey = {A_KEY}\nAllowedIPs = 10.0.0.0/8",
            f"PublicKey = {A_KEY}\nAllowedIPs = 172.16.0.0/12",
            f"PublicKey = {B_KEY}\nAllowedIPs = 10.0.0.0/8",
        )
    )

    assert [(found.key, found.line) for found in checked.diagnostics] == [("[Peer]", 7)]


@pytest.mark.parametrize(
    ("interface", "lines", "said"),
    [
        ("", "AllowedIPs = 10.0.0.0/8, 192.0.2.7/32", "192.0.2.7/32, this very address"),
        ("", "AllowedIPs = 10.0.0.0/8\n# wgsvc: routes = 192.0.2.7", "192.0.2.7/32, this very"),
        ("", "AllowedIPs = 192.0.2.0/24, 10.0.0.0/8", ""),  # it gets a host route of its own
        ("", "AllowedIPs = 128.0.0.0/1, 0.0.0.0/1", ""),
        ("", "AllowedIPs = 0.0.0.0/0", ""),
        ("Table = off", "AllowedIPs = 192.0.2.7/32", ""),
        ("Table = 2", "AllowedIPs = 192.0.2.7/32", ""),
        ("", "AllowedIPs = 192.0.2.7/32\n# wgsvc: routes = 10.0.0.0/8", ""),
        ("Table = main", "AllowedIPs = 192.0.0.0/16, 192.0.2.0/24", "192.0.2.0/24 goes into"),
        ("Table = main", "AllowedIPs = 0.0.0.0/0", "0.0.0.0/0 goes into the tunnel and covers"),
        ("Table = main", "AllowedIPs = 192.0.3.0/24, ::/0", ""),
    ],
)
def test_a_route_over_the_endpoint(interface: str, lines: str, said: str) -> None:
    """Only where the encrypted packets, or a route, are really lost."""
    checked = read(conf(interface, f"PublicKey = {A_KEY}\nEndpoint = 192.0.2.7:1\n{lines}"))

    assert checked.errors == ()
    assert [(found.key, found.line) for found in checked.diagnostics] == (
        [("Endpoint", 6)] if said else []
    )
    assert all(said in found.message for found in checked.diagnostics)


def test_fib_254_of_freebsd_is_not_linuxs_main_table() -> None:
    """There a FIB of its own keeps the endpoint's way out of the tunnel."""
    peer_lines = f"PublicKey = {A_KEY}\nEndpoint = 192.0.2.7:1\nAllowedIPs = 192.0.2.0/24"
    text = conf("Table = 254", peer_lines).encode()

    assert parse(text, name="wg0", path="wg0.conf", freebsd=True).diagnostics == ()


UNCLAMPED = base64.b64encode(b"\xff" * 32).decode()
CLAMPED = base64.b64encode(b"\xf8" + b"\xff" * 30 + b"\x7f").decode()
OWN = "is this tunnel's own private key: the peer's public key belongs here"


@pytest.mark.parametrize(
    ("private", "public", "said"),
    [
        (PRIVATE, PRIVATE, OWN),
        (UNCLAMPED, UNCLAMPED, OWN),
        (UNCLAMPED, CLAMPED, OWN),
        (CLAMPED, UNCLAMPED, OWN),
        (PRIVATE, A_KEY, ""),
        (PRIVATE, B_KEY, "is also a PresharedKey, a secret"),
        (CLAMPED, base64.b64encode(b"\xf8" + b"\xff" * 30 + b"\x3f").decode(), OWN),
        (CLAMPED, base64.b64encode(b"\xf8" + b"\xff" * 29 + b"\xfe\x7f").decode(), ""),
        (CLAMPED, base64.b64encode(b"\x08" + b"\xff" * 30 + b"\x7f").decode(), ""),
    ],
)
def test_a_secret_as_a_public_key(private: str, public: str, said: str) -> None:
    """Whoever is given such a file has the secret; also where [Interface] comes last."""
    last = f"[Interface]\nPrivateKey = {private}\n"
    checked = read(
        f"[Peer]\nPublicKey = {public}\nAllowedIPs = ::/0\n"
        f"[Peer]\nPublicKey = {C_KEY}\nPresharedKey = {B_KEY}\nAllowedIPs = 10.0.0.0/8\n{last}"
    )
    told = [(found.severity, found.line, found.key) for found in checked.diagnostics]

    assert told == ([("error", 2, "PublicKey")] if said else [])
    assert all(said in found.message for found in checked.diagnostics)


def test_the_private_key_as_a_preshared_key() -> None:
    """It works, so it is no error; but whoever has the other end has the private key."""
    checked = read(
        conf("", f"PublicKey = {A_KEY}\nPresharedKey = {PRIVATE}\nAllowedIPs = ::/0"),
        f"[Peer]\nPublicKey = {B_KEY}\nPresharedKey = {C_KEY}\nAllowedIPs = 10.0.0.0/8\n",
    )

    assert checked.tunnel is not None
    assert [(found.severity, found.line, found.key) for found in checked.diagnostics] == [
        ("warning", 4, "PresharedKey")
    ]


def test_a_peer_without_allowed_ips() -> None:
    """It gets nothing. One that later peers took all of its prefixes from is told of already."""
    checked = read(
        conf("", f"PublicKey = {A_KEY}", f"PublicKey = {B_KEY}\nAllowedIPs = 10.0.0.0/8",
             f"PublicKey = {C_KEY}\nAllowedIPs = 10.0.0.0/8\n", f"PublicKey = {A_KEY}"),
    )  # fmt: skip

    assert [(found.line, found.key, found.message[:17]) for found in checked.diagnostics] == [
        (11, "AllowedIPs", "10.0.0.0/8 is als"),
        (13, "[Peer]", "this key's peer i"),
        (13, "[Peer]", "has no AllowedIPs"),
    ]
    wrong = read(conf("", f"PublicKey = {A_KEY}\nAllowedIPs = x"))
    assert [found.severity for found in wrong.diagnostics] == ["error"]


# --- what is refused


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("PrivateKey = abc=", "3:14: PrivateKey: ", "44 characters"),
        (f"PrivateKey = {PRIVATE[:-2]}N=", "3:14: PrivateKey: ", "not 32 bytes in base64"),
        (f"PrivateKey = {PRIVATE.replace('+', '-')}", "3:14: PrivateKey: ", "not 32 bytes"),
        ("ListenPort = 65536", "3:14: ListenPort: ", "a port from 0 to 65535"),
        ("ListenPort = -1", "3:14: ListenPort: ", "a port from 0 to 65535"),
        ("ListenPort = x-none", "3:14: ListenPort: ", "the name of a service"),
        ("ListenPort =", "3:13: ListenPort: ", "a port"),
        ("ListenPort = " + "9" * 5000, "3:14: ListenPort: ", "a port"),
        ("FwMark = 0XFF", "3:10: FwMark: ", "0x0 to 0xffffffff"),
        ("FwMark = 0x", "3:10: FwMark: ", "0x0 to 0xffffffff"),
        ("FwMark = 4294967296", "3:10: FwMark: ", "4294967295"),
        ("Address = 10.0.0.1/33", "3:11: Address: ", "from 0 to 32"),
        ("Address = 10.0.0.1/24, 10.0.0.256/24", "3:24: Address: ", "IPv4 or IPv6 address"),
        ("Address = 10.0.0.1/255.255.255.0", "3:11: Address: ", "from 0 to 32"),
        ("Address = 10.0.0.010", "3:11: Address: ", "IPv4 or IPv6 address"),
        ("DNS = 1.1.1.1, 1.1.1", "3:16: DNS: ", "complete IPv4 address"),
        ("DNS = exa$mple", "3:7: DNS: ", "name server or a search domain"),
        ("DNS = fe80::1%e;m", "3:7: DNS: ", "scope"),
        ("MTU = big", "3:7: MTU: ", "from 576 to 65535"),
        ("MTU = 575", "3:7: MTU: ", "from 576 to 65535"),
        ("Table = Main", "3:9: Table: ", "a number, or a name of rt_tables (/etc/iproute2)"),
        ("Table = 4294967296", "3:9: Table: ", '"4294967296" must be auto, off, or a '),
        ("Table = 0x", "3:9: Table: ", "a routing table"),
        ("Table = 08", "3:9: Table: ", "a routing table"),
        ("Table = 0x1g", "3:9: Table: ", "a routing table"),
        ("Table = -1", "3:9: Table: ", "a routing table"),
        ("Table = +", "3:9: Table: ", "a routing table"),
        ("Table = 1 2", "3:9: Table: ", "a routing table"),
        ("Table = " + "1" * 5000, "3:9: Table: ", "a routing table"),
        ("SaveConfig = yes", "3:14: SaveConfig: ", "true or false"),
        ("SaveConfig =", "3:13: SaveConfig: ", "true or false"),
        ("PostUp = echo\rreboot", "3:10: PostUp: ", "control characters"),
        (f"PublicKey = {A_KEY}", "3:1: PublicKey: ", "belongs in [Peer]"),
        ("Adress = 10.0.0.1", "3:1: Adress: ", "did you mean Address?"),
        ("  Colour = 4", "3:3: Colour: ", "no such key in [Interface]; there are PrivateKey, "),
        ("nonsense", "3:1: ", "no KEY = VALUE"),
        ("[Peers]", "3:1: ", '"[Peers]" is no section; there are [Interface] and [Peer]'),
        ("# wgsvc: private-key-file = k", "1:1: PrivateKey: ", "keep one of them"),
        ("# wgsvc: name = x", "3:17: wgsvc: name: ", "belongs in [Peer]"),
    ],
)  # fmt: skip
def test_interface_defects(line: str, place: str, said: str) -> None:
    """One error, where it is, with what is allowed."""
    text = f"[Interface]\nPrivateKey = {PRIVATE}\n{line}\n"
    errors = [str(found) for found in read(text).errors]

    assert len(errors) == 1
    assert errors[0].startswith(f"wg0.conf:{place}")
    assert said in errors[0]


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("Endpoint = 192.0.2.1", "5:12: Endpoint: ", "port is missing"),
        ("Endpoint = 192.0.2.1:", "5:12: Endpoint: ", "port is missing"),
        ("Endpoint = [2001:db8::1]", "5:12: Endpoint: ", "[ADDRESS]:PORT"),
        ("Endpoint = [2001:db8::1:51820", "5:12: Endpoint: ", "[ADDRESS]:PORT"),
        ("Endpoint = 2001:db8::1", "5:12: Endpoint: ", "not IPv6"),
        ("Endpoint = 192.0.2.1:0", "5:12: Endpoint: ", "port from 1"),
        ("Endpoint = 192.0.2:51820", "5:12: Endpoint: ", "complete IPv4"),
        ("Endpoint = a..b:1", "5:12: Endpoint: ", "HOST a name"),
        ("Endpoint = -a:1", "5:12: Endpoint: ", "HOST a name"),
        ("Endpoint = a/b:1", "5:12: Endpoint: ", "HOST a name"),
        ("PersistentKeepalive = 65536", "5:23: PersistentKeepalive: ", "0 to 65535"),
        ("PersistentKeepalive = 1.5", "5:23: PersistentKeepalive: ", "0 to 65535"),
        ("AllowedIPs =", "5:13: AllowedIPs: ", "a comma too many"),
        ("AllowedIPs = 10.0.0.0/8,", "5:25: AllowedIPs: ", "a comma too many"),
        ("AllowedIPs = 10.0.0.0/8, 10.0.0.010", "5:26: AllowedIPs: ", "IPv4 or IPv6"),
        ("AllowedIPs = 10.0.0.0/", "5:14: AllowedIPs: ", "from 0 to 32"),
        ("AllowedIPs = ::/129", "5:14: AllowedIPs: ", "from 0 to 128"),
        ("AllowedIPs = fe80::1%em0", "5:14: AllowedIPs: ", "IPv4 or IPv6"),
        ("AllowedIPs = -10.0.0.0/8", "5:14: AllowedIPs: ", "takes a prefix away"),
        ("Address = 10.0.0.1", "5:1: Address: ", "belongs in [Interface]"),
        ("AllowedIps4 = 10.0.0.1", "5:1: AllowedIps4: ", "did you mean AllowedIPs?"),
        ("# wgsvc: name =", "5:16: wgsvc: name: ", "printable"),
        ("# wgsvc: routes = 10.0.0.0/8, x", "5:31: wgsvc: routes: ", "IPv4 or IPv6"),
    ],
)
def test_peer_defects(line: str, place: str, said: str) -> None:
    """One error, where it is, with what is allowed."""
    text = f"[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\nPublicKey = {A_KEY}\n{line}\n"
    errors = [str(found) for found in read(text).errors]

    assert len(errors) == 1
    assert errors[0].startswith(f"wg0.conf:{place}")
    assert said in errors[0]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"\xef\xbb\xbf[Interface]\n", "wg0.conf:1:1: "),
        (b"[Interface]\nMTU = 14\x0000\n", "wg0.conf:2:9: "),
        (b"[Interface]\n# quiet\0ly\n", "wg0.conf:2:8: "),
        (b"[Interface]\nMTU\xc2\xa0= 1400\n", "wg0.conf:2:1: "),
        (b"[Interface]\nMTU = \xc2\xa01400\n", "wg0.conf:2:7: MTU: "),
        (b"[Interface]\nMTU = 1400\x1b[2J\n", "wg0.conf:2:11: "),
        ("[Interface]\nMTU = 1\u2028400\n".encode(), "wg0.conf:2:7: MTU: "),
        (b"[Interface]\nPostUp = \xff\n", "wg0.conf:2:10: PostUp: "),
        (b"MTU = 1400\n", "wg0.conf:1:1: MTU: "),
        (b"[Interface]\rMTU = 1400\r", "wg0.conf:1:1: "),
        (b"[Peer]\nAllowedIPs = 10.0.0.0/8\n", "wg0.conf:1:1: [Peer]: PublicKey is missing"),
        (f"[Peer]\nPublicKey = {ZERO}\n".encode(), "wg0.conf:2:13: PublicKey: "),
        (b"[Interface]\n#" + b"x" * (8 << 20) + b"\n", "wg0.conf:2:1: the line is longer"),
    ],
    ids=["BOM", "NUL", "NUL-in-comment", "NBSP-in-key", "NBSP-in-value", "escape-sequence",
         "U+2028", "latin-1-hook", "no-section", "lone-CR", "no-PublicKey", "zero-PublicKey",
         "long-line"],
)  # fmt: skip
def test_bytes_that_are_no_configuration(text: bytes, place: str) -> None:
    """Each is one error, at its place."""
    errors = [str(found) for found in read(text).errors]

    assert len(errors) == 1, errors
    assert errors[0].startswith(place)


def test_all_errors_in_one_pass() -> None:
    """Also several of one line, drop-ins too; in the order of the files."""
    checked = read(
        "[Interface]\nMTU = x\nTable = y\n[Peer]\nAllowedIPs = 1, 10.0.0.0/8, 2\n[Bad]\nA = 1\n",
        "[Interface]\nMTU = x\n[Peer]\nPublicKey = x\n",
    )

    assert checked.tunnel is None
    assert [(found.file, found.line, found.column) for found in checked.errors] == [
        ("wg0.conf", 2, 7),
        ("wg0.conf", 3, 9),
        ("wg0.conf", 4, 1),
        ("wg0.conf", 5, 14),
        ("wg0.conf", 5, 29),
        ("wg0.conf", 6, 1),
        ("wg0.conf.d/0.conf", 1, 1),
        ("wg0.conf.d/0.conf", 4, 13),
    ]


@pytest.mark.parametrize("text", ["main", "0x10", "vpn", "-1"])
def test_a_fib_is_a_number(text: str) -> None:
    """FreeBSD has no names for them; decimal it is, as for setfib(1)."""
    wrong = parse(f"[Interface]\nTable = {text}\n".encode(), name="wg0", path="wg0.conf")
    right = parse(b"[Interface]\nTable = 010\n", name="wg0", path="wg0.conf")

    assert [str(found) for found in wrong.errors] == [
        f'wg0.conf:2:9: Table: "{text}" must be auto, off, or a FIB, which is a number'
    ]
    assert right.tunnel is not None
    assert right.tunnel.table == 10


def test_columns_count_characters_not_bytes() -> None:
    """An editor shows characters."""
    assert [found.column for found in read("[Interface]\nDNS = zürich, 1.1\n").errors] == [7, 15]


def test_of_one_kind_of_mistake_twenty_are_shown_and_the_rest_counted() -> None:
    """A hostile file fills neither memory nor the terminal; other kinds are not crowded out."""
    text = b"[Interface]\n" + b"x\n" * 50_000 + b"MTU = 1\nAddress = 10.0.0.1/33," + b"y," * 199
    checked = read(text + b"\nAddress = 10.0.0.2/34\n")
    told = [str(found) for found in checked.diagnostics]

    assert len(told) == 20 + 1 + 1 + 1 + 20 + 1 + 1
    rule = "this line is no KEY = VALUE, [SECTION] or # comment"
    assert told[19:22] == [
        f"wg0.conf:21:1: {rule}",
        f"wg0.conf: and 49980 more ({rule})",
        'wg0.conf:50002:7: MTU: "1" must be a number from 576 to 65535',
    ]
    rule = "must be an IPv4 or IPv6 address, with or without /LENGTH"
    assert told[42:] == [
        f'wg0.conf:50003:61: Address: "y" {rule}',
        f"wg0.conf: Address: and 179 more ({rule})",
        (
            'wg0.conf:50004:11: Address: "10.0.0.2/34" has a length after the / that is not '
            "from 0 to 32"
        ),
    ]


def test_of_one_kind_of_warning_twenty_are_shown() -> None:
    """Those of lists, those of pairs of peers, those of other keys: each kind by itself."""
    peers = [f"PublicKey = {A_KEY}\nAllowedIPs = 10.0.0.1/8, 10.1.0.0/16" for _ in range(100)]
    peers += [f"PublicKey = {B_KEY}\nAllowedIPs = 10.0.{i}.1/24" for i in range(25)]
    told = [found.message for found in read(conf("MTU = 1400\n" * 23, *peers)).diagnostics]

    assert [message for message in told if message.startswith("and ")] == [
        "and 2 more (is given again in this section; the last one counts)",
        "and 105 more (... has host bits set: ... is used)",
        "and 103 more (its key has a section before)",
    ]
    assert len(told) == 3 * 21


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Address = fd00:51820::1/64", 'Address: "fd00:51820::1/64" must be an IPv4 or IPv6'),
        ("Address = 10.0.0.1, 10.0.0.999 , ::1", 'Address: "10.0.0.999" must be'),
        ("MTU = big  # as it gets", 'MTU: "big" must be a number'),
        ("ListenPort = zürich\x7f", ""),
        ("DNS = z\u200brich", 'DNS: "z\\u200brich" must be the address of a name server'),
        ("DNS = " + "ab.$" * 40, 'DNS: "' + "ab.$" * 15 + '..." must be'),
        ("Table = " + "7" * 20, 'Table: "77777777777777777777" must be'),
        ("PrivateKey = short", "PrivateKey: must have 44 characters of base64, has 5"),
        ("PostUp = \ud800", "PostUp: is not valid UTF-8"),
        (f"[Peer]\nPublicKey = {A_KEY[:-3]}", "PublicKey: must have 44"),
        (f"[Peer]\nPublicKey = {A_KEY}\nPresharedKey = hunter2", "PresharedKey: must have 44"),
        (f"[Peer]\nPublicKey = {A_KEY}\nAllowedIPs = ::/0, 10.0. 0.0 /33", '"10.0. 0.0 /33" has'),
        (f"[Peer]\nPublicKey = {A_KEY}\nEndpoint = vpn.example.org", '"vpn.example.org" must be'),
        (f"[Peer]\nPublicKey = {A_KEY}\n# wgsvc: routes = x", 'wgsvc: routes: "x" must be'),
        ("[Peeer]", '"[Peeer]" is no section'),
        ("Password = hunter2", "Password: no such key"),
    ],
)
def test_what_is_wrong_is_quoted(line: str, said: str) -> None:
    """The entry alone, printable and cut; never where a secret may stand."""
    data = f"[Interface]\n{line}\n".encode("utf-8", "surrogatepass")
    errors = [str(found) for found in read(data).errors]

    assert len(errors) == 1
    assert said in errors[0]
    assert errors[0].isprintable()
    assert "hunter2" not in errors[0]


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ("ec2-203-0-113-25.compute-1.amazonaws.com", True),
        ("averyverylonghostname.example", True),
        ("us12345nyc01servers.example.net:99999", True),
        ("99999999999999999999", True),
        ("2001:db8:1234:5678:9abc:def0:1234:56789/64", True),
        (A_KEY, False),
        (A_KEY[:16], False),
        (A_KEY[-18:], False),
        (f"10.0.0.1/{A_KEY[:20]}", False),
        (f"{'x.' * 28}{A_KEY}", False),
        (f"{A_KEY[:10]} {A_KEY[10:30]}", False),
        (base64.b64decode(A_KEY).hex(), False),
    ],
)
def test_what_may_be_a_key_is_not_shown_wherever_it_stands(entry: str, *, shown: bool) -> None:
    """Names and numbers are not taken for one."""
    assert bool(quoted(entry.encode())) == shown


def test_a_file_for_amneziawg_is_one_error() -> None:
    """Its lines, and what it is for; what else is wrong is told as well."""
    amnezia = [f"{key} = 5" for key in ("Jc", "Jmin", "jmax", "S1", "S2", "H1", "H2", "H3", "H4")]
    interface = "\n".join([*amnezia[:5], "MTU = 1400", *amnezia[5:], "MTU = x"])
    checked = read(conf(interface, f"PublicKey = {A_KEY}\nAdvancedSecurity = on"))

    assert [str(found) for found in checked.errors] == [
        (
            "wg0.conf:3:1: Jc: lines 3 to 7, 9 to 12, 16 (Jc, Jmin, Jmax, S1, S2, H1, H2, H3, H4, "
            "AdvancedSecurity) are for AmneziaWG, whose protocol WireGuard does not speak: "
            "ask who made the file for one for WireGuard"
        ),
        'wg0.conf:13:7: MTU: "x" must be a number from 576 to 65535',
    ]


def test_keys_and_sections_of_other_programs() -> None:
    """One error for each program in each file."""
    checked = read(
        "[NetDev]\nName = wg0\n[WireGuard]\nPrivateKeyFile = x\n[Interface]\n"
        "IncludedApplications = a\nReserved = 1,2,3\nExcludedApplications = b\n"
        + "FirewallMark = 1\n\n"
        * 20,
        f"[Peer]\nPublicKey = {A_KEY}\nRouteTable = main\n",
    )
    systemd = "systemd-networkd (systemd.netdev(5)): wg-quick's files have [Interface] and [Peer]"

    assert [str(found) for found in checked.errors] == [
        (
            "wg0.conf:1:1: [NetDev]: lines 1, 3, 9, 11, 13, 15, 17, 19, others ([NetDev], "
            f"[WireGuard], FirewallMark) are for {systemd}"
        ),
        (
            "wg0.conf:6:1: IncludedApplications: lines 6, 8 (IncludedApplications, "
            "ExcludedApplications) are for the WireGuard app on Android, about its other apps: "
            "take that out"
        ),
        (
            "wg0.conf:7:1: Reserved: line 7 (Reserved) is for clients of Cloudflare WARP, and "
            "nothing of WireGuard's: take that out"
        ),
        f"wg0.conf.d/0.conf:3:1: RouteTable: line 3 (RouteTable) is for {systemd}",
    ]


def test_the_keys_that_there_are_are_listed_once_in_a_section() -> None:
    """Each list is ten words; one of each kind of section in each file is enough."""
    unknown = "Colour = 1\nWeather = 2\nAdress = 10.0.0.1\n"
    checked = read(conf(unknown, unknown, unknown), f"[Peer]\n{unknown}")
    listed = [
        (found.file, found.line) for found in checked.errors if "; there are " in found.message
    ]

    assert listed == [("wg0.conf", 3), ("wg0.conf", 8), ("wg0.conf.d/0.conf", 2)]


@pytest.mark.parametrize(
    "line",
    [
        PRIVATE,
        f"PrivateKey {PRIVATE}",
        f"PrivateKey: {PRIVATE}",
        f"PrivateKy = {PRIVATE}",
        f"PrivateKey = {PRIVATE}x",
        f"PrivateKey = {PRIVATE[:20]}\n{PRIVATE[20:]}",
        f"PrivateKey = {PRIVATE[:-9]}\n{PRIVATE[-9:]}",
        f"{PRIVATE}{PRIVATE}",
        f"ListenPort = {PRIVATE}",
        f"Address = {PRIVATE}",
        f"DNS = {PRIVATE}",
        f"Table = {PRIVATE}",
        f"[{PRIVATE}]",
        f"[Peer]\n{PRIVATE}",
        f"[Peer]\nPublicKey = {A_KEY}\nPresharedKey = {PRIVATE[:-1]}",
        f"[Peer]\nPublicKey = {A_KEY}\nAllowedIPs = {PRIVATE}, 10.0.0.0/8",
        f"[Peer]\nPublicKey = {A_KEY}\nEndpoint = {PRIVATE}:1",
        f"[Peer]\nPublicKey = {A_KEY}\nEndpoint = {PRIVATE[:-1]}.example:1",
        f"[Peer]\nPublicKey = {A_KEY}\nAllowedIPs = {PRIVATE[:20]}, {PRIVATE[20:]}",
        f"DNS = 192.0.2.1, {'a.' * 25}{PRIVATE}",
        f"DNS = {PRIVATE.replace('+', '-').replace('=', '$')}",
        f"Address = {base64.b64decode(PRIVATE).hex()}",
        f"# wgsvc: name = {PRIVATE}{PRIVATE}",
        f"# wgsvc: {PRIVATE}",
        f"# wgsvc: private-key-file = {PRIVATE}",
        f"# wgsvc: private-key-file = {PRIVATE[:-1]}",
    ],
)
def test_no_diagnostic_shows_a_secret(line: str) -> None:
    """Not even a piece of one, wherever a slip of the editor has put it."""
    checked = read(f"[Interface]\n{line}\n")
    said = "\n".join(f"{found} {found.key}" for found in checked.diagnostics)

    assert checked.diagnostics
    assert not [at for at in range(38) if PRIVATE[at : at + 6] in said]


def test_a_secret_is_not_in_the_text_of_a_tunnel() -> None:
    """A tunnel that somebody prints."""
    shown = repr(tunnel("", f"PublicKey = {A_KEY}\nPresharedKey = {B_KEY}"))

    assert "SecretKey(hidden)" in shown
    assert repr(base64.b64decode(PRIVATE)) not in shown
    assert repr(base64.b64decode(B_KEY)) not in shown


@pytest.mark.parametrize(
    ("lines", "key", "said"),
    [
        ("MTU = 1400\nMTU = 1500", "MTU", "given again"),
        ("Address = 10.0.0.1\nAddress = 10.0.0.1", "Address", "given twice"),
        ("MTU = 1200\nAddress = fd00::1", "MTU", "1280"),
        ("PostUp =", "PostUp", "runs nothing"),
        ("# wgsvc: naem = x", "wgsvc", "no such setting"),
    ],
)
def test_warnings_do_not_keep_a_file_from_use(lines: str, key: str, said: str) -> None:
    """Odd, but wg-quick takes it too."""
    checked = read(conf(lines))

    assert checked.tunnel is not None
    assert [(found.severity, found.key) for found in checked.diagnostics] == [("warning", key)]
    assert said in checked.diagnostics[0].message


# --- size


def counted_calls(text: bytes) -> int:
    """Return how many calls, of Python and of C, a parse makes: time without a clock."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        parse(text, name="wg0", path="wg0.conf")
    finally:
        sys.setprofile(None)
    return calls


def wide(entries: int) -> bytes:
    """One peer with many AllowedIPs on a line."""
    prefixes = (f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32" for i in range(entries))
    return conf("", f"PublicKey = {A_KEY}\nAllowedIPs = {', '.join(prefixes)}").encode()


def long(count: int) -> bytes:
    """Many peers that all claim the same prefix, too."""
    return conf(
        "",
        *(
            f"PublicKey = {base64.b64encode(i.to_bytes(32, 'little')).decode()}\n"
            f"AllowedIPs = 10.{i >> 16}.{i >> 8 & 255}.{i & 255}/32, 192.0.2.0/24\n"
            "Endpoint = 192.0.2.1:51820"
            for i in range(1, count + 1)
        ),
    ).encode()


def same(count: int) -> bytes:
    """One peer in many sections, each of which adds."""
    return conf(
        "",
        *(f"PublicKey = {A_KEY}\nAllowedIPs = +10.0.{i >> 8}.{i & 255}/32" for i in range(count)),
    ).encode()


def wrong(count: int) -> bytes:
    """Nothing but mistakes."""
    return b"[Interface]\n" + b"AllowedIp = 1\n" * count


def wrong_entries(count: int) -> bytes:
    """Make lists of mistakes, long ones and not ASCII, so that columns have to be counted."""
    entries = "é, " * count
    lists = f"{entries}\nDNS = {entries}\n[Peer]\nAllowedIPs = {entries}"
    return f"[Interface]\nAddress = {lists}\n# wgsvc: routes = {entries}\n".encode()


@pytest.mark.parametrize("make", [wide, long, same, wrong, wrong_entries])
def test_the_work_is_linear(make: object) -> None:
    """Twice the input is at most twice the calls (and the part that is fixed)."""
    assert callable(make)
    once, twice = counted_calls(make(2000)), counted_calls(make(4000))

    assert twice < 2.1 * once


def test_a_line_of_mistakes_is_read_once() -> None:
    """The column of one costs as much as the line is long, so it is not asked of each."""
    asked = 0

    class Line(bytes):
        def isascii(self) -> bool:
            nonlocal asked
            asked += 1
            return super().isascii()

    findings = Findings()
    reader = Reader(findings, LookUps())
    reader.read(b"[Interface]\n", "wg0.conf")
    reader._raw = Line(b"Address = " + b"x " * 10_000)
    reader._assign(b"Address ", bytes(reader._raw[9:]))

    assert asked == 20
    assert len(findings.diagnostics()) == 21


def test_a_hundred_thousand_allowed_ips_on_one_line() -> None:
    """All of them are there."""
    given = parse(wide(100_000), name="wg0", path="wg0.conf").tunnel

    assert given is not None
    assert len(set(given.peers[0].allowed_ips)) == 100_000


def test_a_million_blank_lines() -> None:
    """And one that says something, at its number."""
    checked = parse(b"\n" * 1_000_000 + b"x\n", name="wg0", path="wg0.conf")

    assert [found.line for found in checked.errors] == [1_000_001]
