"""
The life of a tunnel as a table: every state, every event, one answer each.

                 START                          STARTED
        DOWN ------------> STARTING ------------------------> UP
         ^  ^                 |  STOP, START_FAILED          |  ^
         |  +-----------------+                    DAEMON_DIED  | RESPAWNED
         | STOPPED                                           v  |
      STOPPING <---------- STOP ------------------------- RESPAWNING
         ^                                                   |
         +---- STOP ---- FAILED <----------- GAVE_UP --------+

The table names methods of `Tunnel`; a test holds that it is total.
"""

from __future__ import annotations

from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

    State = Literal["down", "starting", "up", "respawning", "stopping", "failed"]
    Event = Literal[
        "START",  # somebody wants it up
        "STOP",  # somebody wants it gone
        "RELOAD",  # somebody wants it equal to its file
        "SAVE",  # somebody wants its file equal to it
        "STARTED",  # bring_up is done
        "START_FAILED",  # bring_up failed, everything is rolled back
        "DAEMON_DIED",  # wireguard-go ended, and it was not us
        "RESPAWNED",  # it is back on the held tun
        "GAVE_UP",  # it died too often, or can't be started again
        "STOPPED",  # take_down is done
        "NETWORK",  # a route, an address or a link changed
    ]

TABLE: dict[tuple[State, Event], str] = {
    ("down", "START"): "begin_start",
    ("down", "STOP"): "stop_leftovers",
    ("down", "RELOAD"): "refuse",
    ("down", "SAVE"): "refuse",
    ("down", "STARTED"): "ignore",
    ("down", "START_FAILED"): "ignore",
    ("down", "DAEMON_DIED"): "ignore",
    ("down", "RESPAWNED"): "ignore",
    ("down", "GAVE_UP"): "ignore",
    ("down", "STOPPED"): "ignore",
    ("down", "NETWORK"): "ignore",
    ("starting", "START"): "join_start",
    ("starting", "STOP"): "abort_start",
    ("starting", "RELOAD"): "refuse",
    ("starting", "SAVE"): "refuse",
    ("starting", "STARTED"): "become_up",
    ("starting", "START_FAILED"): "become_down",
    ("starting", "DAEMON_DIED"): "ignore",  # bring_up notices by itself
    ("starting", "RESPAWNED"): "ignore",
    ("starting", "GAVE_UP"): "ignore",
    ("starting", "STOPPED"): "ignore",
    ("starting", "NETWORK"): "ignore",  # facts are read once more when it is up
    ("up", "START"): "already_up",
    ("up", "STOP"): "begin_stop",
    ("up", "RELOAD"): "begin_reload",
    ("up", "SAVE"): "begin_save",
    ("up", "STARTED"): "ignore",
    ("up", "START_FAILED"): "ignore",
    ("up", "DAEMON_DIED"): "begin_respawn",
    ("up", "RESPAWNED"): "ignore",
    ("up", "GAVE_UP"): "ignore",
    ("up", "STOPPED"): "ignore",
    ("up", "NETWORK"): "follow_network",
    ("respawning", "START"): "already_up",
    ("respawning", "STOP"): "begin_stop",
    ("respawning", "RELOAD"): "refuse",
    ("respawning", "SAVE"): "refuse",
    ("respawning", "STARTED"): "ignore",
    ("respawning", "START_FAILED"): "ignore",
    ("respawning", "DAEMON_DIED"): "ignore",  # the respawn procedure counts its own
    ("respawning", "RESPAWNED"): "become_up",
    ("respawning", "GAVE_UP"): "become_failed",
    ("respawning", "STOPPED"): "ignore",
    ("respawning", "NETWORK"): "follow_network",
    ("stopping", "START"): "start_afterwards",
    ("stopping", "STOP"): "join_stop",
    ("stopping", "RELOAD"): "refuse",
    ("stopping", "SAVE"): "refuse",
    ("stopping", "STARTED"): "ignore",
    ("stopping", "START_FAILED"): "become_down",  # an aborted start is rolled back
    ("stopping", "DAEMON_DIED"): "ignore",
    ("stopping", "RESPAWNED"): "ignore",
    ("stopping", "GAVE_UP"): "ignore",
    ("stopping", "STOPPED"): "become_down",
    ("stopping", "NETWORK"): "ignore",
    ("failed", "START"): "restart_failed",
    ("failed", "STOP"): "begin_stop",
    ("failed", "RELOAD"): "refuse",
    ("failed", "SAVE"): "refuse",
    ("failed", "STARTED"): "ignore",
    ("failed", "START_FAILED"): "ignore",
    ("failed", "DAEMON_DIED"): "ignore",
    ("failed", "RESPAWNED"): "ignore",
    ("failed", "GAVE_UP"): "ignore",
    ("failed", "STOPPED"): "ignore",
    ("failed", "NETWORK"): "ignore",
}

STATES: tuple[State, ...] = tuple(dict.fromkeys(state for state, _ in TABLE))
EVENTS: tuple[Event, ...] = tuple(dict.fromkeys(event for _, event in TABLE))
