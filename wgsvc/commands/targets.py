"""Names that a command is given: whether there is a tunnel, or a file, that they can mean."""

from __future__ import annotations

from wgsvc.errors import UsageError, WgsvcError
from wgsvc.light import TYPE_CHECKING, Any
from wgsvc.supervise import client

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wgsvc.settings import Settings

UNKNOWN = "there is neither a tunnel nor a file of this name"
CURE = "what runs: wgsvc status; what there are files for: wgsvc check"


def is_known(name: str, settings: Settings) -> bool:
    """Whether a name, or a path, has a file, or a tunnel that is noted; also if that is hidden."""
    from wgsvc.files import is_there

    try:
        return is_there(name, settings) or client.interface_of(name) in client.journaled(
            settings.run_dir, aside=True
        )
    except WgsvcError:  # this user may not look
        return True


def unknown_result(result: dict[str, Any]) -> None:
    """Turn the result for a name that means nothing into an error."""
    error = {"kind": UsageError.kind, "message": UNKNOWN, "cure": CURE}
    code = UsageError.exit_code
    result |= {"outcome": "unknown", "exit_code": code, "error": {**error, "exit_code": code}}


def check_settings(settings: Settings, names: Iterable[str]) -> None:
    """
    Look whether `--set IF.KEY=VALUE` speaks of tunnels that there are, or that are named.

    One without a value is never wrong: it takes back what may be long gone.
    Raises: UsageError.
    """
    from wgsvc.settings import tunnel_of

    named = {client.interface_of(name) for name in names}
    for change in settings.changes:
        tunnel = tunnel_of(change)
        if tunnel and tunnel not in named and not is_known(tunnel, settings):
            raise UsageError(f"--set {change}: {UNKNOWN}: {tunnel}", cure=CURE)
