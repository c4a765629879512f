"""Writing what runs into its file, so that the next start brings up the same."""

from __future__ import annotations

import os
import stat

from wgsvc import replaced
from wgsvc.errors import BusyError, OSFailureError
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise.observe import observe, running

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.supervise.context import Context, Say
    from wgsvc.supervise.live import Live
    from wgsvc.trusted import TrustedFile

PREVIOUS = ".previous"
"""What the file was before the last save is called NAME.conf.previous; nothing reads that."""


async def save(context: Context, live: Live, say: Say) -> str:
    """
    Write what changed since the tunnel was applied; return what was done in a word or two.

    Raises: WgsvcError; the files are as they were then.
    """
    from wgsvc.files import load

    before = load(live.source, context.settings, known=live.tunnel).tunnel
    now = await write(context, live, say)
    if now is live.settled:
        return "no change"
    if before is not None and before.digest == live.tunnel.digest:
        live.tunnel = load(live.source, context.settings).tunnel or live.tunnel
    live.hooked = now
    live.record(context, "up")
    return "saved"


async def write(
    context: Context, live: Live, say: Say, *, timeout_s: float | None = None
) -> Tunnel:
    """
    Write what changed; return what runs, which is `live.settled` if nothing did.

    Raises: WgsvcError; the files are as they were then.
    """
    from wgsvc.config.save import save as rewritten
    from wgsvc.files import LOOK_UPS, sources

    now = running(live, await observe(context, live, timeout_s=timeout_s))
    if now is live.settled:
        return now
    files = sources(live.source, context.settings)
    data = [(file.path, file.data) for file in files]
    saved = rewritten(data, live.settled, now, look_ups=LOOK_UPS)
    for what in saved.left_out:
        say(f"{live.name}: not saved: {what}")
    for file in files:
        new = saved.files.get(file.path)
        if new is not None:
            replace(file, new)
            say(f"[#] saved: {file.path} (what it was is in {file.path}{PREVIOUS})")
    return now


def replace(file: TrustedFile, new: bytes) -> None:
    """
    Replace a file by rename, what it was kept beside it; mode and owner stay.

    Raises: OSFailureError, BusyError if it was changed since it was read.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(file.path, flags)
        try:
            status = os.fstat(descriptor)
            same = _read(descriptor, len(file.data) + 1) == file.data
        finally:
            os.close(descriptor)
        if not same:
            raise BusyError(f"{file.path} has been changed just now: it is left alone")
        _put(file.path + PREVIOUS, file.data, status)
        _put(file.path, new, status)
    except OSError as error:
        raise OSFailureError("write", file.path, error.errno or 0) from None


def _read(descriptor: int, limit_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < limit_bytes:
        chunk = os.read(descriptor, limit_bytes - len(data))
        if not chunk:
            break
        data += chunk
    return bytes(data)


def _put(path: str, data: bytes, like: os.stat_result) -> None:
    """Write a file under another name in the same folder, then give it its own."""
    owner = like.st_uid, like.st_gid
    replaced.replace(path, data, stat.S_IMODE(like.st_mode), owner=owner, hidden=True)
    folder = os.path.dirname(path)
    folder_descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder_descriptor)
    finally:
        os.close(folder_descriptor)
