"""
A configuration file's bytes to a Tunnel, or to everything that is wrong with them.

The dialect is that of wg-quick(8) and wg(8), as their sources and wg 1.0.20210914 itself
have it; where this is stricter, docs/config.md says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wgsvc.config import mistakes
from wgsvc.config.fields import NO_LOOK_UPS, LookUps
from wgsvc.config.findings import Findings
from wgsvc.config.interface import MTU_MIN_IPV6, Interface
from wgsvc.config.model import Checked, Hooks, Tunnel
from wgsvc.config.names import check_name
from wgsvc.config.peers import merge
from wgsvc.config.reader import Reader

TYPE_CHECKING = False  # typing itself takes 3 ms to import
if TYPE_CHECKING:
    from typing import Any


def parse(
    data: bytes,
    *,
    name: str,
    path: str,
    extra: Sequence[tuple[str, bytes]] = (),
    freebsd: bool = False,
    look_ups: LookUps = NO_LOOK_UPS,
    thorough: bool = False,
) -> Checked:
    """
    Check a file and return the tunnel it describes.

    Arguments: `data`, the file; `name`, the interface's; `path`, for diagnostics and
    Tunnel.path; `extra`, drop-in files as (path, bytes), [Peer] sections only; `freebsd`,
    whose own interface names to refuse; `look_ups`, what names of ports and tables stand for;
    `thorough`, whether to look also for what takes milliseconds to find.

    Returns: Checked, without a tunnel if there was an error. Any bytes will do: this
    never raises, takes time linear in what it is given, and no diagnostic holds a value
    that could be a secret.
    """
    findings = Findings()
    reason = check_name(name, freebsd=freebsd)
    if reason:
        findings.error(path, 0, 0, "", reason)
    reader = Reader(findings, look_ups)
    reader.read(data, path)
    for dropin, content in extra:
        reader.read(content, dropin, dropin=True)
    here = reader.interface
    peers = merge(reader.peers, findings)
    _check_interface(here, path, findings)
    mistakes.find_secrets(here.private_key, reader.peers, findings)
    if thorough and here.private_key is not None:
        mistakes.warn_of_own_key(here.private_key, reader.peers, findings)
    linux = look_ups.route_table is not None
    mistakes.warn_of_lost_packets(here.table, reader.peers, peers, findings, linux=linux)
    if findings.has_errors:
        return Checked(None, findings.diagnostics())
    tunnel = Tunnel(
        name=name,
        private_key=here.private_key,
        listen_port=here.listen_port,
        fwmark=here.fwmark,
        addresses=tuple(here.addresses),
        dns_servers=tuple(here.dns_servers),
        dns_search=tuple(here.dns_search),
        mtu=here.mtu,
        table=here.table,
        save_config=here.save_config,
        hooks=Hooks(*(tuple(snippets) for snippets in here.hooks.values())),
        peers=tuple(peers),
        path=path,
        digest=digest_of(data, extra),
        private_key_file=here.private_key_file,
    )
    return Checked(tunnel, findings.diagnostics())


def _check_interface(here: Interface, path: str, findings: Findings) -> None:
    if here.private_key_file and "PrivateKey" in here.seen:
        what = "is given, and a private-key-file too: keep one of them"
        findings.error(path, here.line, 1, "PrivateKey", what)
    elif here.private_key is None and not here.private_key_file and not findings.has_errors:
        what = "there is none: the tunnel comes up, but can't reach anybody"
        findings.warning(path, here.line, 1 if here.line else 0, "PrivateKey", what)
    if (here.mtu or MTU_MIN_IPV6) < MTU_MIN_IPV6 and any(a.version == 6 for a in here.addresses):
        what = f"IPv6 needs at least {MTU_MIN_IPV6}: the system may refuse the address"
        findings.warning(path, here.mtu_line, 1, "MTU", what)


def _sha256() -> Callable[[bytes], Any]:
    """Return SHA-256 without hashlib where that can be: it loads OpenSSL, 4 ms."""
    for module in ("_sha2", "_sha256"):  # CPython 3.12 on; before
        try:
            found: Callable[[bytes], Any] = __import__(module).sha256
        except (ImportError, AttributeError):
            continue
        return found
    from hashlib import sha256

    return sha256


def digest_of(data: bytes, extra: Sequence[tuple[str, bytes]]) -> str:
    """Return the SHA-256 of a file and what belongs to it, in hexadecimal."""
    summed = _sha256()(data)
    for dropin, content in extra:
        summed.update(b"\0%s\0%d\0" % (dropin.encode("utf-8", "surrogateescape"), len(content)))
        summed.update(content)
    return str(summed.hexdigest())
