"""Saying that a host has no IPv6 where a file wants some: the kernel says `Permission denied`."""

from __future__ import annotations

from wgsvc.errors import UnavailableError, WgsvcError
from wgsvc.light import TYPE_CHECKING
from wgsvc.plan.routes import tunnel_prefixes

if TYPE_CHECKING:
    from wgsvc.config.model import Tunnel
    from wgsvc.supervise.context import Context
    from wgsvc.values import Prefix


def check(context: Context, tunnel: Tunnel, *, hooks: bool) -> None:
    """
    Refuse a file with IPv6 where there is none, before anything is touched.

    A file with a PreUp hook is not refused here, since the hook may switch IPv6 on.
    Raises: UnavailableError.
    """
    missing = context.system.without_ipv6()
    if missing is None or (hooks and tunnel.hooks.pre_up):
        return
    wants = [f"the address {address}" for address in tunnel.addresses if address.version == 6]
    wants += [f"a route to {_whole(p)}" for p in tunnel_prefixes(tunnel) if p.version == 6]
    if wants:
        raise _for(f"{tunnel.name} is to have {wants[0]}", missing)


def explained(context: Context, name: str, prefix: Prefix, error: WgsvcError) -> WgsvcError:
    """Return the error for an address or route that was refused: that there is no IPv6, if so."""
    missing = context.system.without_ipv6(name) if prefix.version == 6 else None
    return error if missing is None else _for(f"{name} can't have {_whole(prefix)}", missing)


def _for(what: str, missing: UnavailableError) -> UnavailableError:
    return UnavailableError(f"{what}, but {missing.message}", cure=missing.cure)


def _whole(prefix: Prefix) -> str:
    """Return a prefix as a file has it: ::/0 for a half of it."""
    return "::/0" if prefix.length == 1 else str(prefix)
