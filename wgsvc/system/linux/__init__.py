"""Linux: rtnetlink, /dev/net/tun, pidfd."""
