"""The state table: total, and each answer is one that a tunnel has."""

from __future__ import annotations

import ast
import inspect
from typing import Any, get_args

import pytest

from wgsvc.supervise import states
from wgsvc.supervise.states import TABLE
from wgsvc.supervise.tunnel import Tunnel


def literals(name: str) -> tuple[str, ...]:
    """Return the texts of a Literal that only type checkers see, from the source."""
    for node in ast.walk(ast.parse(inspect.getsource(states))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            space: dict[str, Any] = {}
            exec(f"from typing import Literal\nfound = {ast.unparse(node.value)}", space)  # noqa: S102
            return get_args(space["found"])
    raise AssertionError(name)


STATES, EVENTS = literals("State"), literals("Event")


def test_every_state_has_an_answer_to_every_event() -> None:
    assert set(TABLE) == {(state, event) for state in STATES for event in EVENTS}


@pytest.mark.parametrize("answer", sorted(set(TABLE.values())))
def test_every_answer_is_a_method_that_takes_a_request(answer: str) -> None:
    assert len(inspect.signature(getattr(Tunnel, answer)).parameters) == 2


@pytest.mark.parametrize("event", ["START", "STOP", "RELOAD", "SAVE"])
@pytest.mark.parametrize("state", STATES)
def test_no_wish_of_a_person_is_ignored(state: str, event: str) -> None:
    assert TABLE[state, event] != "ignore"  # type: ignore[index]


def test_every_state_but_down_can_be_stopped() -> None:
    answers = {state: TABLE[state, "STOP"] for state in STATES}  # type: ignore[index]

    assert set(answers.values()) == {"begin_stop", "abort_start", "join_stop", "stop_leftovers"}


def test_a_death_counts_only_while_a_tunnel_is_up() -> None:
    """Later ones are the respawn's own business, and none may wake what is going away."""
    respawning = [state for state in STATES if TABLE[state, "DAEMON_DIED"] != "ignore"]  # type: ignore[index]

    assert respawning == ["up"]
