"""Whether an interface can have IPv6 here (Linux Documentation, ip-sysctl: disable_ipv6)."""

from __future__ import annotations

import errno
import os
import socket

from wgsvc.errors import UnavailableError

FOLDER = "/proc/sys/net/ipv6/conf"


def without(name: str = "") -> UnavailableError | None:
    """
    Return why an interface has no IPv6 and what to do about it, None if it can have.

    "" is an interface that is yet to be made: the kernel gives it the value of `default`. `all` is
    copied to the others at the moment it is set and never read again. So it is named as the
    cause, but setting `default` is enough as the cure.
    """
    if not os.path.isdir(FOLDER):
        return _none_at_all()
    which = name if name and os.path.isdir(f"{FOLDER}/{name}") else "default"
    if not _off(which):
        return None
    cause = "all" if _off("all") else which
    return UnavailableError(
        f"IPv6 is switched off: net.ipv6.conf.{cause}.disable_ipv6 = 1",
        cure=f"sysctl -w net/ipv6/conf/{which}/disable_ipv6=0"
        if which == name
        else "for interfaces to come: sysctl -w net.ipv6.conf.default.disable_ipv6=0; "
        "or take IPv6 out of Address and AllowedIPs",
    )


def _none_at_all() -> UnavailableError | None:
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return UnavailableError(
                "this kernel has no IPv6 (left out of it, or ipv6.disable=1 at boot)",
                cure="boot it with IPv6, or take IPv6 out of Address and AllowedIPs",
            )
    return None  # /proc is hidden, or there is no descriptor left: nothing is known


def _off(which: str) -> bool:
    try:
        with open(f"{FOLDER}/{which}/disable_ipv6", "rb", buffering=0) as file:
            return file.read(16).strip() not in (b"0", b"")
    except OSError:
        return False
