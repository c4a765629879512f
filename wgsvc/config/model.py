"""
A tunnel as its file describes it: frozen, checked, with no OS in it.

The keys are those of wg(8) and wg-quick(8). What a value of None means stands at the
field: it is always "the file does not say".
"""

from __future__ import annotations

from wgsvc.light import NamedTuple
from wgsvc.values import Endpoint, Prefix, SecretKey

TABLE_OFF = -1
"""`Table = off`: no routes."""


class Peer(NamedTuple):
    """One [Peer] section (or several with the same key, merged as wg does)."""

    public_key: bytes
    preshared_key: SecretKey | None = None
    endpoint: Endpoint | None = None
    keepalive_s: int | None = None  # 0 is `off`
    allowed_ips: tuple[Prefix, ...] = ()  # host bits masked, the order of the file
    name: str = ""  # `# wgsvc: name = ...`, or the comment line over [Peer]
    routes: tuple[Prefix, ...] | None = None  # `# wgsvc: routes = ...`; None: the AllowedIPs
    line: int = 0


class Hooks(NamedTuple):
    """The snippets of each event, in order, `%i` not yet replaced."""

    pre_up: tuple[str, ...] = ()
    post_up: tuple[str, ...] = ()
    pre_down: tuple[str, ...] = ()
    post_down: tuple[str, ...] = ()


class Tunnel(NamedTuple):
    """One configuration file."""

    name: str
    private_key: SecretKey | None = None
    listen_port: int | None = None
    fwmark: int | None = None  # None: none, or the one that a full tunnel chooses; 0: a hook's
    addresses: tuple[Prefix, ...] = ()  # host bits kept; no mask given is /32 or /128
    dns_servers: tuple[str, ...] = ()  # numeric, in the order of the file
    dns_search: tuple[str, ...] = ()
    mtu: int | None = None  # None: computed from the ways to the endpoints
    table: int | None = None  # None: auto; TABLE_OFF; else a table (Linux) or FIB (FreeBSD)
    save_config: bool = False
    hooks: Hooks = Hooks()
    peers: tuple[Peer, ...] = ()
    path: str = ""  # where it was read from, links resolved
    digest: str = ""  # SHA-256 of the bytes that were read (all files, drop-ins too)
    private_key_file: str = ""  # `# wgsvc: private-key-file = ...`, as written
    routes: tuple[Prefix, ...] | None = None  # a setting; None: what the peers say
    overridden: bool = False  # settings had a say in `table` or `routes`


class Diagnostic(NamedTuple):
    """
    One thing wrong, or odd, in a file. Never holds the value of a secret.

    `line` and `column` start at 1; 0 means the file as a whole.
    """

    severity: str  # "error" or "warning"
    file: str
    line: int
    column: int
    key: str  # the key or section concerned, "" if none
    message: str  # what is wrong; what is allowed
    cure: str = ""  # what to do about it, a command if there is one

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        what = f"{self.key}: " if self.key else ""
        mark = "warning: " if self.severity == "warning" else ""
        then = f"; {self.cure}" if self.cure else ""
        return f"{where}: {mark}{what}{self.message}{then}"


class Checked(NamedTuple):
    """
    What reading a file gave: a tunnel unless there are errors, and all there is to say.

    `exit_code` is that of a command which can't do without the file: 77 where it may not even be
    looked at.
    """

    tunnel: Tunnel | None
    diagnostics: tuple[Diagnostic, ...]
    exit_code: int = 78

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The diagnostics that keep the file from being used."""
        return tuple(found for found in self.diagnostics if found.severity == "error")
