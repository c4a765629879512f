"""`python -m wgsvc`, and what the `wgsvc` command runs."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return the exit status."""
    from wgsvc.cli import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
