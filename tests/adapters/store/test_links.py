"""Declared links: only what is ours is replaced or removed."""

import os

import pytest

from reconciler.core.errors import Failure


@pytest.fixture
def target(bench):
    bench.store.place("m", [("f", bench.blob(b"x"))], b"", {})
    return bench.store.placed_path("m", "f")


def test_a_link_is_made_with_its_folders_and_a_second_time_nothing_is_written(bench, target, tmp_path):
    link = str(tmp_path / "app" / "models" / "f.bin")
    assert not bench.store.link_fact(link, target).is_right
    assert bench.store.make_link(target, link)
    assert os.readlink(link) == target
    assert not bench.store.make_link(target, link)
    assert bench.store.link_fact(link, target).is_right


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_somebody_else_made_is_never_replaced(bench, target, tmp_path, kind):
    link = tmp_path / "taken"
    {"file": link.touch, "folder": link.mkdir, "link": lambda: link.symlink_to("/elsewhere")}[kind]()
    with pytest.raises(Failure) as caught:
        bench.store.make_link(target, str(link), is_own=kind != "link")
    assert caught.value.reason == "link_blocked"
    fact = bench.store.link_fact(str(link), target)
    assert (fact.is_right, fact.is_foreign) == (False, True)
    assert not bench.store.remove_link(str(link))
    assert os.path.lexists(link)


def test_an_own_link_is_turned_in_one_step(bench, target, tmp_path):
    link = str(tmp_path / "f.bin")
    bench.store.make_link(bench.store.placed_path("m", "old"), link)
    assert bench.store.make_link(target, link, is_own=True)
    assert os.readlink(link) == target
    assert sorted(os.listdir(tmp_path)) == ["f.bin", "store"]


def test_only_a_link_into_this_store_is_removed(bench, target, tmp_path):
    ours, other = tmp_path / "ours", tmp_path / "other"
    bench.store.make_link(target, str(ours))
    other.symlink_to(f"{bench.root}-other/models/m/f")
    escape = tmp_path / "escape"
    escape.symlink_to(f"{bench.root}/../precious")
    assert bench.store.remove_link(str(ours))
    assert not bench.store.remove_link(str(ours))
    assert not bench.store.remove_link(str(other))
    assert not bench.store.remove_link(str(escape))
    assert sorted(os.listdir(tmp_path)) == ["escape", "other", "store"]
