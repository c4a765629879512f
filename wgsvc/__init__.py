"""WireGuard tunnels that come up, stay up and go away clean."""

# A literal: importlib.metadata costs 40 ms, and FreeBSD's ports read this line.
__version__ = "0.1.0"
