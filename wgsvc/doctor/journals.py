"""What wgsvc had noted of a tunnel and can't use any more: journals that are damaged or forged."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from wgsvc.doctor.finding import WARNING, Finding, Host
from wgsvc.errors import OSFailureError, shell_word
from wgsvc.order import natural
from wgsvc.supervise import journal

if TYPE_CHECKING:
    from collections.abc import Iterator


def find(host: Host) -> list[Finding]:
    """Return the journals that are wrong, and those that a supervisor has set aside."""
    folder = host.settings.run_dir
    entries = os.listdir(folder) if os.path.isdir(folder) else []
    names = {entry.removesuffix(journal.BAD).removesuffix(".json") for entry in entries}
    names = {name for name in names if {f"{name}.json", f"{name}.json{journal.BAD}"} & {*entries}}
    return [each for name in sorted(names, key=natural) for each in _of(host, name)]


def _of(host: Host, name: str) -> Iterator[Finding]:
    path = journal.path_of(host.settings.run_dir, name)
    boot_id = host.system.boot_id()
    now = journal.examine(path, name, boot_id)
    if now.wrong:
        what = f"{path} can't be used: {now.wrong}; the next supervisor sets it aside"
        yield Finding(WARNING, "journals", what, f"wgsvc restart {shell_word(name)}")
    aside = path + journal.BAD
    if not os.path.lexists(aside):
        return
    why = journal.examine(aside, name, boot_id).wrong or "it is another boot's"
    what = f"{aside}: what was noted of {name} could not be used: {why}"
    if now.entry is None and host.system.interface(name) is not None:
        what += f"; {name} is there, but nobody supervises it"
        yield Finding(WARNING, "journals", what, f"wgsvc restart {shell_word(name)}")
    else:
        fix = functools.partial(remove, aside)
        yield Finding(WARNING, "journals", what, f"rm -r {shell_word(aside)}", fix)


def remove(path: str) -> str:
    """
    Remove a journal that was set aside.

    Raises: OSFailureError (it is a folder, for instance).
    """
    try:
        os.unlink(path)
    except OSError as error:
        raise OSFailureError("unlink", path, error.errno or 0) from None
    return f"removed {path}"
