"""When a dead wireguard-go is tried again, and when no more."""

from __future__ import annotations

from wgsvc.supervise.respawn import DEATHS_LIMIT, DEATHS_WINDOW_S, LONGEST_DELAY_S, Deaths


def test_the_first_death_is_answered_at_once_and_each_more_takes_twice_as_long() -> None:
    deaths, delays = Deaths(), []
    for _ in range(DEATHS_LIMIT):
        deaths.note(100.0)
        delays.append(deaths.delay_s(100.0))

    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8]


def test_more_than_five_in_a_minute_are_too_many() -> None:
    deaths = Deaths()
    for second in range(DEATHS_LIMIT):
        deaths.note(float(second))
    assert not deaths.too_many(5.0)

    deaths.note(5.0)

    assert deaths.too_many(5.0)
    assert deaths.recent(5.0) == len(deaths) == 6


def test_old_deaths_are_forgotten_but_counted() -> None:
    deaths = Deaths()
    for minute in range(20):
        deaths.note(minute * DEATHS_WINDOW_S)
        assert not deaths.too_many(minute * DEATHS_WINDOW_S)
        assert deaths.delay_s(minute * DEATHS_WINDOW_S) == 0.0

    assert len(deaths) == 20


def test_no_delay_is_longer_than_the_longest() -> None:
    deaths = Deaths()
    for _ in range(50):
        deaths.note(0.0)

    assert 0 < deaths.delay_s(0.0) <= LONGEST_DELAY_S
