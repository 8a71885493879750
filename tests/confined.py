"""Runs a command under the restrictions of a systemd unit, as far as they can be had without systemd. Needs root.

``python confined.py UNIT STORE -- COMMAND...``: a mount namespace where everything but the store is read-only and
``/dev`` holds five harmless devices, no capability, no new privileges, and a seccomp filter made of the
unit's own ``SystemCallFilter``, ``RestrictAddressFamilies``, ``RestrictNamespaces`` and ``MemoryDenyWriteExecute``. The
sets of system calls are those of the installed systemd.
"""

import ctypes
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

NUMBERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NR, ARG0, ARG2 = 0, 16, 32
PROT_WRITE_EXEC = 0x2 | 0x4
NAMESPACES = 0x7E020080
libc = ctypes.CDLL(None, use_errno=True)


def directives(unit: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", Path(unit).read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def calls_of(names: list[str]) -> set[str]:
    """Sets and names of system calls, sets opened."""
    found: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        lines = subprocess.run(
            ["systemd-analyze", "--no-pager", "syscall-filter", name], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        found |= calls_of([line.strip() for line in lines[1:] if line.strip() and not line.strip().startswith("#")])
    return found


def allowed(unit: dict[str, list[str]]) -> list[int]:
    calls: set[str] = set()
    for line in unit["SystemCallFilter"]:
        words = calls_of(line.removeprefix("~").split())
        calls = calls - words if line.startswith("~") else calls | words
    table = dict(re.findall(r"__NR_(\w+) (\d+)", NUMBERS.read_text()))
    return sorted(int(table[name]) for name in calls if name in table)


def program(unit: dict[str, list[str]]) -> bytes:
    """The filter as BPF: special calls first, then the list, then EPERM."""
    steps: list[tuple[int, int, int, int]] = []

    def when(number: int, *body: tuple[int, int, int, int]) -> None:
        steps.extend([(LOAD, 0, 0, NR), (EQUAL, 0, len(body), number), *body])

    families = [FAMILIES[name] for name in unit["RestrictAddressFamilies"][0].split()]
    answers = [(EQUAL, len(families) - index, 0, family) for index, family in enumerate(families)]
    when(41, (LOAD, 0, 0, ARG0), *answers, (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW))  # socket
    for number in (9, 10):  # mmap, mprotect: nothing that is writable and executable
        forbidden = PROT_WRITE_EXEC if number == 9 else 0x4
        when(
            number,
            (LOAD, 0, 0, ARG2),
            (0x54, 0, 0, forbidden),
            (EQUAL, 0, 1, forbidden),
            (RETURN, 0, 0, EPERM),
            (RETURN, 0, 0, ALLOW),
        )
    when(56, (LOAD, 0, 0, ARG0), (ANY_BIT, 0, 1, NAMESPACES), (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW))  # clone
    when(435, (RETURN, 0, 0, ENOSYS))  # clone3
    steps.append((LOAD, 0, 0, NR))
    for number in allowed(unit):
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    steps.append((RETURN, 0, 0, EPERM))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def must(code: int) -> None:
    if code != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(*arguments: str) -> None:
    subprocess.run(["mount", "-n", *arguments], check=True)


def main() -> None:
    unit, store, command = directives(sys.argv[1]), sys.argv[2], sys.argv[4:]
    code = program(unit)
    must(libc.unshare(0x00020000))
    mount("--make-rprivate", "/")
    mount("--bind", store, store)
    mount("-o", "remount,ro,bind", "/")
    mount("-t", "tmpfs", "-o", "size=64k,nosuid,noexec", "tmpfs", "/mnt")
    for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
        os.mknod(f"/mnt/{name}", 0o20666, os.makedev(1, minor))
        Path(f"/mnt/{name}").chmod(0o666)
    os.symlink("/proc/self/fd", "/mnt/fd")
    mount("--move", "/mnt", "/dev")
    for capability in range(41):
        libc.prctl(24, capability, 0, 0, 0)  # out of the bounding set: the command has none
    must(libc.prctl(38, 1, 0, 0, 0))  # no new privileges
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    must(libc.prctl(22, 2, header, 0, 0))  # the filter
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
