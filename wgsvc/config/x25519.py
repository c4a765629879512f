"""The public key of a private one (RFC 7748), for telling our own among the peers'."""

from __future__ import annotations

PRIME = 2**255 - 19
A24 = 121665


def public_key(private_key: bytes) -> bytes:
    """
    Return the public key.

    Not constant-time: 3 ms of arithmetic on a host's own key, never on a peer's behalf.
    """
    scalar = bytearray(private_key)
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    bits = int.from_bytes(scalar, "little")
    x1, x2, z2, x3, z3, swap = 9, 1, 0, 9, 1, 0
    for position in range(254, -1, -1):
        bit = bits >> position & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a % PRIME, b * b % PRIME, d * a % PRIME, c * b % PRIME
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % PRIME, x1 * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + A24 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")
