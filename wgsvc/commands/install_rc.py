"""`wgsvc install-rc`: put the rc.d script where rc(8) looks for it, and take it away again."""

from __future__ import annotations

import argparse
import os
import stat
import sys

from wgsvc import rcscript
from wgsvc.errors import NameTakenError, OSFailureError, UnavailableError, shell_word
from wgsvc.settings import Settings

SUMMARY = "install the rc.d script (FreeBSD)"

EXECUTE = 0o111


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--replace",
        action="store_true",
        help="also in the place of another package's script, which is kept",
    )
    what.add_argument(
        "--remove",
        action="store_true",
        help="take the script away, and put back what --replace kept",
    )
    parser.add_argument(
        "--prefix", metavar="DIR", help=f"instead of {rcscript.PREFIX}; DIR/etc/rc.d must be there"
    )


def run(options: argparse.Namespace, settings: Settings) -> int:
    """
    Install or remove; return 0.

    Raises: NameTakenError (another package's script is there), UnavailableError (no rc.d
    here), NotPermittedError, OSFailureError.
    """
    prefix: str = options.prefix or rcscript.PREFIX
    if options.prefix is None and not sys.platform.startswith("freebsd"):
        raise UnavailableError("rc.d is FreeBSD's", cure="on Linux: wgsvc start, or wgsvc daemon")
    folder = os.path.dirname(rcscript.installed_path(prefix))
    if not os.path.isdir(folder):
        cure = f"mkdir -p {shell_word(folder)}"
        raise UnavailableError(f"there is no directory {folder}", cure=cure)
    said = _remove(prefix) if options.remove else _install(prefix, replace=options.replace)
    if settings.verbosity >= 0:
        print(said)
    return 0


def _install(prefix: str, *, replace: bool) -> str:
    path, saved = rcscript.installed_path(prefix), rcscript.saved_path(prefix)
    script = rcscript.for_program(rcscript.shipped(), rcscript.this_program())
    there = rcscript.read(path)
    kept = ""
    if there == script and os.access(path, os.X_OK):
        return f"{path} is up to date"
    if there is not None and not rcscript.is_ours(there):
        if not replace:
            raise NameTakenError(
                f"{path} is another package's (wireguard-tools has one of that name)",
                cure="wgsvc install-rc --replace; it keeps that file, --remove puts it back",
            )
        mode = stat.S_IMODE(os.stat(path).st_mode)
        rcscript.put(saved, there, mode & ~EXECUTE)
        kept = f"; what was there is kept in {saved}"
    rcscript.put(path, script, 0o555)
    return f"{path} installed{kept}\nto use it: sysrc wireguard_enable=YES wireguard_interfaces=wg0"


def _remove(prefix: str) -> str:
    path, saved = rcscript.installed_path(prefix), rcscript.saved_path(prefix)
    there, before = rcscript.read(path), rcscript.read(saved)
    if there is not None and not rcscript.is_ours(there):
        raise NameTakenError(f"{path} is not wgsvc's; it is left alone")
    try:
        if before is not None:
            mode = stat.S_IMODE(os.stat(saved).st_mode)
            rcscript.put(path, before, mode | (mode & 0o444) >> 2)
            os.unlink(saved)
            return f"{path} is again what it was before wgsvc"
        if there is None:
            return f"{path} is not there"
        os.unlink(path)
    except OSError as error:
        raise OSFailureError("unlink", path, error.errno or 0, cure="run as root") from None
    return f"{path} removed"
