"""Every way in which manifests are edited is taken up: from the last write to the first request."""

import os
import shutil
import time
from pathlib import Path

import pytest
import yaml
from watching import eventually, watching

QUICK = ("in_place", "atomic_rename", "configmap_swap")
WORST_S = 2.0


class Place:
    """Where the manifest lies and how it is reached: ``named`` is what ``-f`` says."""

    def __init__(self, machine, kind: str) -> None:
        self.machine, self.folder = machine, machine.folder / "config"
        self.folder.mkdir()
        self.named = self.folder / "models.yaml"
        self.real = self.named
        self.kind = kind

    def text(self) -> str:
        return yaml.safe_dump({**self.machine.head, "models": self.machine.models})

    def lay_out(self) -> None:
        """The first version, before the watch begins."""
        match self.kind:
            case "configmap_swap":
                self._config_map(1)
            case "symlink_retarget":
                (self.folder / "one").write_text(self.text())
                self.named.symlink_to("one")
            case "outside_symlink":
                self.real = self.machine.folder / "outside" / "models.yaml"
                self.real.parent.mkdir()
                self.real.write_text(self.text())
                self.named.symlink_to(self.real)
            case "folder_link_retarget":
                self._behind("v1")
                (self.folder / "current").symlink_to("v1")
                self.named = self.folder / "current" / "models.yaml"
            case "folder_given":
                self.named.write_text(self.text())
                self.named = self.folder
            case _:
                self.named.write_text(self.text())

    def edit(self) -> None:
        """The second version, the way this kind of edit does it."""
        getattr(self, f"_{self.kind}")()

    def _in_place(self) -> None:
        self.named.write_text(self.text())

    def _atomic_rename(self) -> None:
        fresh = self.folder / ".models.yaml.tmp"
        fresh.write_text(self.text())
        fresh.replace(self.named)

    def _editor_backup(self) -> None:  # vim: move the old one away, write a new one
        self.named.rename(self.folder / "models.yaml~")
        self.named.write_text(self.text())
        (self.folder / "models.yaml~").unlink()

    def _symlink_retarget(self) -> None:
        (self.folder / "two").write_text(self.text())
        link = self.folder / "link"
        link.symlink_to("two")
        link.replace(self.named)

    def _configmap_swap(self) -> None:
        self._config_map(2)

    def _folder_link_retarget(self) -> None:
        self._behind("v2")
        link = self.folder / "next"
        link.symlink_to("v2")
        link.replace(self.folder / "current")

    def _folder_made_again(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.named.write_text(self.text())

    def _folder_swapped(self) -> None:
        fresh = self.machine.folder / "fresh"
        fresh.mkdir()
        (fresh / "models.yaml").write_text(self.text())
        self.folder.rename(self.machine.folder / "old")
        fresh.rename(self.folder)

    def _outside_symlink(self) -> None:
        fresh = self.real.with_suffix(".new")
        fresh.write_text(self.text())
        fresh.replace(self.real)

    def _truncate_then_write(self) -> None:
        with self.named.open("w") as file:
            time.sleep(0.3)
            file.write(self.text())

    def _past_mtime(self) -> None:
        fresh = self.folder / "fresh"
        fresh.write_text(self.text())
        os.utime(fresh, (1, 1))
        fresh.replace(self.named)

    def _burst(self) -> None:
        for number in range(20):
            self.named.write_text(f"{self.text()}# {number}\n")
            time.sleep(0.01)

    def _in_pieces(self) -> None:
        text = self.text()
        with self.named.open("w") as file:
            for start in range(0, len(text), max(1, len(text) // 5)):
                file.write(text[start : start + max(1, len(text) // 5)])
                file.flush()
                time.sleep(0.03)

    def _folder_given(self) -> None:
        (self.folder / "models.yaml").write_text(self.text())

    def _config_map(self, number: int) -> None:
        """As the kubelet writes it."""
        data = self.folder / f"..2026_{number}"
        data.mkdir()
        (data / "models.yaml").write_text(self.text())
        link = self.folder / "..data_tmp"
        link.symlink_to(data.name)
        link.replace(self.folder / "..data")
        if not self.named.is_symlink():
            self.named.symlink_to("..data/models.yaml")

    def _behind(self, name: str) -> None:
        (self.folder / name).mkdir()
        (self.folder / name / "models.yaml").write_text(self.text())


KINDS = (
    "in_place",
    "atomic_rename",
    "configmap_swap",
    "editor_backup",
    "symlink_retarget",
    "folder_link_retarget",
    "folder_made_again",
    "folder_swapped",
    "outside_symlink",
    "truncate_then_write",
    "past_mtime",
    "burst",
    "in_pieces",
    "folder_given",
)


def delay_s(machine, origin, kind: str) -> float:
    """Seconds from the last write of an edit to the first request that it causes."""
    place = Place(machine, kind)
    first = machine.model("one", b"one" * 1000)
    place.lay_out()
    machine.manifest = Path(place.named)
    with watching(machine, write=False):
        eventually(lambda: machine.has("one", first))
        time.sleep(0.3)
        arrivals: list[float] = []
        origin.requests = _Timed(arrivals)
        second = machine.model("two", b"two" * 1000)
        place.edit()
        written = time.monotonic()
        eventually(lambda: arrivals, 4, kind)
        eventually(lambda: machine.has("two", second), 4)
        assert machine.has("one", first)
        return arrivals[0] - written


class _Timed(list):
    """A list that notes when something is put into it."""

    def __init__(self, arrivals: list[float]) -> None:
        super().__init__()
        self._arrivals = arrivals

    def append(self, item: object) -> None:
        self._arrivals.append(time.monotonic())
        super().append(item)


@pytest.mark.parametrize("kind", QUICK)
def test_an_edit_is_taken_up_within_two_seconds(machine, origin, kind):
    assert delay_s(machine, origin, kind) <= WORST_S


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in QUICK])
def test_a_rarer_edit_is_taken_up_within_two_seconds(machine, origin, kind):
    assert delay_s(machine, origin, kind) <= WORST_S
