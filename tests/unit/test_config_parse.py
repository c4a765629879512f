"""The dialect: what each value gives, and what each defect is told."""

from __future__ import annotations

import base64
import sys

import pytest

from wgsvc.config.model import TABLE_OFF, Checked, Hooks, Peer, Tunnel
from wgsvc.config.parse import parse
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
    return parse(data, name="wg0", path="wg0.conf", extra=extra, service_port=services.get)


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
        conf("", f"PublicKey = {A_KEY}").replace("\n", "\r\n"),
        conf("", f"PublicKey = {A_KEY}").rstrip("\n"),
        conf("", f"PublicKey = {A_KEY}")
        .upper()
        .replace(A_KEY.upper(), A_KEY)
        .replace(PRIVATE.upper(), PRIVATE),
        conf("", f"\vPublic \t Key\f= {A_KEY[:7]} {A_KEY[7:]} # comment"),
        conf("", f"PublicKey={A_KEY}").replace("[Peer]", " [ Peer ] # comment"),
        conf("", f"# AllowedIPs = nonsense\n\n#\nPublicKey={A_KEY}#"),
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
        ("FwMark = OFF", "fwmark", 0),
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
        f"PublicKey = {B_KEY}",
        f"PublicKey = {A_KEY}\nAllowedIPs = 172.16.0.0/12\nEndpoint = b:2",
    )
    checked = read(text)

    assert checked.tunnel is not None
    first, second = checked.tunnel.peers
    assert (first.allowed_ips, first.keepalive_s) == ((net("172.16.0.0/12"),), 5)
    assert first.endpoint == Endpoint("b", 2)
    assert second.public_key == base64.b64decode(B_KEY)
    assert [(found.severity, found.line) for found in checked.diagnostics] == [("warning", 11)]


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
    ("interface", "lines", "warned"),
    [
        ("", "AllowedIPs = 192.0.2.0/24, 10.0.0.0/8", True),
        ("", "AllowedIPs = 128.0.0.0/1, 0.0.0.0/1", True),
        ("", "AllowedIPs = 0.0.0.0/0", False),  # the endpoint gets a route of its own
        ("", "AllowedIPs = 192.0.3.0/24", False),
        ("Table = off", "AllowedIPs = 192.0.2.0/24", False),
        ("Table = 2", "AllowedIPs = 192.0.2.0/24", False),
        ("", "AllowedIPs = 192.0.2.0/24\n# wgsvc: routes = 10.0.0.0/8", False),
    ],
)
def test_a_route_over_the_endpoint(interface: str, lines: str, *, warned: bool) -> None:
    """Packets to the peer would go into the tunnel."""
    checked = read(conf(interface, f"PublicKey = {A_KEY}\nEndpoint = 192.0.2.7:1\n{lines}"))

    assert checked.errors == ()
    assert [found.key for found in checked.diagnostics] == (["Endpoint"] if warned else [])


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
        ("Table = main", "3:9: Table: ", "auto, off, or the number"),
        ("SaveConfig = yes", "3:14: SaveConfig: ", "true or false"),
        ("SaveConfig =", "3:13: SaveConfig: ", "true or false"),
        ("PostUp = echo\rreboot", "3:10: PostUp: ", "control characters"),
        (f"PublicKey = {A_KEY}", "3:1: PublicKey: ", "belongs in [Peer]"),
        ("Adress = 10.0.0.1", "3:1: Adress: ", "did you mean Address?"),
        ("  Jc = 4", "3:3: Jc: ", "no such key in [Interface]"),
        ("nonsense", "3:1: ", "no KEY = VALUE"),
        ("[Peers]", "3:1: ", "no such section"),
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


def test_columns_count_characters_not_bytes() -> None:
    """An editor shows characters."""
    assert [found.column for found in read("[Interface]\nDNS = zürich, 1.1\n").errors] == [7, 15]


def test_errors_without_end_are_counted() -> None:
    """A hostile file fills neither memory nor the terminal."""
    checked = read(b"[Interface]\n" + b"x\n" * 50_000)

    assert len(checked.diagnostics) == 1001
    assert checked.errors[-1].message == "49000 more errors are not shown"


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
        f"# wgsvc: name = {PRIVATE}{PRIVATE}",
        f"# wgsvc: {PRIVATE}",
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


@pytest.mark.parametrize("make", [wide, long, same, wrong])
def test_the_work_is_linear(make: object) -> None:
    """Twice the input is at most twice the calls (and the part that is fixed)."""
    assert callable(make)
    once, twice = counted_calls(make(2000)), counted_calls(make(4000))

    assert twice < 2.1 * once


def test_a_hundred_thousand_allowed_ips_on_one_line() -> None:
    """All of them are there."""
    given = parse(wide(100_000), name="wg0", path="wg0.conf").tunnel

    assert given is not None
    assert len(set(given.peers[0].allowed_ips)) == 100_000


def test_a_million_blank_lines() -> None:
    """And one that says something, at its number."""
    checked = parse(b"\n" * 1_000_000 + b"x\n", name="wg0", path="wg0.conf")

    assert [found.line for found in checked.errors] == [1_000_001]
