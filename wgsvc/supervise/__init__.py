"""The daemon: event loop, state table, children, journal, control socket."""
