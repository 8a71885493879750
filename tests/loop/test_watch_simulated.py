"""The loop under a fake clock in a made-up world (see ``simulation``): its rules hold on every way there is.

A failing life prints its seed; ``--life SEED`` lives one of them alone, ``python tests/simulation.py SEED`` tells it.
"""

import os
import random

import pytest
from simulation import EPOCH, Life, live

from reconciler.core.errors import transient
from reconciler.watch import bell as triggers

FEW, MANY = 8, 1000
HOUR_S = 3600.0


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--life")
        # New ones in every run on a desk; in CI the same ones, as a change must not be refused for another's fault.
        first = random.Random(os.environ.get("PYTEST_XDIST_TESTRUNUID")).randrange(1 << 32)
        new = () if os.environ.get("CI") else range(first, first + FEW // 2)
        metafunc.parametrize("seed", chosen or [*range(FEW - len(new)), *new])


def test_a_life_ends_as_its_last_manifest_says_and_keeps_every_rule_on_the_way(seed):
    live(seed)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("tenth", range(10))
def test_thousands_of_lives_keep_every_rule(tenth):
    for seed in range(1000 + tenth * MANY // 10, 1000 + (tenth + 1) * MANY // 10):
        live(seed)


@pytest.mark.slow
def test_a_life_is_a_function_of_its_seed():
    first, again = live(7), live(7)
    assert first.trace == again.trace
    assert first.trace != live(8).trace


def test_an_hour_without_a_network_gives_few_passes_events_and_lines():
    life = live(1, outage_s=HOUR_S)
    models = len(life.changes[-1][1].models)
    assert models >= 3
    tried = [at for at, _, _ in life.attempts if at < HOUR_S]
    assert len(tried) <= 20 * models  # 1 s · 2ⁿ up to 15 min
    assert life.lines["action_failed"] <= 20 * models
    assert sum(life.lines.values()) <= 80 * models
    failed = [row for row in life.events_seen if row.reason == "connect_failed"]
    assert len(failed) <= models  # one line for each model, counted
    assert max(row.count for row in failed) >= 5


def test_a_network_that_comes_back_is_used_at_once():
    life = live(1, outage_s=HOUR_S)
    back = [at for at, _, _ in life.attempts if at >= HOUR_S]
    assert back
    assert back[0] <= HOUR_S + 6


class Directed(Life):
    """A life in which only that goes wrong which a test says. ``deaf_s``: how late a download sees that it is stopped."""

    def __init__(self, folder, *, deaf_s: float = 0.0) -> None:
        super().__init__(1, folder)
        self.with_chaos, self.deaf_s = False, deaf_s

    def want(self, version: int) -> None:
        self.write(self.manifest({"a": self.entry("a", version)}), is_valid=True)
        self.ring(triggers.MANIFEST)

    def _fetch(self, cancel, url: str, name: str) -> None:
        if self.deaf_s:
            self.clock.sleep(self.deaf_s)
        if cancel.is_set():
            raise transient("cancelled", "stopped")
        super()._fetch(cancel, url, name)

    def tried(self) -> list[tuple[float, str]]:
        """(moment, digest of what was wanted)."""
        return [(at, spec) for at, _, spec in self.attempts]


def test_what_a_slow_stop_kept_from_a_newer_manifest_is_begun_as_soon_as_it_is_free(tmp_path):
    life = Directed(tmp_path, deaf_s=4.0)
    life.want(0)
    life.clock.at(2.0, lambda: life.want(1))
    life.live_until(60.0)
    (first, old), (second, new) = life.tried()
    assert first < 2.0
    assert old != new
    assert first + 4.0 <= second <= first + 4.0 + 1.0, "as soon as the old download let go, not at the next full pass"
    assert life.disk.placed["a"].spec_digest == new


def test_a_clock_that_is_set_back_holds_a_retry_no_longer_than_to_the_next_full_pass(tmp_path):
    life = Directed(tmp_path)
    life.want(0)
    life.faulty["https://origin.example/models/a-0.bin"] = 1
    life.clock.at(60.0, life.faulty.clear)
    life.clock.at(60.0, lambda: setattr(life, "wall_offset", EPOCH - 2 * HOUR_S))
    life.live_until(400.0)
    assert [at for at, _ in life.tried() if at < 60.0]
    assert "a" in life.disk.placed
    assert min(at for at, _ in life.tried() if at > 60.0) <= 60.0 + 300.0 * 1.05 + 5.0
