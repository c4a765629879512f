"""What differs between the FreeBSD kernels that the model can be."""

from __future__ import annotations

from typing import NamedTuple


class Flavour(NamedTuple):
    """A kernel. The words are those of the facts it was written from, row by row."""

    name: str
    osreldate: int
    cloner_in_every_vnet: bool  # 12.0: the host's only, so a jail's renamed tun can't be destroyed
    moved_in_destroy: str  # a tun made on the host, destroyed in a jail: by-name, ENXIO, works
    same_name_rename: bool  # 12.0: EEXIST, it finds itself
    knows_its_name: bool  # TUNGIFNAME
    alias_on_rename: bool  # /dev/wg0
    transient: bool  # TUNSTRANSIENT
    lock_around_destroy: bool  # every other destroy on the host waits behind one
    second_open_same_process: bool
    status_is_safe: bool  # SIOCGIFSTATUS while a tun goes away
    says_overflow: bool  # SO_RERROR
    multipath: bool
    blackhole_by_loopback: bool  # lo0's address is put in as gateway, and must be there
    kernel_wg: bool
    boot_id: bool
    peer_pid: bool
    first_address_says_up: bool  # an IFINFO follows the first address on a tun


FLAVOURS = {
    "12.0": Flavour(
        name="12.0",
        osreldate=1200086,
        cloner_in_every_vnet=False,
        moved_in_destroy="by-name",
        same_name_rename=False,
        knows_its_name=False,
        alias_on_rename=False,
        transient=False,
        lock_around_destroy=False,
        second_open_same_process=True,
        status_is_safe=False,
        says_overflow=False,
        multipath=False,
        blackhole_by_loopback=False,
        kernel_wg=False,
        boot_id=False,
        peer_pid=False,
        first_address_says_up=False,
    ),
    "13.2": Flavour(
        name="13.2",
        osreldate=1302001,
        cloner_in_every_vnet=True,
        moved_in_destroy="ENXIO",
        same_name_rename=True,
        knows_its_name=True,
        alias_on_rename=True,
        transient=False,
        lock_around_destroy=True,
        second_open_same_process=False,
        status_is_safe=True,
        says_overflow=True,
        multipath=True,
        blackhole_by_loopback=True,
        kernel_wg=True,
        boot_id=True,
        peer_pid=True,
        first_address_says_up=False,
    ),
    "15": Flavour(
        name="15",
        osreldate=1501502,
        cloner_in_every_vnet=True,
        moved_in_destroy="works",
        same_name_rename=True,
        knows_its_name=True,
        alias_on_rename=True,
        transient=True,
        lock_around_destroy=True,
        second_open_same_process=False,
        status_is_safe=True,
        says_overflow=True,
        multipath=True,
        blackhole_by_loopback=True,
        kernel_wg=True,
        boot_id=True,
        peer_pid=True,
        first_address_says_up=True,
    ),
}
