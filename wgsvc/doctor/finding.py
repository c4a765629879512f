"""One thing that the doctor has to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.settings import Settings
    from wgsvc.system.base import System

ERROR, WARNING, INFO = "error", "warning", "info"
"""A tunnel won't start; something will surprise; worth to know."""


class Finding(NamedTuple):
    """
    What is wrong, and the command that cures it.

    `fix` does what `cure` says and returns what it did; None where that is not ours to
    do. It proves again that the thing is still the one that was found, and raises
    WgsvcError if it can't be done.
    """

    severity: str
    subject: str
    what: str
    cure: str = ""
    fix: Callable[[], str] | None = None


class Host(NamedTuple):
    """What the subjects look at: the tunnels are those whose files could be read."""

    settings: Settings
    system: System
    tunnels: tuple[Tunnel, ...]
