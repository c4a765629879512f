"""One run of the laboratory: make the network, check, remove; whatever happens in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from wgsvc.errors import OSFailureError, WgsvcError
from wgsvc.lab import checks as all_checks
from wgsvc.lab import network, pcap
from wgsvc.lab.check import Check
from wgsvc.lab.checks import Trial
from wgsvc.lab.drawing import draw
from wgsvc.lab.report import Report, as_json

if TYPE_CHECKING:
    from wgsvc.lab.hosts import Hosts
    from wgsvc.lab.packets import Frame

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedRunError(WgsvcError):
    """Somebody told the lab to end; everything was removed."""

    kind = "interrupted"

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(number).name}; the lab was removed")
        self.exit_code = 128 + number


@contextmanager
def signals_end_the_run() -> Iterator[Callable[[], None]]:
    """Turn signals into InterruptedRunError; yield what shuts them out during removal."""

    def interrupt(number: int, _frame: object) -> NoReturn:
        shut_out()
        raise InterruptedRunError(number)

    def shut_out() -> None:
        for one in _SIGNALS:
            signal.signal(one, signal.SIG_IGN)

    old = {one: signal.signal(one, interrupt) for one in _SIGNALS}
    try:
        yield shut_out
    finally:
        for one, handler in old.items():
            signal.signal(one, handler)


class Session:
    """
    A run of the lab.

    `capture_dir` is where pcap files go, "" for nowhere; `keep` leaves the network up.
    `show` is how much is written: `all`, `table` or `nothing` (the report is all there is).
    """

    def __init__(
        self, hosts: Hosts, report: Report, *, keep: bool, capture_dir: str, show: str
    ) -> None:
        self._hosts = hosts
        self._report = report
        self._keep = keep
        self._capture_dir = capture_dir
        self._show = show
        self._saved: list[str] = []
        self._checks: list[Check] = []
        self._addresses: dict[tuple[str, str], str] = {}

    def run(self) -> dict[str, Any]:
        """
        Run all checks; return the report.

        Raises: whatever made it impossible; the network is removed by then, also on a signal.
        """
        if self._capture_dir:
            try:
                os.makedirs(self._capture_dir, exist_ok=True)
            except OSError as error:
                raise OSFailureError("mkdir", self._capture_dir, error.errno or 0) from None
        self._hosts.claim()  # not below: a lab that is not ours must not be removed
        before = self._hosts.outside()
        entering: dict[str, str] = {}
        with signals_end_the_run() as shut_out:
            try:
                try:
                    self._hosts.create(self._report.doing)
                    self._examine()
                    if self._keep:
                        entering = self._leave_up()
                finally:
                    shut_out()  # inside: a signal that gets in before it can't skip what follows
            finally:
                if not entering:
                    self._report.doing("removing the network")
                    self._hosts.remove()
                self._report.settle()
        if not entering:
            self._add(all_checks.nothing_left_outside(before, self._hosts.outside()))
        if self._show != "nothing":
            self._report.table(self._checks)
        return as_json(
            self._hosts.platform,
            self._addresses,
            self._checks,
            captures=self._saved,
            entering=entering,
        )

    def _examine(self) -> None:
        trial = Trial(self._hosts, self._save)
        self._report.doing(f"starting {network.TUNNEL} in {' and '.join(network.VPN_ROUTERS)}")
        started = all_checks.starts(trial)
        self._addresses = self._hosts.addresses()
        if self._show == "all":
            self._draw()
        self._add(started)
        for what, check in all_checks.SEQUENCE:
            self._report.doing(what)
            try:
                found = check(trial)
            except InterruptedRunError:
                raise
            except WgsvcError as error:
                found = Check(what, passed=False, measured=error.message)
            for one in found if isinstance(found, list) else [found]:
                self._add(one)

    def _add(self, check: Check) -> None:
        self._checks.append(check)
        if self._show == "all":
            self._report.check(check)

    def _draw(self) -> None:
        self._report.line()
        paint = self._report.paint
        for text in draw(self._addresses, network.PORT, unicode=self._report.unicode, paint=paint):
            self._report.line(text)
        self._report.line()
        self._report.line(
            "  Five hosts on this machine. wg0 joins the two sites; r1 plays the internet"
        )
        self._report.line("  between them, and reads along.")

    def _save(self, name: str, frames: list[Frame]) -> None:
        if self._capture_dir:
            path = os.path.join(self._capture_dir, f"{name}.pcap")
            try:
                pcap.write(path, frames)
            except OSError as error:
                raise OSFailureError("write", path, error.errno or 0) from None
            self._saved.append(path)

    def _leave_up(self) -> dict[str, str]:
        """Start the tunnels again, which the checks have stopped, and leave all of it."""
        self._report.doing(f"starting {network.TUNNEL} again")
        again = all_checks.starts(Trial(self._hosts))
        self._add(again._replace(name=f"{again.name} again"))
        entering = {host: self._hosts.entering(host) for host in network.HOSTS}
        self._hosts.keep()
        return entering
