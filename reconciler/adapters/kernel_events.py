"""What the kernel tells by itself: memory stalls (PSI triggers), network changes (netlink) and files (inotify).

Each is a file descriptor to poll, and only means "look again". PSI: "Pressure Stall Information" of the kernel's
documentation; who has no privilege may ask for windows of multiples of two seconds. Netlink: rtnetlink(7). inotify(7)
is called through the C library; opening and reading a file is no news, so that whoever looks does not wake itself.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

PSI_FILE = "/proc/pressure/memory"
TRIGGER = b"some 150000 2000000\0"  # stalled for 150 ms within 2 s
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_LINK, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE
_BUFFER = 1 << 16
# IN_MODIFY, ATTRIB, CLOSE_WRITE, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF
_FILE_NEWS = 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800
_FOLDERS_ONLY = 0x0100_0000  # IN_ONLYDIR
_PASSING = (errno.ENOENT, errno.ENOTDIR, errno.EACCES)


def open_memory_trigger(root: str = "/") -> tuple[int, str]:
    """(descriptor, why there is none): poll the descriptor for ``POLLPRI``; -1 where no trigger can be had.

    The machine's pressure first, else that of this process's control group (version 2).
    """
    trouble = "no pressure file"
    for path in (f"{root.rstrip('/')}{PSI_FILE}", *_group_files(Path(root))):
        try:
            fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            trouble = f"{path}: {error.strerror}"
            continue
        try:
            os.write(fd, TRIGGER)
        except OSError as error:
            os.close(fd)
            trouble = f"{path}: {error.strerror}"
            continue
        return fd, ""
    return -1, trouble


def _group_files(root: Path) -> list[str]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    own = [line[3:].strip("/") for line in lines if line.startswith("0::")]
    return [str(root / "sys/fs/cgroup" / path / "memory.pressure") for path in own]


def open_network_events() -> tuple[socket.socket | None, str]:
    """(socket, why there is none): readable whenever a link, an address or a route changed; see :func:`drain`."""
    family = getattr(socket, "AF_NETLINK", None)
    if family is None:
        return None, "this system has no netlink"
    try:
        found = socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
        found.bind((0, _GROUPS))
    except OSError as error:
        return None, f"netlink: {error.strerror}"
    return found, ""


def drain(events: socket.socket) -> None:
    """Read away what has come; an overflow is news like any other."""
    while True:
        try:
            if not events.recv(_BUFFER):
                return
        except BlockingIOError:
            return
        except OSError:  # ENOBUFS: there was more than the kernel kept
            continue


def open_file_events(folders: Iterable[str]) -> tuple[int, str]:
    """(descriptor, why there is none): readable whenever an entry of these folders changed; see :func:`drain_files`.

    A folder that is gone by now or may not be read is left out.
    """
    if not sys.platform.startswith("linux"):
        return -1, "this system has no inotify"
    import ctypes  # noqa: PLC0415 -- only a watch and the doctor need it

    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0:
        return -1, f"inotify: {os.strerror(ctypes.get_errno())}"
    for folder in folders:
        watch = libc.inotify_add_watch(fd, os.fsencode(folder), _FILE_NEWS | _FOLDERS_ONLY)
        if watch < 0 and ctypes.get_errno() not in _PASSING:
            os.close(fd)
            return -1, f"inotify: {folder}: {os.strerror(ctypes.get_errno())}"
    return fd, ""


def drain_files(fd: int) -> None:
    """Read away what has come; what it says is not looked at."""
    try:
        while os.read(fd, _BUFFER):
            pass
    except BlockingIOError:
        return
