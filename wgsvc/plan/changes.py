"""A difference as lines for people: `+` what comes, `-` what goes."""

from __future__ import annotations

from collections.abc import Iterator

from wgsvc.plan.reload import Difference
from wgsvc.plan.text import commands
from wgsvc.uapi.encode import NO_KEY, DeviceChange, PeerChange

LISTED_PEERS = 50


def lines(found: Difference, name: str, system: str) -> Iterator[str]:
    """Yield what a reload does, as commands; secrets are never shown."""
    for step in found.additions:
        for line in commands(step, system):
            yield f"+ {line}"
    if found.device is not None:
        yield from _device(found.device, name)
    for step in found.removals:
        for line in commands(step, system):
            yield f"- {line}"


def hooks(found: Difference) -> Iterator[str]:
    """Yield which hooks of the file are others now, and when they run; never what they say."""
    for key in found.hooks:
        when = "start" if key in ("PreUp", "PostUp") else "stop"
        yield f"{key} differs: it runs at the next {when}"


def _device(device: DeviceChange, name: str) -> Iterator[str]:
    if device.private_key is not None:
        yield f"+ wg set {name} private-key (changed: every session is renewed)"
    if device.listen_port is not None:
        yield f"+ wg set {name} listen-port {device.listen_port}"
    if device.fwmark is not None:
        yield f"+ wg set {name} fwmark {device.fwmark or 'off'}"
    for peer in device.peers[:LISTED_PEERS]:
        yield _peer(peer, name)
    if len(device.peers) > LISTED_PEERS:
        yield f"  ... and {len(device.peers) - LISTED_PEERS} more peers"


def _peer(peer: PeerChange, name: str) -> str:
    import base64

    start = f"wg set {name} peer {base64.b64encode(peer.public_key).decode()}"
    if peer.remove:
        return f"- {start} remove"
    words = [start]
    if peer.preshared_key is not None:
        words.append("preshared-key " + ("off" if peer.preshared_key == NO_KEY else "(changed)"))
    if peer.endpoint is not None:
        words.append(f"endpoint {peer.endpoint}")
    if peer.keepalive_s is not None:
        words.append(f"persistent-keepalive {peer.keepalive_s or 'off'}")
    sign = "" if peer.replace_allowed_ips else "+"
    prefixes = [f"{sign}{prefix}" for prefix in peer.allowed_ips[:LISTED_PEERS]]
    prefixes += [f"-{prefix}" for prefix in peer.dropped_ips[:LISTED_PEERS]]
    if prefixes:
        words.append("allowed-ips " + ",".join(prefixes))
    return "+ " + " ".join(words)
