"""A value of a file as a message may show it: short, printable, and never key material."""

from __future__ import annotations

SHOWN_MAX = 60  # characters
_LOOKED_AT = 4 * SHOWN_MAX + 64  # bytes: what can be shown, and a key that begins in it
_SECRET_KEYS = frozenset(
    ("PrivateKey", "PresharedKey", "PublicKey", "PreUp", "PostUp", "PreDown", "PostDown",
     "wgsvc: private-key-file")
)  # fmt: skip
"""Keys whose value may be a secret, or is a shell snippet that may hold one: never shown."""

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_ALL_BUT_BASE64 = bytes(byte if byte in _BASE64 else 0x20 for byte in range(256))
_PIECE = 16  # characters: a piece of a key as long as this gives away too much of it
_ANY_CASE = 32  # characters: also of small letters alone, as in hexadecimal


def quoted(entry: bytes, key: str = "") -> str:
    """Return a value in quotes; "" if there is none, or if it is, or may be, a secret."""
    entry = entry.strip()
    if not entry or key in _SECRET_KEYS or may_be_key(entry):
        return ""
    text = entry[:_LOOKED_AT].decode("utf-8", "replace")
    cut = text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "..."
    return f'"{printable(cut)}"'


def may_be_key(entry: bytes) -> bool:
    """
    Whether the part of a value that can be shown looks like a key or a long piece of one.

    Somebody may have put it into the wrong line. Host names may have long parts too,
    but of small letters and digits.
    """
    squeezed = entry[:_LOOKED_AT].translate(None, b" \t\r\v\f")
    for run in squeezed.translate(_ALL_BUT_BASE64).split():
        if len(run) >= _ANY_CASE:
            return True
        plain = run.isalnum() and (run.lower() == run or run.upper() == run)
        if len(run) >= _PIECE and not plain:
            return True
    return False


def printable(text: str) -> str:
    """Return a text that any terminal can take, what it can't as an escape."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
