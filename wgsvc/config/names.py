"""Which names a tunnel's interface may have."""

from __future__ import annotations

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=+.-")
LENGTH_MAX = 15  # IFNAMSIZ without its NUL, both systems
_CLONERS = ("tun", "tap", "vmnet")


def check_name(name: str, *, freebsd: bool = False) -> str | None:
    """
    Return why an interface can't have this name, None if it can.

    The rule is wg-quick's `[a-zA-Z0-9_=+.-]{1,15}`; it is also what makes `%i` safe in
    a hook. On FreeBSD the names of the tun(4) cloner itself are refused: a tun renamed to
    one of these takes a unit that all vnets share (observed-13.2).
    """
    if not name:
        return "an interface needs a name"
    if len(name) > LENGTH_MAX:
        return f"an interface's name has at most {LENGTH_MAX} characters"
    if not usable(name):
        return "an interface's name consists of letters, digits and _=+.-"
    if name in (".", ".."):
        return "an interface can't be called . or .."
    if name.startswith("-"):
        return "an interface's name can't begin with -, programs would take it for an option"
    if freebsd:
        for cloner in _CLONERS:
            rest = name[len(cloner) :]
            if name.startswith(cloner) and (not rest or rest.isdigit()):
                return f"{cloner} and {cloner}0, {cloner}1 ... are the kernel's own names"
    return None


def usable(letters: str) -> bool:
    """Whether a name may hold all of these letters."""
    return _ALLOWED.issuperset(letters)
