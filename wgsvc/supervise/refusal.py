"""
What syslog is told of a file that is refused, such as at boot, where nobody sees stderr.

The command says it where it reads the files for a supervisor that is to be started, a
running supervisor where it reads them itself: once in any case.
"""

from __future__ import annotations

from wgsvc.errors import shell_word
from wgsvc.files import path_of
from wgsvc.light import TYPE_CHECKING
from wgsvc.supervise.client import interface_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wgsvc.config.model import Checked
    from wgsvc.settings import Settings

LINES_MAX = 20  # of one file


def lines(verb: str, name: str, checked: Checked, settings: Settings, who: str) -> Iterator[str]:
    """Yield a line for each error of a file that somebody wanted to use."""
    errors = checked.errors
    tunnel = interface_of(name)
    for error in errors[:LINES_MAX]:
        yield f"{tunnel}: {verb} refused: {error} ({who})"
    more = len(errors) - LINES_MAX
    if more > 0:
        cure = f"wgsvc check {shell_word(path_of(name, settings))}"
        yield f"{tunnel}: {verb} refused: and {more} more errors; {cure} ({who})"
