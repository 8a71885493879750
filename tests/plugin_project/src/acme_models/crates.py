"""Acme's crates: ``CRATE`` and then, for each file, a line of JSON ``[name, size]`` and its bytes."""

import hashlib
import json
import os
from collections.abc import Callable

from reconciler.core.errors import permanent
from reconciler.core.ports import CancelToken, Member


class Crate:
    name = "crate"

    def recognises(self, path: str, name: str) -> bool:
        with open(path, "rb") as file:
            return file.readline() == b"CRATE\n"

    def measure(self, path: str) -> int | None:
        return None

    def extract(
        self, path: str, into: str, *, limit_bytes: int, progress: Callable[[int], None], cancel: CancelToken
    ) -> tuple[Member, ...]:
        members = []
        with open(path, "rb") as file:
            file.readline()
            while line := file.readline():
                name, size = json.loads(line)
                data = file.read(size)
                if len(data) != size:
                    raise permanent("archive_truncated", "the crate is cut off")
                members.append(_put(into, name, data))
                progress(sum(member.size_bytes for member in members))
        return tuple(members)


def _put(into: str, name: str, data: bytes) -> Member:
    place = os.path.join(into, name)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with open(place, "wb") as file:
        file.write(data)
        os.fsync(file.fileno())
    return Member(name, len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")
