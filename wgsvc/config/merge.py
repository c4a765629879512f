"""What differs between two tunnels, brought into a third: a file that went its own way since."""

from __future__ import annotations

from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from wgsvc.config.model import Peer, Tunnel
    from wgsvc.light import Any
    from wgsvc.values import Prefix

VALUES = ("private_key", "listen_port", "fwmark", "mtu")
PEER_VALUES = ("preshared_key", "endpoint", "keepalive_s")


def merge(file: Tunnel, applied: Tunnel, running: Tunnel) -> Tunnel:
    """
    Return `file` with everything that changed between `applied` and `running`.

    What did not change there stays as the file has it, and so does what the file has changed
    itself: it is what somebody wants next. Only what a running tunnel can show
    is compared: keys, port, mark, MTU, addresses, peers. No change: the very same `file`.
    """
    if applied is running:
        return file
    changed = _changed(VALUES, file, applied, running)
    addresses = _merged(file.addresses, applied.addresses, running.addresses)
    peers = _peers(file, applied, running)
    if not changed and addresses == file.addresses and peers == file.peers:
        return file
    return file._replace(addresses=addresses, peers=peers, **changed)


def _peers(file: Tunnel, applied: Tunnel, running: Tunnel) -> tuple[Peer, ...]:
    if applied.peers is running.peers:
        return file.peers
    before = {peer.public_key: peer for peer in applied.peers}
    after = {peer.public_key: peer for peer in running.peers}
    peers = []
    for peer in file.peers:
        was, now = before.get(peer.public_key), after.get(peer.public_key)
        if was is None or now is was:
            peers.append(peer)
        elif now is not None:  # else it was taken away
            peers.append(_peer(peer, was, now))
    there = {peer.public_key for peer in file.peers}
    peers += [
        peer
        for peer in running.peers
        if peer.public_key not in there and peer.public_key not in before
    ]
    return tuple(peers)


def _peer(file: Peer, applied: Peer, running: Peer) -> Peer:
    changed = _changed(PEER_VALUES, file, applied, running)
    allowed = _merged(file.allowed_ips, applied.allowed_ips, running.allowed_ips)
    return file._replace(allowed_ips=allowed, **changed)


def _changed(
    values: tuple[str, ...], file: object, applied: object, running: object
) -> dict[str, Any]:
    return {
        value: now
        for value in values
        if (now := getattr(running, value)) != (was := getattr(applied, value))
        and getattr(file, value) == was
    }


def _merged(
    file: tuple[Prefix, ...], applied: tuple[Prefix, ...], running: tuple[Prefix, ...]
) -> tuple[Prefix, ...]:
    if applied == running:
        return file
    before, after, there = set(applied), set(running), set(file)
    kept = [prefix for prefix in file if prefix in after or prefix not in before]
    new = [prefix for prefix in running if prefix not in before and prefix not in there]
    return (*kept, *new)
