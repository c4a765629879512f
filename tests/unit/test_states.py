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


HEARD = {
    "RELOAD": {"up": "begin_reload"},
    "SAVE": {"up": "begin_save"},
    "STARTED": {"starting": "become_up"},
    "START_FAILED": {"starting": "become_down", "stopping": "become_down"},
    "DAEMON_DIED": {"up": "begin_respawn"},
    "RESPAWNED": {"respawning": "become_up"},
    "GAVE_UP": {"respawning": "become_failed"},
    "STOPPED": {"stopping": "become_down"},
    "NETWORK": {"up": "follow_network", "respawning": "follow_network"},
}
"""Where an event has an effect. Elsewhere a person's wish is refused, any other event ignored."""


@pytest.mark.parametrize("event", HEARD)
def test_an_event_has_its_effect_where_it_belongs_and_nowhere_else(event: str) -> None:
    otherwise = "refuse" if event in ("RELOAD", "SAVE") else "ignore"

    answers = {state: TABLE[state, event] for state in STATES}  # type: ignore[index]

    assert answers == {state: HEARD[event].get(state, otherwise) for state in STATES}


def test_who_wants_it_up_joins_what_is_under_way() -> None:
    assert {state: TABLE[state, "START"] for state in STATES} == {  # type: ignore[index]
        "down": "begin_start",
        "starting": "join_start",
        "up": "already_up",
        "respawning": "already_up",
        "stopping": "start_afterwards",
        "failed": "restart_failed",
    }


def test_who_wants_it_gone_stops_what_is_under_way() -> None:
    assert {state: TABLE[state, "STOP"] for state in STATES} == {  # type: ignore[index]
        "down": "stop_leftovers",
        "starting": "abort_start",
        "up": "begin_stop",
        "respawning": "begin_stop",
        "stopping": "join_stop",
        "failed": "begin_stop",
    }


def test_states_and_events_are_all_there_are() -> None:
    assert set(states.STATES) == set(STATES)
    assert set(states.EVENTS) == set(EVENTS)
    assert len(states.STATES) == len(STATES)
    assert len(states.EVENTS) == len(EVENTS)
