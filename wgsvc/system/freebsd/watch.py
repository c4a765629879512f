"""Watching a directory for names that come and go: kqueue(2), EVFILT_VNODE."""

from __future__ import annotations

from wgsvc.errors import OSFailureError
from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.system.freebsd.kernel import Kernel


def watch_directory(kernel: Kernel, path: str) -> int:
    """
    Return a descriptor that turns readable when a name in `path` comes or goes.

    It is how a supervisor that holds a tun learns that wireguard-go is ending: the socket
    is unlinked before the tun is closed, and the destroy that follows waits for our copy.
    """
    try:
        return kernel.watch_directory(path)
    except OSError as error:
        raise OSFailureError("kevent", path, error.errno or 0) from error
