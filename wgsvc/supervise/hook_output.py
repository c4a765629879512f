"""
What a hook writes, and what it leaves running: read until nobody can write any more.

A hook may leave a process in the background that goes on writing. If the reading end of its
pipe were closed, its next line would kill it (SIGPIPE). So the supervisor reads on until the last
writer has closed the pipe or the tunnel ends. After that, or when the supervisor was killed, nobody
reads. The pipe still does not break, since every process that can write into it holds a reading
end of it as well (`System.unbroken_pipe`). It takes 64 KiB more; then the writer waits in write(2)
for good. SIGPIPE itself is left as it is: pipes within a hook rely on it.
"""

from __future__ import annotations

import os

from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise import log_socket

if TYPE_CHECKING:
    from wgsvc.supervise.context import Context, Say

SHOWN_LIMIT_BYTES = 64 << 10
"""Of one hook and what it leaves running, together. The rest is read and dropped."""
LINE_LIMIT_BYTES = log_socket.LINE_LIMIT_BYTES - 200
"""A longer line is cut into pieces of this: each fits into one line of syslog, with its head."""
PIPE_BYTES = 64 << 10
READ_BYTES = 4 << 10
"""How much is read and told in one turn: 4096 empty lines take 0.2 s, in which no other tunnel is
served."""
DROP_PAUSE_S = 0.01
"""How long to wait between two reads of what is dropped. Otherwise `yes &` in a hook would keep
the supervisor busy all the time."""


class Output:
    """The reading end of one hook's pipe; `tell` gets its lines, without their ends."""

    def __init__(self, context: Context, read_end: int, tell: Say) -> None:
        os.set_blocking(read_end, False)
        self._context = context
        self._fd = read_end
        self._tell = tell
        self._bytes = 0
        self._line = b""  # the beginning of a line whose end has not come yet
        self._ended = False
        self._left_running: list[Output] = []  # where this one is listed
        self._task = context.loop.spawn(self._follow())

    async def hook_ended(self, name: str, tell: Say) -> None:
        """
        Tell what the hook wrote last; let what it left running be read for `tell` from now on.

        `name` is the interface: when its tunnel ends, `Context.tunnel_ended` ends this, too.
        """
        for _ in range(PIPE_BYTES // READ_BYTES):
            if not self._read():
                break
            await self._context.loop.sleep(0)
        if self._ended:
            self.stop()
            await self._task.wait()
            return
        self._tell = tell
        self._left_running = self._context.left_running.setdefault(name, [])
        self._left_running.append(self)

    def stop(self) -> None:
        """Stop reading, and close the pipe."""
        self._task.cancel()

    async def _follow(self) -> None:
        loop = self._context.loop
        try:
            while not self._ended:
                await loop.readable(self._fd)
                self._read()
                if self._left_running and self._bytes > SHOWN_LIMIT_BYTES:
                    await loop.sleep(DROP_PAUSE_S)
        finally:
            self._tell_lines(b"", last=True)
            os.close(self._fd)
            if self in self._left_running:
                self._left_running.remove(self)

    def _read(self) -> bool:
        """Read once; return whether there was anything."""
        room = SHOWN_LIMIT_BYTES - self._bytes
        try:
            data = b"" if self._ended else os.read(self._fd, READ_BYTES if room > 0 else PIPE_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._ended = True
            return False
        self._bytes += len(data)
        if room >= 0:
            self._tell_lines(data[:room], last=len(data) > room)
            if len(data) > room:
                self._tell(f"... more than {SHOWN_LIMIT_BYTES} bytes: the rest is dropped")
        return True

    def _tell_lines(self, data: bytes, *, last: bool) -> None:
        *lines, rest = (self._line + data).split(b"\n")
        while len(rest) > LINE_LIMIT_BYTES:
            lines.append(rest[:LINE_LIMIT_BYTES])
            rest = rest[LINE_LIMIT_BYTES:]
        if last and rest:
            lines.append(rest)
        self._line = b"" if last else rest
        for line in lines:
            for at in range(0, len(line) or 1, LINE_LIMIT_BYTES):
                text = line[at : at + LINE_LIMIT_BYTES].decode("utf-8", "replace")
                for part in text.splitlines() or [""]:
                    self._tell(part)
