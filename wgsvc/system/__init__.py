"""The one place that knows an operating system; `base` is what it must be able to do."""

from __future__ import annotations

import sys

from wgsvc.errors import UnavailableError
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.system.base import System


def current(wireguard_go: str = "wireguard-go") -> System:
    """
    Return the system this process runs on.

    `wireguard_go` is the program tunnels will run (a setting); on Linux what it expects of
    its tun descriptor depends on its version.

    Raises: UnavailableError on an OS that nobody wrote a class for.
    """
    if sys.platform.startswith("freebsd"):
        from wgsvc.system.freebsd.system import FreeBSD  # one OS a process

        return FreeBSD()
    if sys.platform == "linux":
        from wgsvc.system.linux.system import Linux  # one OS a process

        return Linux(wireguard_go)
    raise UnavailableError(f"wgsvc runs on FreeBSD and Linux, not on {sys.platform}")
