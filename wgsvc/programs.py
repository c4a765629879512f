"""Where programs are: by one fixed PATH, whoever asks, so that all speak of the same program."""

from __future__ import annotations

import os

from wgsvc.errors import UnavailableError

PATH = "/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"


def fixed_environment(**more: str) -> dict[str, str]:
    """Return the environment of every child: the same at boot and at a restart by hand."""
    return {"PATH": PATH, "HOME": "/root", "LANG": "C", "LC_ALL": "C", **more}


def find_program(name: str) -> str:
    """
    Return where a program is, by the fixed PATH of every child.

    Raises: UnavailableError, with the package that has it where that is known.
    """
    if "/" in name:
        return name
    for folder in PATH.split(":"):
        candidate = os.path.join(folder, name)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return candidate
    packages = {"wireguard-go": "wireguard-go", "wg": "wireguard-tools", "resolvconf": "openresolv"}
    package = packages.get(name)
    cure = ""
    if package:
        freebsd = os.uname().sysname == "FreeBSD"
        cure = f"{'pkg' if freebsd else 'apt-get'} install {package}"
    raise UnavailableError(f"{name} is not installed (looked in {PATH})", cure=cure)
