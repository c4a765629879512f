"""Any bytes, and any tunnel: what holds for all of them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wgsvc.config.fields import clamped
from wgsvc.config.model import TABLE_OFF, Hooks, Peer, Tunnel
from wgsvc.config.parse import parse
from wgsvc.config.render import text, wg_text
from wgsvc.values import Endpoint, Prefix, SecretKey

SECRET = "oK56DE9Ue9zK76rAc8pBl6opph+1v36lm7cXXsQKrQM="  # noqa: S105
_WORDS = [
    b"[Interface]", b"[Peer]", b"[", b"]", b"PrivateKey", b"PresharedKey", b"PublicKey", b"=",
    b"\n", b" ", b"#", b",", b":", b"/", b"AllowedIPs", b"Endpoint", b"PostUp", b"DNS",
    b"Address", b"\0",
    b"10.0.0.1/24", b"fd00::/8", b"%", b"# wgsvc: name = ", b"# wgsvc: routes =", b"\r\n", b"\xff",
    SECRET.encode(), SECRET[:21].encode(), b"# wgsvc: private-key-file =", b"ListenPort", b"off",
    b"Table", b"MTU", b"99999999999999999999", b"+", b"-", b"\xe2\x80\xa8", b"\xef\xbb\xbf",
]  # fmt: skip


@given(
    st.binary(max_size=300) | st.lists(st.sampled_from(_WORDS), max_size=40).map(b"".join),
    st.lists(st.lists(st.sampled_from(_WORDS), max_size=10).map(b"".join), max_size=2),
)
@example(b"[Interface]\nPrivateKey" + SECRET.encode() + b"=x\n", [])
@example(b"[Interface]\nDNS = " + b"10.0.0.1," * 9 + b"-" * 55 + SECRET.encode() + b"\n", [])
@example(b"[Peer]\nAllowedIPs = " + SECRET[:21].encode() + b" " + SECRET[21:].encode(), [])
def test_any_bytes_are_a_tunnel_or_diagnostics(data: bytes, dropins: list[bytes]) -> None:
    """Never an exception, never neither, never both; nothing secret in what is said."""
    extra = [(f"wg0.conf.d/{i}.conf", each) for i, each in enumerate(dropins)]
    checked = parse(data, name="wg0", path="wg0.conf", extra=extra)
    said = "\n".join(map(str, checked.diagnostics))

    assert (checked.tunnel is None) == bool(checked.errors)
    assert not [at for at in range(len(SECRET) - 7) if SECRET[at : at + 8] in said]
    assert said.replace("\n", "").isprintable()
    if checked.tunnel:
        assert parse(text(checked.tunnel).encode(), name="wg0", path="wg0.conf").errors == ()


def _prefixes(*, masked: bool) -> st.SearchStrategy[Prefix]:
    def build(version: int, address: int, length: int) -> Prefix:
        bits = 32 if version == 4 else 128
        made = Prefix(version, address % (1 << bits), length % (bits + 1))
        return made.network if masked else made

    number = st.integers(0, 2**128 - 1)
    return st.builds(build, st.sampled_from([4, 6]), number, st.integers(0, 128))


_KEYS = st.binary(min_size=32, max_size=32).filter(any)
_HOSTS = st.sampled_from(["192.0.2.1", "2001:db8::1", "fe80::1%em0", "vpn.example.org"])
_LINES = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=30).filter(
    lambda line: line == line.strip(" ") and line.isprintable()
)
_SNIPPETS = st.lists(_LINES, max_size=2).map(tuple)


@st.composite
def tunnels(draw: st.DrawFn) -> Tunnel:
    """Draw a tunnel as a file can describe it."""
    keys = draw(st.lists(_KEYS, max_size=4, unique=True))
    prefixes = draw(st.lists(_prefixes(masked=True), max_size=8, unique=True))
    peers = [
        Peer(
            key,
            draw(st.none() | _KEYS.map(SecretKey)),
            draw(st.none() | st.builds(Endpoint, _HOSTS, st.integers(1, 65535))),
            draw(st.none() | st.integers(0, 65535)),
            tuple(prefixes[number :: len(keys)]),
            draw(st.just("") | _LINES),
            draw(st.none() | st.lists(_prefixes(masked=True), max_size=3, unique=True).map(tuple)),
        )
        for number, key in enumerate(keys)
    ]
    key_file = draw(st.just("") | _LINES)
    addresses = st.lists(_prefixes(masked=False), max_size=3, unique=True).map(tuple)
    return Tunnel(
        "wg0",
        None if key_file else draw(st.none() | _KEYS.map(lambda key: SecretKey(clamped(key)))),
        draw(st.none() | st.integers(0, 65535)),
        draw(st.none() | st.integers(1, 2**32 - 1)),
        draw(addresses),
        draw(st.sampled_from([(), ("192.0.2.53", "2001:db8::53", "fe80::1%em0")])),
        draw(st.sampled_from([(), ("example.org", "~corp.example", ".")])),
        draw(st.none() | st.integers(576, 65535)),
        draw(st.none() | st.just(TABLE_OFF) | st.integers(0, 2**32 - 1)),
        draw(st.booleans()),
        Hooks(*(draw(_SNIPPETS) for _ in range(4))),
        tuple(peers),
        private_key_file=key_file,
    )


@given(tunnels())
def test_a_tunnel_written_and_read_is_the_same(tunnel: Tunnel) -> None:
    """But for where it was read from."""
    checked = parse(text(tunnel).encode(), name="wg0", path="wg0.conf")

    assert checked.errors == ()
    assert checked.tunnel is not None
    peers = tuple(peer._replace(line=0) for peer in checked.tunnel.peers)
    assert checked.tunnel._replace(path="", digest="", peers=peers) == tunnel


@given(tunnels())
def test_wg_text_has_what_wg_takes_and_nothing_else(tunnel: Tunnel) -> None:
    """The same keys and peers, and not one of wg-quick's lines or our comments."""
    stripped = wg_text(tunnel)
    again = parse(stripped.encode(), name="wg0", path="wg0.conf").tunnel

    assert "#" not in stripped
    assert again is not None
    bare = tuple(peer._replace(name="", routes=None, line=0) for peer in tunnel.peers)
    assert tuple(peer._replace(line=0) for peer in again.peers) == bare
    kept = ("private_key", "listen_port", "fwmark")
    assert [getattr(again, name) for name in kept] == [getattr(tunnel, name) for name in kept]
    assert again.hooks == Hooks()
    assert (again.addresses, again.mtu, again.table, again.save_config) == ((), None, None, False)


def test_wg_text_by_eye() -> None:
    """The form of wg showconf."""
    key = base64.b64encode(b"k" * 32).decode()
    tunnel = Tunnel(
        "wg0",
        listen_port=51820,
        fwmark=0xCA6C,
        peers=(Peer(b"k" * 32, keepalive_s=0, allowed_ips=(Prefix(4, 10 << 24, 8),)),),
    )

    assert wg_text(tunnel) == (
        "[Interface]\nListenPort = 51820\nFwMark = 0xca6c\n\n"
        f"[Peer]\nPublicKey = {key}\nAllowedIPs = 10.0.0.0/8\nPersistentKeepalive = off\n"
    )


def test_a_value_with_a_newline_is_never_written() -> None:
    """It would be two lines, the second of anybody's choosing."""
    with pytest.raises(ValueError, match="control character"):
        text(Tunnel("wg0", hooks=Hooks(post_up=("true\nPostUp = reboot",))))
