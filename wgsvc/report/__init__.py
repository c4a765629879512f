"""One snapshot of all tunnels, rendered as table, JSON or Prometheus text."""
