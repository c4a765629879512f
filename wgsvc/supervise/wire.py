"""
The words between the command and the daemon: one JSON object a line.

A request is {"verb", "names", "options"}; answers are any number of {"say": text} and one
{"done": {...}} that closes it. As long as there is nothing to say, {"working": true} comes
every HEARTBEAT_S seconds: who hears nothing at all for SILENCE_S asks somebody who is
stopped, or hangs.
"""

from __future__ import annotations

from wgsvc import lightjson
from wgsvc.errors import ProtocolError
from wgsvc.light import Any

REQUEST_LIMIT_BYTES = 1 << 20
ANSWER_LIMIT_BYTES = 256 << 20
HEARTBEAT_S = 1.0
SILENCE_S = 10.0
READING = ("status",)
"""What members of `status_group` may ask for: nothing that changes anything."""

VERBS = ("start", "stop", "restart", "reload", "status", "names", "plan", "save", "retire")


def encode(message: dict[str, Any]) -> bytes:
    """Return one message as a line."""
    return lightjson.dumps(message).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """
    Return the message of a line.

    Raises: ProtocolError.
    """
    try:
        message = lightjson.loads(line)
    except ValueError:
        raise ProtocolError("a line that is no JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("a line that is no JSON object")
    return message


def decode_request(line: bytes) -> tuple[str, list[str], dict[str, Any]]:
    """
    Return verb, names and options of a request.

    Raises: ProtocolError on a verb there is not, or values that are not of their type.
    """
    message = decode(line)
    verb, names = message.get("verb"), message.get("names", [])
    options = message.get("options", {})
    if verb not in VERBS:
        raise ProtocolError("no such verb")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ProtocolError("names must be a list of texts")
    if not isinstance(options, dict):
        raise ProtocolError("options must be an object")
    return str(verb), names, options
