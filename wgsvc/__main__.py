"""`python -m wgsvc`, and what the `wgsvc` command runs."""

from __future__ import annotations

import gc
import os
import sys

from wgsvc.light import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> int:
    """Run the command line; return the exit status."""
    gc.disable()  # 1 ms of a start; the daemon, which lives on, enables it again
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        _open_standard()
    from wgsvc.cli import run

    return run(sys.argv[1:])


def _open_standard() -> None:
    """Put /dev/null where a standard descriptor is closed, before a socket gets its number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115 - for good
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def leave(status: int) -> NoReturn:
    """End here and now: taking the interpreter apart is 2 ms of which nobody has anything."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:  # a full disk, or a reader that has gone
        status = status or 1
    os._exit(status)


if __name__ == "__main__":
    leave(main())
