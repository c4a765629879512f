"""Which configuration file is meant, with its drop-ins and its key file: bytes to a Tunnel."""

from __future__ import annotations

import os
import stat
import sys

from wgsvc import trusted
from wgsvc.config.fields import LookUps
from wgsvc.config.model import Checked, Diagnostic, Tunnel
from wgsvc.config.names import check_name
from wgsvc.config.overrides import apply
from wgsvc.config.parse import digest_of, parse
from wgsvc.errors import ConfigError, DeniedError, WgsvcError, shell_word
from wgsvc.light import TYPE_CHECKING
from wgsvc.order import natural

if TYPE_CHECKING:
    from wgsvc.settings import Settings

FREEBSD = sys.platform.startswith("freebsd")
SIZE_MAX_BYTES = 64 << 20  # of a file and all its drop-ins
_KEY_FILE_MAX_BYTES = 4096


def read_trusted(path: str, *, limit_bytes: int) -> bytes:
    """Return the bytes of a file as wgsvc.trusted.read() reads it; raises what that raises."""
    return trusted.read(path, limit_bytes=limit_bytes).data


def load(
    what: str, settings: Settings, *, known: Tunnel | None = None, thorough: bool = False
) -> Checked:
    """
    Return the tunnel of an interface name, or of a path that ends in NAME.conf.

    A name is looked up in `settings.config_dirs`; a path has a `/` in it. The name of
    the interface is the one before links are resolved. Drop-ins are NAME.conf.d/*.conf,
    sorted. Whatever is wrong, the file itself too, is a diagnostic: this raises nothing.
    If the bytes are still those of `known`, that is returned, unparsed: 10 000 peers
    take 0.2 s to parse. `thorough` is for a check: a start does not pay for it.
    """
    try:
        path, warnings = _locate(what, settings)
        found, *dropins = _read_all(path)
    except WgsvcError as error:
        refused = Diagnostic("error", what, 0, 0, "", error.message, error.cure)
        denied = isinstance(error, DeniedError)
        return Checked(None, (refused,), error.exit_code if denied else ConfigError.exit_code)
    extra = [(dropin.path, dropin.data) for dropin in dropins]
    same_file = known is not None and known.path == found.path and not known.private_key_file
    if (
        known
        and same_file
        and not known.overridden
        and not settings.per_tunnel
        and digest_of(found.data, extra) == known.digest
    ):
        return Checked(known, ())
    name = os.path.basename(path).removesuffix(".conf")
    checked = parse(
        found.data,
        name=name,
        path=found.path,
        extra=extra,
        freebsd=FREEBSD,
        look_ups=LOOK_UPS,
        thorough=thorough,
    )
    for each in (found, *dropins):
        if each.mode & stat.S_IROTH and _holds_secret(each.data):
            warnings.append(_world_readable(each.path))
    if checked.tunnel and checked.tunnel.private_key_file:
        checked = _with_key_file(checked, os.path.dirname(path), warnings, thorough=thorough)
    own = settings.per_tunnel.get(name)
    if own and checked.tunnel:
        tunnel, wrong = apply(checked.tunnel, own)
        checked = Checked(None if wrong else tunnel, (*checked.diagnostics, *wrong))
    return checked._replace(diagnostics=(*warnings, *checked.diagnostics))


def sources(what: str, settings: Settings) -> list[trusted.TrustedFile]:
    """
    Return the file that `load` reads and its drop-ins, unparsed.

    Raises: WgsvcError.
    """
    return _read_all(_locate(what, settings)[0])


def path_of(what: str, settings: Settings) -> str:
    """Return the path of the file that `load` reads, `what` itself if there is none."""
    try:
        return _locate(what, settings)[0]
    except WgsvcError:
        return what


def is_there(what: str, settings: Settings) -> bool:
    """Whether `load` would find a file, or may not look whether there is one."""
    if "/" in what:
        return os.path.lexists(what)
    try:
        _locate(what, settings)
    except ConfigError:
        return False
    except WgsvcError:
        return True
    return True


def _read_all(path: str) -> list[trusted.TrustedFile]:
    found = [trusted.read(path, limit_bytes=SIZE_MAX_BYTES)]
    left = SIZE_MAX_BYTES - len(found[0].data)
    for dropin in _dropins(path + ".d"):
        found.append(trusted.read(dropin, limit_bytes=left))
        left -= len(found[-1].data)
    return found


def available(settings: Settings) -> list[str]:
    """Return the names of all files, wg2 before wg10; folders that are not there are empty."""
    names = set()
    for folder in settings.config_dirs:
        for entry in listed(folder):
            name = entry.removesuffix(".conf")
            if name != entry and not check_name(name, freebsd=FREEBSD):
                names.add(name)
    return sorted(names, key=natural)


def _locate(what: str, settings: Settings) -> tuple[str, list[Diagnostic]]:
    if "/" in what:
        base = os.path.basename(what)
        name = base.removesuffix(".conf")
        if name == base:
            raise ConfigError("a configuration file is called INTERFACE.conf")
        _refuse_name(name)
        return what, []
    _refuse_name(what)
    paths = [os.path.join(folder, f"{what}.conf") for folder in settings.config_dirs]
    there: list[str] = []
    for path in paths:
        try:
            found = _exists(path)
        except WgsvcError:
            if not there:  # it may be there, and would be the one
                raise
            continue
        there += [path] if found else []
    if not there:
        here = shell_word(f"./{what}")
        meant = f"; if the file {what} is meant, say {here}" if what.endswith(".conf") else ""
        raise ConfigError(f"no such file: looked for {' and '.join(paths)}{meant}")
    unread = [
        Diagnostic("warning", path, 0, 0, "", f"is not read: {there[0]} comes first")
        for path in there[1:]
    ]
    return there[0], unread


def _exists(path: str) -> bool:
    """Whether there is something at a path. Raises: DeniedError if this user may not look."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise trusted.explained(error, path) from None
    return True


def _refuse_name(name: str) -> None:
    reason = check_name(name, freebsd=FREEBSD)
    if reason:
        raise ConfigError(reason)


def _dropins(folder: str) -> list[str]:
    names = [name for name in listed(folder) if name.endswith(".conf") and name[0] != "."]
    return [os.path.join(folder, name) for name in names]


def listed(folder: str) -> list[str]:
    """
    Return what is in a folder, sorted; nothing if it is not there.

    Raises: WgsvcError.
    """
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise trusted.explained(error, folder) from None


def _with_key_file(
    checked: Checked, folder: str, warnings: list[Diagnostic], *, thorough: bool
) -> Checked:
    from wgsvc.config import fields
    from wgsvc.values import SecretKey

    tunnel = checked.tunnel
    if tunnel is None:
        return checked
    path = os.path.join(folder, tunnel.private_key_file)
    exit_code = ConfigError.exit_code
    try:
        found = trusted.read(path, limit_bytes=_KEY_FILE_MAX_BYTES)
        key = SecretKey(fields.clamped(fields.key(found.data.strip())))
    except WgsvcError as error:
        why, cure = error.message, error.cure
        exit_code = error.exit_code if isinstance(error, DeniedError) else exit_code
    except fields.BadValue as bad:
        why, cure = f"{path}: {bad.message}", ""
    else:
        if found.mode & stat.S_IROTH:
            warnings.append(_world_readable(found.path))
        shared = _shared(tunnel, key)
        if thorough:
            warnings += _own(tunnel, key)
        if shared:
            return Checked(None, (*checked.diagnostics, *shared))
        digest = digest_of(tunnel.digest.encode(), [("key", found.data)])
        return checked._replace(tunnel=tunnel._replace(private_key=key, digest=digest))
    found_wrong = Diagnostic("error", tunnel.path, 0, 0, "wgsvc: private-key-file", why, cure)
    return Checked(None, (*checked.diagnostics, found_wrong), exit_code)


def _shared(tunnel: Tunnel, key: bytes) -> list[Diagnostic]:
    """Return that a peer's public key is the private key of the key file, as the parser does."""
    from wgsvc.config.mistakes import OWN_PRIVATE_KEY, is_private_key

    return [
        Diagnostic("error", tunnel.path, 0, 0, "PublicKey", OWN_PRIVATE_KEY)
        for peer in tunnel.peers
        if is_private_key(peer.public_key, key)
    ]


def _own(tunnel: Tunnel, key: bytes) -> list[Diagnostic]:
    from wgsvc.config.mistakes import OWN_PUBLIC_KEY
    from wgsvc.config.x25519 import public_key

    own = public_key(key)
    return [
        Diagnostic("warning", tunnel.path, 0, 0, "PublicKey", OWN_PUBLIC_KEY)
        for peer in tunnel.peers
        if peer.public_key == own
    ]


def _holds_secret(data: bytes) -> bool:
    squeezed = data.translate(None, b" \t").lower()
    return b"privatekey=" in squeezed or b"presharedkey=" in squeezed


def _world_readable(path: str) -> Diagnostic:
    what = "everybody can read the secret keys in it, so make new ones"
    return Diagnostic("warning", path, 0, 0, "", what, f"chmod o= {shell_word(path)}")


def service_port(name: str) -> int | None:
    """Return the UDP port of a service (/etc/services), None if there is none."""
    import socket

    try:
        return socket.getservbyname(name, "udp")
    except OSError:
        return None


def route_table(name: str) -> int | None:
    """Return the number of a routing table by its name (Linux), None if there is none."""
    from wgsvc.routetables import number_of  # only files with a `Table` pay

    return number_of(name)


LOOK_UPS = LookUps(service_port, None if FREEBSD else route_table)
