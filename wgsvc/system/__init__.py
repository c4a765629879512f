"""The one place that knows an operating system; `base` is what it must be able to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from wgsvc.errors import UnavailableError

if TYPE_CHECKING:
    from wgsvc.system.base import System


def current() -> System:
    """
    Return the system this process runs on.

    Raises: UnavailableError on an OS that nobody wrote a class for.
    """
    if sys.platform.startswith("freebsd"):
        from wgsvc.system.freebsd.system import FreeBSD  # one OS a process

        return FreeBSD()
    if sys.platform == "linux":
        from wgsvc.system.linux.system import Linux  # one OS a process

        return Linux()
    raise UnavailableError(f"wgsvc runs on FreeBSD and Linux, not on {sys.platform}")
