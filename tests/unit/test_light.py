"""Named tuples of ours behave as those of `typing` do."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Any

import pytest

from wgsvc import light


class Ours(light.NamedTuple):
    """A place."""

    host: str
    port: int = 51820
    tags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.host}:{self.port}"


class Theirs(typing.NamedTuple):
    """A place."""

    host: str
    port: int = 51820
    tags: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.host}:{self.port}"


BOTH = pytest.mark.parametrize("place", [Ours, Theirs])


@BOTH
def test_fields_defaults_and_keywords(place: Any) -> None:
    made = place("r1", tags=("a",))

    assert made == ("r1", 51820, ("a",))
    assert (made.host, made.port, made.tags) == made
    assert made.text == "r1:51820"
    assert hash(made) == hash(tuple(made))
    assert place._fields == place.__match_args__ == ("host", "port", "tags")
    assert place._field_defaults == {"port": 51820, "tags": ()}


@BOTH
def test_what_is_made_of_another(place: Any) -> None:
    made = place("r1", 1)

    assert made._replace(port=2, host="r2") == place("r2", 2)
    assert type(made._replace(port=2)) is place
    assert made._asdict() == {"host": "r1", "port": 1, "tags": ()}
    assert place._make(["r1", 1, ()]) == made
    assert copy.deepcopy(made) == made
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own bytes
    assert repr(made) == f"{place.__name__}(host='r1', port=1, tags=())"


@BOTH
def test_a_match_statement_takes_it_apart(place: Any) -> None:
    match place("r1", 7):
        case place(host=host, port=7):
            found = host

    assert found == "r1"


@BOTH
def test_wrong_fields_are_refused(place: Any) -> None:
    with pytest.raises(TypeError, match="host"):
        place()
    with pytest.raises(TypeError, match="flavour"):
        place("r1", flavour=1)
    with pytest.raises((TypeError, ValueError), match="flavour"):
        place("r1")._replace(flavour=1)
    with pytest.raises(AttributeError):
        place("r1").flavour = 1
