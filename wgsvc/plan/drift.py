"""What is no longer as it was applied, in plain words."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterator

from wgsvc.plan import steps
from wgsvc.plan.reload import Difference
from wgsvc.uapi.encode import DeviceChange, PeerChange

TOLD = 4
"""More than this is counted."""


def words(found: Difference) -> str:
    """Return what `found` would put right, "" if there is nothing."""
    told: list[str] = []
    count = 0
    for what in _each(found):
        count += 1
        if len(told) < TOLD:
            told.append(what)
    if count > TOLD:
        told.append(f"{count - TOLD} more")
    return "; ".join(told)


def savable(found: Difference) -> bool:
    """Whether anything of it can be written into the file: a missing route can't."""
    steps_of_files = [
        s for s in found.additions if not isinstance(s, steps.AddRoutes | steps.AddRules)
    ]
    return bool(steps_of_files or found.removals or found.device)


def _each(found: Difference) -> Iterator[str]:
    for step in (*found.additions, *found.removals):
        match step:
            case steps.AddAddress(address=address):
                yield f"address {address} is missing"
            case steps.DeleteAddress(address=address):
                yield f"address {address} was added"
            case steps.SetMtu(mtu=mtu):
                yield f"the MTU is not {mtu}"
            case steps.AddRoutes(routes=routes):
                for route in routes:
                    yield f"the route to {route.prefix} is missing"
            case steps.AddRules(versions=versions):
                for version in versions:
                    yield f"the rules that lead IPv{version} into the tunnel are missing"
    if found.device is not None:
        yield from _device(found.device)


def _device(device: DeviceChange) -> Iterator[str]:
    if device.private_key is not None:
        yield "the private key is another"
    if device.listen_port is not None:
        yield f"the port is not {device.listen_port}"
    if device.fwmark is not None:
        yield f"the mark is not {device.fwmark or 'off'}"
    for peer in device.peers:
        yield f"peer {b2a_base64(peer.public_key, newline=False).decode()[:12]} {_peer(peer)}"


def _peer(peer: PeerChange) -> str:
    if peer.remove:
        return "was added"
    if not peer.update_only:
        return "is missing"
    parts = [
        name
        for name, differs in (
            ("AllowedIPs", peer.allowed_ips or peer.dropped_ips or peer.replace_allowed_ips),
            ("a keepalive", peer.keepalive_s is not None),
            ("a preshared key", peer.preshared_key is not None),
        )
        if differs
    ]
    return f"has {' and '.join(parts)} of its own"
