"""JSON as the `json` package has it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wgsvc import lightjson

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_what_is_written_is_read_again_by_both(value: Any) -> None:
    text = lightjson.dumps(value)

    assert text == json.dumps(value, separators=(",", ":"))
    assert lightjson.loads(text) == json.loads(text) == value
    assert lightjson.pretty(value) == json.dumps(value, indent=2)
    assert lightjson.loads(f" {text}\r\n".encode()) == value


@pytest.mark.parametrize("text", ["", "{", "{}x", "[1,]", "nul", '"\x01"', '{"a"}', b"\xff"])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its subclasses are json's
        lightjson.loads(text)


def test_what_has_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="bytes"):
        lightjson.dumps({"key": b"secret"})
