"""
JSON without the `json` package, which imports `re`: 5 ms of a start, of bare Python's 10.

What it is made of is in C and has been there, with this signature, since Python 3.1; where
it is missing (not CPython), the package itself serves.
"""

from __future__ import annotations

from wgsvc.light import TYPE_CHECKING, Any

if TYPE_CHECKING:
    make_encoder: Any
    make_scanner: Any
    encode_basestring_ascii: Any
else:
    try:
        from _json import encode_basestring_ascii, make_encoder, make_scanner
    except ImportError:
        make_encoder = make_scanner = None

_BLANKS = " \t\r\n"


class _Rules:
    """How values are read: what json.JSONDecoder has by default."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's scratch, emptied by it


def dumps(value: object) -> str:
    """Return a value as JSON without blanks. Raises: TypeError."""
    if make_encoder is None:
        import json

        return json.dumps(value, separators=(",", ":"))
    encode = make_encoder({}, _refuse, encode_basestring_ascii, None, ":", ",", False, False, True)
    return "".join(encode(value, 0))


def pretty(value: Any, margin: str = "") -> str:
    """Return a value as JSON for people, as json.dumps(value, indent=2) does."""
    inner = margin + "  "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{dumps(str(key))}: {pretty(one, inner)}" for key, one in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{margin}}}"
    if isinstance(value, (list, tuple)) and value:
        rows = [inner + pretty(one, inner) for one in value]
        return "[\n" + ",\n".join(rows) + f"\n{margin}]"
    return dumps(value)


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises: ValueError."""
    if isinstance(text, bytes):
        text = text.decode()
    if make_scanner is None:
        import json

        return json.loads(text)
    text = text.strip(_BLANKS)
    try:
        value, end = make_scanner(_Rules)(text, 0)
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None
    except StopIteration:
        raise ValueError("no JSON value") from None
    except SystemError:  # it wants json.decoder's error, which is not loaded
        import json

        return json.loads(text)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def _refuse(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is no JSON value")
