"""The public key of a private one."""

from __future__ import annotations

import os
import shutil
import subprocess
from base64 import b64decode, b64encode

import pytest

from wgsvc.config.x25519 import public_key

RFC_7748_6_1 = {
    "alice": (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    ),
    "bob": (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ),
}


@pytest.mark.parametrize("who", RFC_7748_6_1)
def test_vectors_of_rfc_7748(who: str) -> None:
    private, public = RFC_7748_6_1[who]
    assert public_key(bytes.fromhex(private)).hex() == public


@pytest.mark.skipif(shutil.which("wg") is None, reason="needs wg(8)")
def test_agrees_with_wg() -> None:
    for private in (os.urandom(32), bytes(32), b"\xff" * 32):
        told = subprocess.run(
            ["wg", "pubkey"], input=b64encode(private), check=True, capture_output=True
        ).stdout
        assert public_key(private) == b64decode(told)
