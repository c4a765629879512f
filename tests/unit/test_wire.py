"""The words between command and daemon: only what is of the protocol gets through."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc.errors import ProtocolError
from wgsvc.supervise import wire

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values))
def test_round_trip_on_one_line(message: dict[str, object]) -> None:
    line = wire.encode(message)

    assert line.count(b"\n") == 1
    assert wire.decode(line) == message


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_request_or_a_protocol_error(line: bytes) -> None:
    try:
        verb, names, options = wire.decode_request(line)
    except ProtocolError:
        return
    assert verb in wire.VERBS
    assert all(isinstance(name, str) for name in names)
    assert isinstance(options, dict)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"verb": "exec"},
        {"verb": ["start"]},
        {"verb": {}},
        {"verb": "start", "names": "wg0"},
        {"verb": "start", "names": [1]},
        {"verb": "start", "names": {}},
        {"verb": "start", "names": [], "options": []},
        {"verb": "start", "options": None},
    ],
    ids=str,
)
def test_requests_that_are_none(request_: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        wire.decode_request(wire.encode(request_))


def test_a_request() -> None:
    line = wire.encode({"verb": "start", "names": ["wg0"], "options": {"wait": 1}})

    assert wire.decode_request(line) == ("start", ["wg0"], {"wait": 1})


def test_deep_nesting_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError):
        wire.decode(b"[" * 200_000)
