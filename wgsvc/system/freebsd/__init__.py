"""FreeBSD: if_tuntap, ioctls, the routing socket, kqueue."""
