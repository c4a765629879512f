"""
The rc.d script: where the one that came with this package is, and whose one is installed.

rc(8) reads every file of /usr/local/etc/rc.d that is executable and does not end in
`.pkgsave` or `.sample` (rc.subr, find_local_scripts_new), so what is kept there for later
must not be executable.
"""

from __future__ import annotations

import os
import stat
import sys

from wgsvc.errors import NotPermittedError, OSFailureError, UnavailableError, shell_word
from wgsvc.replaced import replace

PREFIX = "/usr/local"
PROGRAM = b"/usr/local/bin/wgsvc"  # as it stands in the script
MARK = b"under wgsvc(8)"  # a line of ours has it, of every version
_LIMIT_BYTES = 1 << 20
_PLAIN = {ord(letter): "a" for letter in "/._+-"}


def installed_path(prefix: str) -> str:
    """Return where rc(8) looks for the script."""
    return os.path.join(prefix, "etc", "rc.d", "wireguard")


def saved_path(prefix: str) -> str:
    """Return where another package's script is kept while ours is in its place."""
    return installed_path(prefix) + ".saved-by-wgsvc"


def shipped() -> bytes:
    """
    Return this package's script: inside of it when installed, beside it in a source tree.

    Raises: UnavailableError if a packager left it out.
    """
    package = os.path.dirname(os.path.realpath(__file__))
    for folder in (package, os.path.dirname(package)):
        found = read(os.path.join(folder, "rc.d", "wireguard"))
        if found is not None:
            return found
    raise UnavailableError("this installation of wgsvc came without its rc.d script")


def for_program(script: bytes, program: str) -> bytes:
    """
    Return the script with `program` as the default of wireguard_wgsvc.

    Raises: UnavailableError if the path has characters that mean something to sh.
    """
    if not program.isascii() or not program.translate(_PLAIN).isalnum():
        raise UnavailableError(f"rc.d can't call a program with this path: {program!r}")
    return script.replace(PROGRAM, os.fsencode(program))


def this_program() -> str:
    """Return the wgsvc that is running, /usr/local/bin/wgsvc if it was not started as one."""
    program = os.path.abspath(sys.argv[0])
    named = os.path.basename(program) == "wgsvc" and os.path.isfile(program)
    return program if named and os.access(program, os.X_OK) else PROGRAM.decode()


def read(path: str) -> bytes | None:
    """
    Return what is installed there, None if nothing is.

    Raises: NotPermittedError if it is not a plain file, OSFailureError.
    """
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            cure = f"look at it: ls -l {shell_word(path)}"
            raise NotPermittedError(f"{path} is not a plain file", cure=cure)
        with open(path, "rb") as file:
            return file.read(_LIMIT_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OSFailureError("open", path, error.errno or 0) from None


def is_ours(script: bytes) -> bool:
    """Return whether wgsvc wrote a script."""
    return MARK in script


def put(path: str, data: bytes, mode: int) -> None:
    """
    Write a file, whole or not at all.

    Raises: OSFailureError.
    """
    try:
        replace(path, data, mode)
    except OSError as error:
        raise OSFailureError("write", path, error.errno or 0, cure="run as root") from None
