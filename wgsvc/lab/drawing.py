"""
The drawing of the network, with the addresses that the hosts really have.

Placeholders stand in a fixed picture; each is replaced by what was read, in the width
the picture gives it, so that a missing address is seen as missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Addresses = Mapping[tuple[str, str], str]
"""(host, interface) -> its first address, without the prefix length."""

MISSING = "(no address)"

# {a}..{j} are addresses: letters right of a line are left-aligned, the others right-aligned.
_PICTURE = """\
  site 1      ┌─────────┐ vri1_vpnr1                vri1_vpnh1 ┌─────────┐
              │  vpnr1  ├─────────────── vri1br ───────────────┤  vpnh1  │
              └─┬─────╥─┘ {c          }          {d          } └─────────┘
      vi1_vpnr1 │     ║ wg0
  {a          } │     ║ {b          }
                │     ║
              vi1br   ║
                │     ║
  {e          } │     ║
         vi1_r1 │     ║
            ┌───┴──┐  ║  WireGuard
  internet  │  r1  │  ║  UDP {u  }
            └───┬──┘  ║
         vi2_r1 │     ║
  {f          } │     ║
                │     ║
              vi2br   ║
                │     ║
  {g          } │     ║ {h          }
      vi2_vpnr2 │     ║ wg0
              ┌─┴─────╨─┐ {i          }          {j          } ┌─────────┐
              │  vpnr2  ├─────────────── vri2br ───────────────┤  vpnh2  │
  site 2      └─────────┘ vri2_vpnr2                vri2_vpnh2 └─────────┘
"""

_LEFT_ALIGNED = {
    "b": ("vpnr1", "wg0"),
    "c": ("vpnr1", "vri1_vpnr1"),
    "h": ("vpnr2", "wg0"),
    "i": ("vpnr2", "vri2_vpnr2"),
}
_RIGHT_ALIGNED = {
    "a": ("vpnr1", "vi1_vpnr1"),
    "d": ("vpnh1", "vri1_vpnh1"),
    "e": ("r1", "vi1_r1"),
    "f": ("r1", "vi2_r1"),
    "g": ("vpnr2", "vi2_vpnr2"),
    "j": ("vpnh2", "vri2_vpnh2"),
}
_HOLE = "{{{}          }}"
_ASCII = str.maketrans("┌┐└┘┬┴├┤╥╨─│║", "++++++++++-|#")
_TUNNEL_MARKS = ("║", "╥", "╨")


def draw(
    addresses: Addresses,
    port: int,
    *,
    unicode: bool = True,
    paint: Callable[[str, str], str] | None = None,
) -> list[str]:
    """
    Return the lines of the drawing.

    `paint(text, role)` colours a piece; roles are `host` and `tunnel`.
    """
    text = _PICTURE
    for letter, where in _LEFT_ALIGNED.items():
        hole = _HOLE.format(letter)
        text = text.replace(hole, addresses.get(where, MISSING).ljust(len(hole)))
    for letter, where in _RIGHT_ALIGNED.items():
        hole = _HOLE.format(letter)
        text = text.replace(hole, addresses.get(where, MISSING).rjust(len(hole)))
    text = text.replace("{u  }", str(port).ljust(5))
    lines = [line.rstrip() for line in text.splitlines()]
    if paint is not None:
        lines = [_painted(line, paint) for line in lines]
    if not unicode:
        lines = [line.translate(_ASCII) for line in lines]
    return lines


def _painted(line: str, paint: Callable[[str, str], str]) -> str:
    for host in ("vpnr1", "vpnr2", "vpnh1", "vpnh2", "r1"):
        line = line.replace(f" {host} ", f" {paint(host, 'host')} ")
    for mark in (*_TUNNEL_MARKS, "WireGuard"):
        line = line.replace(mark, paint(mark, "tunnel"))
    return line
