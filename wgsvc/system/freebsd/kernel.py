"""
The seam: every call into the FreeBSD kernel, and nothing else.

No decision is made here, so a model of the kernel can take this class's place and
the rest of the package runs against it. Numbers and layouts are the callers'.
Everything raises plain OSError.
"""

from __future__ import annotations

import os

from wgsvc.light import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

AF_INET = 2
AF_ROUTE = 17
AF_INET6 = 28  # FreeBSD's number, also on the wire of the routing socket; Linux says 10

SO_USELOOPBACK = 0x40
SO_SETFIB = 0x1014
SO_RERROR = 0x20000  # not on 12.0 to 12.2
LOCAL_PEERCRED = 1
XUCRED_LENGTH = 88
DATAGRAM_LENGTH = 65536  # more than any message of a routing socket

EVFILT_VNODE, EVFILT_PROC = -4, -5
EV_ADD, EV_CLEAR = 0x1, 0x20
NOTE_DELETE, NOTE_WRITE, NOTE_RENAME = 0x1, 0x2, 0x20
NOTE_EXIT = 0x80000000
EVENTS_AT_ONCE = 16


class Kernel:
    """The kernel this process runs on."""

    def __init__(self) -> None:
        self._library: Any = None
        self._watched: dict[int, int] = {}

    def _libc(self) -> Any:
        if self._library is None:
            import ctypes  # 5 ms that most commands never need

            self._library = ctypes.CDLL(None, use_errno=True)
        return self._library

    # --- files and interfaces

    def open(self, path: str, flags: int) -> int:
        """Open a file (open(2))."""
        return os.open(path, flags)

    def close(self, descriptor: int) -> None:
        """Close a descriptor (close(2))."""
        os.close(descriptor)

    def ioctl(self, descriptor: int, request: int, argument: bytearray) -> None:
        """Send a request to a device; the answer is written into `argument` (ioctl(2))."""
        import fcntl

        fcntl.ioctl(descriptor, request, argument, True)

    def interface_ioctl(self, family: int, request: int, argument: bytearray) -> None:
        """Send an interface request on a datagram socket of `family`, as netintro(4) wants."""
        import socket

        with socket.socket(family, socket.SOCK_DGRAM) as control:
            self.ioctl(control.fileno(), request, argument)

    def try_socket(self, family: int) -> None:
        """Open and close a datagram socket of an address family (socket(2))."""
        import socket

        socket.socket(family, socket.SOCK_DGRAM).close()

    # --- routing sockets

    def route_socket(self, *, family: int, fib: int | None, listens: bool) -> socket.socket:
        """
        Return a routing socket (route(4)).

        `family` 0 hears of all address families; `fib` None is the FIB of this process.
        One that does not listen hears nothing, not even itself.
        """
        import socket

        opened = socket.socket(AF_ROUTE, socket.SOCK_RAW, family)
        try:
            if fib is not None:
                opened.setsockopt(socket.SOL_SOCKET, SO_SETFIB, fib)
            if not listens:
                opened.setsockopt(socket.SOL_SOCKET, SO_USELOOPBACK, 0)
                opened.shutdown(socket.SHUT_RD)
        except BaseException:
            opened.close()
            raise
        return opened

    def route_option(self, opened: socket.socket, option: int, value: int) -> None:
        """Set an option at the level of the socket (setsockopt(2))."""
        import socket

        opened.setsockopt(socket.SOL_SOCKET, option, value)

    def route_send(self, opened: socket.socket, message: bytes) -> None:
        """Write one message; the kernel's verdict on it is the errno."""
        opened.send(message)

    def route_receive(self, opened: socket.socket) -> bytes:
        """Read one message."""
        return opened.recv(DATAGRAM_LENGTH)

    # --- sysctl(3)

    def sysctl(self, mib: Sequence[int]) -> bytes:
        """Return what a numeric sysctl holds."""
        import ctypes

        names = (ctypes.c_int * len(mib))(*mib)
        return self._sysctl(
            lambda data, size: self._libc().sysctl(
                names, ctypes.c_uint(len(mib)), data, size, None, ctypes.c_size_t(0)
            )
        )

    def sysctl_by_name(self, name: str) -> bytes:
        """Return what a named sysctl holds."""
        import ctypes

        return self._sysctl(
            lambda data, size: self._libc().sysctlbyname(
                name.encode(), data, size, None, ctypes.c_size_t(0)
            )
        )

    def _sysctl(self, call: Any) -> bytes:
        import ctypes
        from errno import ENOMEM

        while True:
            size = ctypes.c_size_t(0)
            if call(None, ctypes.byref(size)) != 0:
                raise _last_error()
            size.value += size.value // 8 + 1024  # a table may grow between the two calls
            data = ctypes.create_string_buffer(size.value)
            if call(data, ctypes.byref(size)) == 0:
                return data.raw[: size.value]
            error = _last_error()
            if error.errno != ENOMEM:
                raise error

    # --- processes

    def procctl(self, command: int, argument: int | None) -> None:
        """Control this process; `argument` goes by reference (procctl(2))."""
        import ctypes

        data = None if argument is None else ctypes.byref(ctypes.c_int(argument))
        if self._libc().procctl(ctypes.c_int(0), ctypes.c_int64(0), ctypes.c_int(command), data):
            raise _last_error()

    def kill(self, pid: int, signal: int) -> None:
        """Send a signal (kill(2))."""
        os.kill(pid, signal)

    def peer_credentials(self, connection: socket.socket) -> bytes:
        """Return the `struct xucred` of the other end of a UNIX socket (unix(4))."""
        return connection.getsockopt(0, LOCAL_PEERCRED, XUCRED_LENGTH)

    # --- kqueue(2): a kqueue is a descriptor that select and poll understand

    def watch_exit(self, pid: int) -> int:
        """Return a kqueue that turns readable, for good, when process `pid` ends."""
        select = _select()
        queue = select.kqueue()
        try:
            ended = select.kevent(pid, EVFILT_PROC, EV_ADD, NOTE_EXIT)
            queue.control([ended], 0)
            return os.dup(queue.fileno())  # the object closes its own when it goes
        finally:
            queue.close()

    def set_title(self, title: str) -> None:
        """Call setproctitle(3); `-` keeps the program's own name out of it."""
        import ctypes

        ctypes.CDLL(None).setproctitle(b"-%s", ctypes.c_char_p(title.encode()))

    def watch_directory(self, path: str) -> int:
        """Return a kqueue that turns readable when a name in `path` comes or goes."""
        select = _select()
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        queue = select.kqueue()
        try:
            flags, notes = EV_ADD | EV_CLEAR, NOTE_DELETE | NOTE_WRITE | NOTE_RENAME
            changed = select.kevent(directory, EVFILT_VNODE, flags, notes)
            queue.control([changed], 0)
            watch = os.dup(queue.fileno())
        except BaseException:
            os.close(directory)
            raise
        finally:
            queue.close()
        # The kernel forgets the watch when the directory is closed, so it stays open as
        # long as the watch; a number that comes back was closed by its owner.
        stale = self._watched.pop(watch, None)
        if stale is not None:
            os.close(stale)
        self._watched[watch] = directory
        return watch

    def drain(self, watch: int) -> None:
        """Take what a watch has to say, so that it waits for the next change."""
        queue = _select().kqueue.fromfd(os.dup(watch))
        try:
            while queue.control(None, EVENTS_AT_ONCE, 0):
                pass
        finally:
            queue.close()


def _select() -> Any:
    """Return the module `select`, whose kqueue is not there on every platform."""
    import select

    return select


def _last_error() -> OSError:
    import ctypes

    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
