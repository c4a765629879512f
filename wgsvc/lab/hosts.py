"""
What the laboratory asks of an operating system that can hold several hosts.

Linux makes a host from namespaces (linux_hosts.py), FreeBSD from a VNET jail. All that
differs between them, commands and their output included, is behind this interface.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from wgsvc.lab.compare import Snapshot
from wgsvc.lab.packets import Frame

Progress = Callable[[str], None]
"""Told what is being done now."""


class Completed(NamedTuple):
    """A command that has ended, in a host. `code` is 124 when it had to be killed."""

    code: int
    output: str
    errors: str
    duration_s: float


class TableRoute(NamedTuple):
    """A line of a routing table; `prefix` as the system writes it (`default`, host without /32)."""

    prefix: str
    gateway: str  # "" if straight to an interface
    interface: str


class Capture(Protocol):
    """A running capture on one interface."""

    def read(self) -> list[Frame]:
        """Return the frames seen since the last call."""

    def dropped(self) -> int:
        """Return how many frames were lost for want of room."""

    def close(self) -> None:
        """End it."""


class Hosts(Protocol):
    """The hosts of the laboratory on one operating system."""

    platform: str

    def claim(self) -> None:
        """Make sure that this is the only lab. Raises: BusyError if there is one already."""

    def create(self, progress: Progress) -> None:
        """
        Make the hosts, their cables, addresses, default routes and configuration files.

        Call `claim` first. Raises: OSFailureError; WgsvcError with what a command said.
        """

    def remove(self) -> list[str]:
        """
        Remove all of a lab, also what an interrupted run left; return what was removed.

        A lab that is not there is success: an empty list.
        """

    def keep(self) -> None:
        """Leave the lab running when this process ends."""

    def entering(self, host: str) -> str:
        """Return the command that opens a shell in a host."""

    def run(
        self, host: str, argv: list[str], *, timeout_s: float = 20.0, text: str = ""
    ) -> Completed:
        """Run a command in a host, with `text` on its standard input."""

    def service(self, host: str, *verb: str) -> Completed:
        """Run `wgsvc VERB ...` in a host, as its administrator does."""

    def ping(self, host: str, target: str, *, pattern: bytes) -> Completed:
        """Ping once, with a pattern in the packet; 0 if the answer came."""

    def ping_text(self, target: str, *, pattern: bytes) -> str:
        """Return that ping as a person types it."""

    def capture(self, host: str, interface: str) -> Capture:
        """Start to capture on an interface of a host."""

    def addresses(self) -> dict[tuple[str, str], str]:
        """Return (host, interface) -> first IPv4 address, as the kernels have it now."""

    def routing_table(self, host: str) -> tuple[str, list[str], list[TableRoute]]:
        """Return the command that shows the IPv4 routes, its output, and the routes it lists."""

    def inside(self, host: str) -> Snapshot:
        """Return what there is in a host."""

    def outside(self) -> Snapshot:
        """Return what there is on this machine outside the hosts, and of the lab's processes."""
