"""
Where things are and how wgsvc behaves: wgsvc.toml, the environment, the command line.

Later ones win: built-in, `wgsvc.toml` in the first configuration folder that has one,
WGSVC_* in the environment, options before the verb.
"""

from __future__ import annotations

import os
import sys

from wgsvc.errors import ConfigError, UsageError, WgsvcError
from wgsvc.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CONFIG_DIRS = ("/usr/local/etc/wireguard", "/etc/wireguard")
RUN_DIR = "/var/run/wgsvc"
UAPI_DIR = "/var/run/wireguard"  # compiled into wireguard-go (ipc/uapi_unix.go)

_CHOICES = {
    "backend": ("wireguard-go", "kernel", "auto"),
    "hooks": ("on", "off"),
    "on_exit": ("restart", "stop"),
    "dns": ("required", "optional", "off"),
    "dns_mode": ("exclusive", "metric", "plain"),
    "full_tunnel": ("auto", "halves"),
    "firewall": ("auto", "off"),
    "greet": ("on", "off"),
}
_SECONDS = (
    "step_timeout_s", "hook_timeout_s", "ready_timeout_s", "unresponsive_after_s",
    "resolve_timeout_s", "endpoint_stale_s",
)  # fmt: skip
_TEXTS = ("wireguard_go", "hook_shell")
_GROUPS = ("interface_group", "status_group")
_KEYS = (*_CHOICES, *_SECONDS, *_TEXTS, *_GROUPS, "run_dir", "config_dir")
TUNNEL_KEYS = ("backend", "fib", "routes")
"""Settings of one interface: [tunnel.IF] in wgsvc.toml, wireguard_IF_KEY in rc.conf."""


class Settings(NamedTuple):
    """
    Every setting; times in seconds.

    `backend`: which WireGuard; `wireguard_go`: the program that `wireguard-go` means (any
    that takes `-f NAME` and WG_TUN_FD). `on_exit`: what to do when somebody else ends a
    tunnel's wireguard-go on purpose. `hook_shell` "" is bash if there is one, else sh.
    `interface_group` is FreeBSD's, of the tuns that we make; "" is none. Members of
    `status_group`, a name or a number, may ask for the status; "" is root alone.
    `per_tunnel` holds `[tunnel.NAME]` tables: TUNNEL_KEYS.
    """

    config_dirs: tuple[str, ...] = CONFIG_DIRS
    run_dir: str = RUN_DIR
    uapi_dir: str = UAPI_DIR
    backend: str = "wireguard-go"
    wireguard_go: str = "wireguard-go"
    hooks: str = "on"
    hook_shell: str = ""
    interface_group: str = "wireguard"
    status_group: str = ""
    on_exit: str = "restart"
    dns: str = "required"
    dns_mode: str = "exclusive"
    full_tunnel: str = "auto"
    firewall: str = "auto"
    greet: str = "on"
    step_timeout_s: float = 10.0
    hook_timeout_s: float = 30.0
    ready_timeout_s: float = 10.0
    unresponsive_after_s: float = 30.0
    resolve_timeout_s: float = 5.0
    endpoint_stale_s: float = 135.0
    verbosity: int = 0  # -1 quiet, 0, 1 or more: -v
    per_tunnel: Mapping[str, Mapping[str, object]] = {}
    changes: tuple[str, ...] = ()  # the `--set` in force, as given
    unchanged: Settings | None = None  # what they were made to
    unread: str = ""  # a wgsvc.toml that may be there, and may say another `run_dir`


def load_settings(
    *,
    config_dir: str | None = None,
    run_dir: str | None = None,
    verbosity: int = 0,
    changes: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
    complain: Callable[[WgsvcError], None] | None = None,
    asks: bool = False,
) -> Settings:
    """
    Return the settings in force for these options and this environment.

    `changes` are KEY=VALUE or IF.KEY=VALUE, as `--set` takes them. `complain` is told what of
    wgsvc.toml can't be used, instead of an error: the rest of it is. `asks` is for a command that
    does nothing but ask a supervisor: it can do without a file that this user may not read.
    Raises: ConfigError if wgsvc.toml can't be used, UsageError for a change that can't be
    made; both name the key.
    """
    config_dir = config_dir or environ.get("WGSVC_CONFIG_DIR")
    run_dir = run_dir or environ.get("WGSVC_RUN_DIR")
    settings = Settings(verbosity=verbosity)
    if config_dir:
        settings = settings._replace(config_dirs=(config_dir,))
    for folder in settings.config_dirs:
        path = os.path.join(folder, "wgsvc.toml")
        there = _is_there(path)
        if there is None or (there and asks and not os.access(path, os.R_OK)):
            if not run_dir:
                settings = settings._replace(unread=settings.unread or path)
        elif there:
            settings = _with_file(
                settings, path, keep_config_dir=bool(config_dir), complain=complain or _raise
            )
            break
    if run_dir:
        settings = settings._replace(run_dir=run_dir)
    # With those that take one back: they are for the daemon.
    return with_changes(settings, changes)._replace(changes=tuple(changes))


def _is_there(path: str) -> bool | None:
    """Whether there is something at a path; None if this user may not look."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return True


def with_changes(settings: Settings, changes: Sequence[str]) -> Settings:
    """
    Return settings with KEY=VALUE and IF.KEY=VALUE applied, over those applied before.

    Of one key the last one counts; without a value (`KEY=`) it is as if there had been none.
    Raises: UsageError.
    """
    if not changes:
        return settings
    before = settings.unchanged or settings
    wanted: dict[tuple[str, str], str] = {}
    for change in (*settings.changes, *changes):
        tunnel, key, value = _split(change)
        wanted.pop((tunnel, key), None)
        if value:
            wanted[tunnel, key] = change
    result = before
    for change in wanted.values():
        result = _with_change(result, change)
    return result._replace(changes=tuple(wanted.values()), unchanged=before)


def tunnel_of(change: str) -> str:
    """Return the interface that a change is for; "" if it is for all, or takes something back."""
    tunnel, _, value = _split(change)
    return tunnel if value else ""


def _split(change: str) -> tuple[str, str, str]:
    """Return interface ("" for all), key and value. An interface's name may hold `.` and `=`."""
    for key in TUNNEL_KEYS:
        tunnel, found, value = change.partition(f".{key}=")
        if found and "/" not in tunnel:  # else it is part of a path
            return tunnel, key, value
    name, equals, value = change.partition("=")
    tunnel, _, key = name.rpartition(".")
    if not equals or not key:
        raise UsageError(f"--set {change}: must be KEY=VALUE or IF.KEY=VALUE")
    if tunnel:
        raise UsageError(f"--set {change}: of one interface there are {', '.join(TUNNEL_KEYS)}")
    if key not in _KEYS:
        raise UsageError(f"--set {change}: no such setting; there are {', '.join(_KEYS)}")
    return "", key, value


def _with_change(settings: Settings, change: str) -> Settings:
    tunnel, key, value = _split(change)
    if tunnel:
        if key == "backend" and value not in _CHOICES[key]:
            raise UsageError(f"--set {change}: must be one of {', '.join(_CHOICES[key])}")
        own = {**settings.per_tunnel.get(tunnel, {}), key: value}
        return settings._replace(per_tunnel={**settings.per_tunnel, tunnel: own})
    typed: object = value
    if key in _SECONDS:
        try:
            typed = float(value)
        except ValueError:
            typed = None
    try:
        return settings._replace(**_checked("--set", key, typed))  # type: ignore[arg-type]
    except ConfigError as error:
        raise UsageError(error.message) from None


def _raise(error: WgsvcError) -> None:
    raise error


def _with_file(
    settings: Settings,
    path: str,
    *,
    keep_config_dir: bool,
    complain: Callable[[WgsvcError], None],
) -> Settings:
    from wgsvc.files import read_trusted  # only hosts with a wgsvc.toml pay

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table = tomllib.loads(read_trusted(path, limit_bytes=1 << 20).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        complain(ConfigError(f"{path}: not valid TOML: {error}"))
        return settings
    except WgsvcError as error:  # others can write it, or it can't be read
        complain(error)
        return settings
    changes: dict[str, object] = {}
    for key, value in table.items():
        try:
            changes.update(_checked(path, key, value))
        except ConfigError as error:
            complain(error)
    if keep_config_dir:
        changes.pop("config_dirs", None)
    return settings._replace(**changes)  # type: ignore[arg-type]  # checked one by one


def _seconds(path: str, key: str, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 3600:
        return float(value)
    raise ConfigError(f"{path}: {key}: must be a number of seconds, at most 3600")


def _group(path: str, value: object) -> str:
    """Return a group's name as FreeBSD's kernel and pf take one; "" for none."""
    text = value if isinstance(value, str) else " "
    if text in ("", "off"):
        return ""
    plain = text.replace("_", "").replace(".", "").replace("-", "")
    if len(text) > 15 or not f"{plain}a".isalnum() or not text.isascii() or text[-1].isdigit():
        raise ConfigError(
            f"{path}: interface_group: must be off, or at most 15 letters, digits and _ . -, "
            "the last one no digit"
        )
    return text


def _status_group(path: str, value: object) -> str:
    """Return a group's name or number as text; whether there is one, the supervisor finds out."""
    number = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if number or isinstance(value, str) else " "
    if (
        not text.isprintable()
        or len(text) > 256
        or set(" ,:/").intersection(text)
        or text[:1] == "-"
    ):
        raise ConfigError(f"{path}: status_group: must be the name or the number of a group")
    return text


def _check_own(path: str, table: str, own: object) -> None:
    """Check what concerns one interface; `fib` and `routes` are its file's business."""
    if not isinstance(own, dict):
        raise ConfigError(f"{path}: {table}: must be a table")
    for key, value in own.items():
        if key not in TUNNEL_KEYS:
            raise ConfigError(f"{path}: {table}.{key}: there are {', '.join(TUNNEL_KEYS)}")
        if key == "backend" and value not in _CHOICES[key]:
            raise ConfigError(f"{path}: {table}.{key}: must be one of {', '.join(_CHOICES[key])}")


def _checked(path: str, key: str, value: object) -> dict[str, object]:
    if key in _CHOICES:
        if value in _CHOICES[key]:
            return {key: value}
        raise ConfigError(f"{path}: {key}: must be one of {', '.join(_CHOICES[key])}")
    if key in _SECONDS:
        return {key: _seconds(path, key, value)}
    if key in _TEXTS and isinstance(value, str) and value:
        return {key: value}
    if key in _GROUPS:
        return {key: (_group if key == "interface_group" else _status_group)(path, value)}
    if key in ("run_dir", "config_dir"):
        if isinstance(value, str) and os.path.isabs(value):
            return {"config_dirs": (value,)} if key == "config_dir" else {key: value}
        raise ConfigError(f"{path}: {key}: must be an absolute path")
    if key == "tunnel" and isinstance(value, dict):
        for name, own in value.items():
            _check_own(path, f"tunnel.{name}", own)
        return {"per_tunnel": value}
    known = (*_KEYS, "tunnel")
    raise ConfigError(
        f"{path}: {key}: no such setting, or not of its type; there are {', '.join(known)}"
    )
