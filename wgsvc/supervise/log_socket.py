"""
One line to syslogd, without ever waiting for it.

Not syslog(3): that blocks as soon as syslogd does not read (stopped, or busy with a disk that
is full), and a supervisor that waits for a log supervises nothing. A line that finds
no room is lost; RFC 3164 promises no more.
"""

from __future__ import annotations

import _socket
import contextlib
import os
import time

PATHS = ("/var/run/log", "/dev/log")  # FreeBSD's and Linux's _PATH_LOG (syslog.h)
LOG_DAEMON, LOG_ERR, LOG_INFO = 3 << 3, 3, 6
LINE_LIMIT_BYTES = 2000


def send(message: str, *, error: bool) -> None:
    """Hand over one line under the name `wgsvc`, facility daemon."""
    priority = LOG_DAEMON | (LOG_ERR if error else LOG_INFO)
    head = f"<{priority}>{time.strftime('%b %e %H:%M:%S')} wgsvc[{os.getpid()}]: "
    line = (head + " ".join(message.splitlines())).encode(errors="replace")[:LINE_LIMIT_BYTES]
    for path in PATHS:
        try:
            # A socket a line: it survives a restart of syslogd and leaves no descriptor.
            connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        except OSError:  # no descriptor: not having said so must not be what ends us
            return
        try:
            connection.setblocking(False)
            connection.connect(path)
            with contextlib.suppress(OSError):  # no room, too long: lost
                connection.send(line)
        except OSError:  # nobody listens there
            continue
        else:
            return
        finally:
            connection.close()
