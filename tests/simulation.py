"""A whole life of the watch under a fake clock, in a made-up world, drawn from one seed.

Real: the loop, the rounds, the bell's order, the agenda, the manifest's reader, claims and passes, planner, scheduler
of actions, retry table, ledger. Made up: the clock, the disk, the origins and what is heard of them; and everything
goes wrong that may: rings are lost, repeated and late, looks are stale, origins and network fail, files are harmed,
manifests are invalid or vanish, the wall clock is set, and the machine loses power at any step.

``python tests/simulation.py SEED`` tells one life step by step.
"""

import contextlib
import random
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import yaml
from fibers import Clock, Crash, Pool, wait

from reconciler.adapters import manifest
from reconciler.adapters.ledger import Ledger
from reconciler.adapters.manifest import Document
from reconciler.adapters.store import Store, StoreScan
from reconciler.core.actions import ActionKind
from reconciler.core.desired import DesiredState
from reconciler.core.digests import digest_bytes
from reconciler.core.errors import permanent, transient
from reconciler.core.observed import DiskFacts, MemoryFacts, ObservedState
from reconciler.core.plan import plan as decide
from reconciler.core.stored import FileStat, StoredFile, StoredModel, StoreFacts
from reconciler.core.words import Condition, WantedState
from reconciler.execute import run as execution
from reconciler.execute.claims import ModelToken
from reconciler.execute.work import Done, Work
from reconciler.log import Level, get_log
from reconciler.observe import Sight
from reconciler.planning import Pass
from reconciler.watch import bell as triggers
from reconciler.watch.agenda import Agenda
from reconciler.watch.bell import Bell
from reconciler.watch.daemon import Daemon
from reconciler.watch.inputs import QUIET_S, Reading
from reconciler.watch.parts import Parts
from reconciler.watch.passes import specs
from reconciler.world import World

NAMES = ("a", "b", "c", "d", "e", "f")
SIZE = 1_000_000
EPOCH = 1_800_000_000.0
CHAOS_S, HEALED_S, QUIET_END_S = 180.0, 1500.0, 600.0
TAKEN_UP_S = 2.0 + 1.0  # a round, the quiet reads, and what is given up
STARTED_S = 5.0
PASSES_A_MINUTE, PASSES_PER_EVENT = 40, 8
ATTEMPTS_IN_QUIET = 3


@dataclass
class Disk:
    """What lies in the store: the placed revision of each model, and the harm done to it."""

    placed: dict[str, StoredModel] = field(default_factory=dict)
    changes: int = 0  # what a stat of everything would show

    def put(self, model: StoredModel) -> None:
        self.placed[model.name] = model
        self.changes += 1

    def drop(self, name: str) -> None:
        self.placed.pop(name, None)
        self.changes += 1

    def harm(self, name: str, condition: Condition) -> None:
        model = self.placed[name]
        file = replace(model.files[0], condition=condition)
        if condition is Condition.MISSING:
            file = replace(file, allocated_bytes=0)
        self.put(replace(model, files=(file,)))


class Life:
    """One seed's life. ``trace`` tells it; a broken rule raises with the seed."""

    def __init__(self, seed: int, folder: Path, *, outage_s: float = 0.0, verbose: bool = False) -> None:
        """Args: outage_s: instead of everything that goes wrong, no network for so long from the beginning."""
        self.seed, self.folder, self.verbose = seed, folder, verbose
        self.random = random.Random(seed)
        self.with_chaos, self.outage_s = not outage_s, outage_s
        self.clock, self.disk = Clock(), Disk()
        self.wall_offset = EPOCH
        self.trace: list[str] = []
        self.disks: list[dict[str, StoredModel]] = []  # for stale looks
        self.text: bytes | None = None
        self.valid: bytes = b""
        self.is_online, self.is_poisoned = not outage_s, set()
        self.faulty: Counter[str] = Counter()  # origins that answer 503, by URL
        self.heals: Counter[str] = Counter()
        self.attempts: list[tuple[float, str, str]] = []  # moment, model, spec
        self.active: dict[tuple[str, str], int] = {}
        self.starts: list[float] = []  # of passes
        self.events: list[tuple[float, str]] = []
        self.changes: list[tuple[float, DesiredState]] = []  # valid manifests
        self.daemon: Daemon | None = None
        self.is_crashing = False
        self.guarded: list[float] = []  # when plans were made while suspended
        self.end_at = 0.0
        self.lines: Counter[str] = Counter()  # of the log, by event
        self.events_seen: tuple = ()  # of the ledger, at the end

    # --- telling ---------------------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        self.trace.append(f"{self.clock.now:9.2f} {text}")
        if self.verbose:
            print(self.trace[-1])

    def require(self, is_kept: object, rule: str) -> None:
        if not is_kept:
            tail = "\n".join(self.trace[-60:])
            raise AssertionError(f"seed {self.seed} at {self.clock.now:.2f} s: {rule}\n{tail}")

    # --- the made-up world -----------------------------------------------------------------------------------------

    def wall(self) -> float:
        return self.clock.now + self.wall_offset

    def manifest(self, models: dict[str, dict]) -> bytes:
        head = {
            "apiVersion": "reconciler/v1",
            "cache": {"maxSize": "1GB", "minFreeSpace": "1MB", "maxEvictions": "100%", "retention": "never"},
        }
        return yaml.safe_dump({**head, "models": models}).encode()

    def entry(self, name: str, version: int, **keys: object) -> dict:
        path = f"/models/{name}-{version}.bin"
        return {
            "files": [
                {
                    "path": f"{name}.bin",
                    "source": f"https://origin.example{path}",
                    "sha256": digest_bytes(path.encode()).removeprefix("sha256:"),
                    "size": SIZE,
                }
            ],
            **keys,
        }

    def draw_manifest(self) -> bytes:
        chosen = [name for name in NAMES if self.random.random() < 0.7]
        models: dict[str, dict] = {}
        for name in chosen:
            entry = self.entry(name, self.random.randrange(3), priority=self.random.choice(("low", "normal", "high")))
            models[name] = {"state": "absent"} if self.random.random() < 0.08 else entry
        return self.manifest(models)

    def write(self, text: bytes | None, *, is_valid: bool) -> None:
        self.text = text
        if is_valid and text is not None:
            self.valid = text
            desired = self.desired_of(text)
            self.changes.append((self.clock.now, desired))
            self.note(f"manifest { ({name: spec[7:13] for name, spec in specs(desired).items()}) }")
        else:
            self.note(f"manifest {'gone' if text is None else 'invalid'}")

    def desired_of(self, text: bytes) -> DesiredState:
        return manifest.load_documents((Document("models.yaml", text, "/", "/models.yaml"),), {})

    def look(self, ledger: Ledger) -> tuple[ObservedState, object]:
        """What a pass sees: the ledger now, the disk now or a little ago."""
        facts = ledger.snapshot()
        placed = self.disk.placed
        if self.with_chaos and self.disks and self.random.random() < 0.2:
            placed = self.random.choice(self.disks[-3:])
        self.disks = [*self.disks[-5:], dict(self.disk.placed)]
        models = tuple(placed[name] for name in sorted(placed))
        used = sum(file.allocated_bytes for model in models for file in model.files)
        failures = tuple(
            replace(row.fact, source_changed=row.fact.kind == "permanent" and row.fact.model not in self.is_poisoned)
            for row in facts.failures
        )
        observed = ObservedState(
            taken_at=self.wall(),
            store=StoreFacts(models=models, used_bytes=used, path=str(self.folder)),
            disk=DiskFacts(10**12, 10**12 - used),
            memory=MemoryFacts(16 << 30, 12 << 30),
            failures=failures,
            overrides=facts.overrides,
            suspended_until=facts.meta.suspended_until,
        )
        return observed, facts

    def plan_pass(self, _world, desired, ledger, request=None, *, offline=False, asker=None) -> Pass:
        """In place of :func:`reconciler.planning.plan_pass`: the same decision, on what the made-up world shows."""
        del asker
        observed, facts = self.look(ledger)
        if not offline:
            self.clock.sleep(self.random.uniform(0.005, 0.3))
        plan = decide(desired, observed, request) if request else decide(desired, observed)
        if not offline:
            self.starts.append(self.clock.now)
            self.note(
                f"plan {'guarded ' * bool(plan.guards)}{[action.id for action in plan.actions]} deferred {[d.model for d in plan.deferred]}"
            )
        if observed.suspended_until is not None and observed.suspended_until > observed.taken_at:
            self.guarded.append(self.clock.now)
            self.require(plan.guards or not plan.actions, "a plan made while suspended does nothing")
        return Pass(desired, Sight(StoreScan(), facts, observed), plan)

    # --- what actions do -------------------------------------------------------------------------------------------

    def download(self, action, work: Work) -> Done:
        model = work.models[action.model]
        spec = str(model.spec_digest)
        mark = (model.name, spec)
        url = model.artifacts[0].sources[0]
        self.attempts.append((self.clock.now, *mark))
        self.note(f"fetch {model.name} {spec[7:13]}")
        self.active[mark] = self.active.get(mark, 0) + 1
        self.require(self.active[mark] == 1, f"two at once fetch {model.name}")
        try:
            self._fetch(work.cancel_of(model.name), url, model.name)
        finally:
            self.active.pop(mark, None)
        self._place(model)
        self.clock.sleep(self.random.choice((0.0, 0.001, 0.05)))  # a crash may fall between disk and ledger
        return Done(SIZE, network_bytes=SIZE)

    def _fetch(self, cancel, url: str, name: str) -> None:
        end = self.clock.now + self.random.choice((0.02, 0.3, 1.0, 4.0, 20.0) if self.with_chaos else (0.05, 0.5))
        while True:
            if cancel.is_set():
                self.note(f"cancelled {name}")
                raise transient("cancelled", "stopped")
            if not self.is_online:
                self.clock.sleep(0.4)
                raise transient("connect_failed", "cannot reach origin.example")
            if self.faulty[url]:
                raise transient("http_503", "origin.example answers 503")
            if name in self.is_poisoned:
                raise permanent("http_404", "origin.example has no such file")
            if self.clock.now >= end:
                return
            self.clock.sleep(min(0.25, end - self.clock.now))

    def _place(self, model) -> None:
        file = model.artifacts[0]
        stat = FileStat(1, self.disk.changes + 1, SIZE, 5)
        stored = StoredFile(file.path, file.digest, SIZE, SIZE, Condition.INTACT, file.role, stat)
        known = self.disk.placed.get(model.name)
        pinned = known.pinned if known else False
        self.disk.put(StoredModel(model.name, model.spec_digest, (stored,), pinned=pinned, installed_at=self.wall()))
        self.note(f"placed {model.name} {model.spec_digest[7:13]}")

    def mend(self, action, _work: Work) -> Done:
        """``link`` and ``verify``: what needs no network."""
        self.clock.sleep(self.random.choice((0.01, 0.2)))
        found = self.disk.placed.get(action.model)
        if found is None:
            return Done(is_skipped=True)
        if found.files[0].condition in {Condition.UNPLACED, Condition.UNVERIFIED}:
            self.disk.harm(action.model, Condition.INTACT)
        return Done()

    def evict(self, action, work: Work) -> Done:
        self.clock.sleep(0.01)
        found = self.disk.placed.get(action.model)
        if found is None or found.spec_digest != action.spec_digest:
            return Done(is_skipped=True)
        wanted = work.models.get(action.model)
        self.require(wanted is None or wanted.state is WantedState.ABSENT, f"{action.model} is wanted and was evicted")
        self.disk.drop(action.model)
        self.note(f"evicted {action.model}")
        return Done(SIZE)

    def handlers(self) -> dict:
        return {
            ActionKind.DOWNLOAD: self.download,
            ActionKind.LINK: self.mend,
            ActionKind.VERIFY: self.mend,
            ActionKind.EVICT: self.evict,
        }

    # --- what goes wrong -------------------------------------------------------------------------------------------

    def plan_chaos(self) -> None:
        kinds = ("manifest",) * 6 + ("origin",) * 4 + ("harm",) * 5 + ("network",) * 3 + ("crash",) * 3
        kinds += ("invalid", "vanish", "suspend", "resume", "resume", "poke", "rings", "clock", "poison")
        for _ in range(self.random.randrange(5, 40)):
            moment = self.random.uniform(1.0, CHAOS_S)
            kind = self.random.choice(kinds)
            self.clock.at(moment, lambda kind=kind: self.happen(kind))

    def happen(self, kind: str) -> None:
        self.events.append((self.clock.now, kind))
        match kind:
            case "manifest":
                self.write(self.draw_manifest(), is_valid=True)
                self.ring(triggers.MANIFEST)
            case "invalid":
                self.write(self.random.choice((b"", b"models: [", b"apiVersion: reconciler/v1\n")), is_valid=False)
                self.ring(triggers.MANIFEST)
            case "vanish":
                self.write(None, is_valid=False)
                self.ring(triggers.MANIFEST)
            case "origin":
                url = f"https://origin.example/models/{self.random.choice(NAMES)}-{self.random.randrange(3)}.bin"
                self.faulty[url] = int(not self.faulty[url])
            case "poison":
                self.is_poisoned ^= {self.random.choice(NAMES)}
            case "network":
                self.is_online = not self.is_online
            case "harm" if self.disk.placed:
                name = self.random.choice(sorted(self.disk.placed))
                condition = self.random.choice((Condition.MISSING, Condition.UNPLACED, Condition.UNVERIFIED))
                self.disk.harm(name, condition)
                self.note(f"harm {name} {condition.value}")
            case "suspend" | "resume" | "poke":
                self._by_hand(kind)
            case "rings":
                for _ in range(self.random.randrange(1, 50)):
                    self.ring(self.random.choice((triggers.MANIFEST, triggers.ENDED, triggers.RELEASED, triggers.GIT)))
            case "clock":
                self.wall_offset += self.random.choice((-3600.0, -5.0, 5.0, 3600.0))
            case "crash":
                self.is_crashing = True
        self.note(kind)

    def _by_hand(self, kind: str) -> None:
        if self.daemon is None:
            return
        meta = self.daemon.ledger.meta
        if kind == "suspend":
            meta.suspend(self.wall() + self.random.uniform(1, 60) if self.random.random() < 0.5 else float("inf"))
        elif kind == "resume":
            meta.resume()
        else:
            self.daemon.ledger.clear_failure()
        self.daemon.bell.ring(triggers.POKE)

    def ring(self, trigger: str) -> None:
        """What is heard from outside: lost, repeated or late."""
        for _ in range(self.random.choice((0, 1, 1, 2, 5))):
            self.clock.at(self.clock.now + self.random.choice((0.0, 0.05, 3.0)), lambda: self._ring_now(trigger))

    def _ring_now(self, trigger: str) -> None:
        if self.daemon is not None:
            self.daemon.bell.ring(trigger)

    def heal(self) -> None:
        """The chaos ends: all works again but what is poisoned; the last valid manifest lies there."""
        self.faulty.clear()
        self.is_online = True
        if self.text != self.valid:
            self.write(self.valid, is_valid=True)
        if self.with_chaos:
            self._by_hand("resume")
        self.note("healed")

    # --- living ----------------------------------------------------------------------------------------------------

    def live(self) -> None:
        """From the first manifest to a long quiet end; every rule is checked."""
        self.write(self.draw_manifest(), is_valid=True)
        chaos_s = self.outage_s or CHAOS_S
        if self.with_chaos:
            self.plan_chaos()
        self.clock.at(chaos_s, self.heal)
        self.clock.at(chaos_s + 10, lambda: self.with_chaos and self._by_hand("resume"))  # where it was down just then
        self.live_until(chaos_s + HEALED_S + QUIET_END_S)
        self.check_end()

    def live_until(self, end_s: float) -> None:
        """What was planned happens; nothing is checked at the end."""
        self.end_at = end_s
        with self.in_place():
            while self.clock.now < self.end_at:
                self._boot()

    def _wait_for_places(self, timeout: float) -> None:
        """A pass waits until another one has given back places for downloads."""
        self.clock.sleep(timeout)

    def in_place(self) -> contextlib.ExitStack:
        """The made-up parts take the place of the real ones."""
        stack = contextlib.ExitStack()
        Pool.clock = self.clock
        for target, name, value in (
            (execution, "ThreadPoolExecutor", Pool),
            (execution, "wait", wait),
            (execution, "HANDLERS", self.handlers()),
            (ModelToken, "wait", self._wait_for_places),
        ):
            stack.enter_context(mock.patch.object(target, name, value))
        stack.enter_context(mock.patch("reconciler.reconcile.plan_pass", self.plan_pass))
        stack.enter_context(mock.patch.object(Work, "fingerprint", return_value=""))
        stack.enter_context(mock.patch.object(get_log(), "_emit", self._log))
        return stack

    def _log(self, _level, event, keys) -> None:
        if _level >= Level.INFO:
            self.lines[event] += 1
        if event in {"manifest_loaded", "manifest_rejected", "watch_woken", "pass_refused"}:
            self.note(f"  {event} {keys.get('trigger') or keys.get('message') or ''}")

    def _boot(self) -> None:
        """One life of the process: until it crashes or the end comes."""
        world = World(Store(str(self.folder), self.wall), {}, now=self.wall, random=self.random.random)
        world.monotonic = lambda: self.clock.now
        cancel = _Stop(self)
        ledger = Ledger.open(str(self.folder), now=self.wall, writable=True)
        bell = _Bell(self)
        agenda = Agenda(300.0, self.wall, self.random.random, lambda: self.clock.now)
        parts = Parts(bell, _Inputs(self), _Ears(), _Drift(self), _Surroundings(self), agenda, self.clock.spawn)
        self.daemon = Daemon(world, ledger, cancel, parts)
        self.is_crashing = False
        self.note("boot")
        try:
            self.daemon.run()
        except Crash:
            self.note("crash")
        finally:
            self.daemon = None
            self.clock.kill()
            self.active.clear()
            self.events_seen = ledger.events.latest(10_000)
            ledger.close()
        self.clock.sleep(self.random.uniform(0.1, 5.0))

    def on_round(self) -> None:
        """Each time the loop waits: may it crash here, and do the rules hold?"""
        if self.is_crashing:
            raise Crash
        moment, desired = self.changes[-1]
        if self.clock.now >= moment + TAKEN_UP_S and self.text == self.valid and self._is_calm_since(moment):
            self.require(self.daemon.desired == desired, "the newest manifest is in force")
            wanted = specs(desired)
            for name, spec in self.active:
                self.require(wanted.get(name) == spec, f"{name} is fetched although nobody wants it so")

    def _is_calm_since(self, moment: float) -> bool:
        """No crash since: a process that is not there takes nothing up."""
        crashes = [at for at, kind in self.events if kind == "crash"]
        return not crashes or crashes[-1] + 12.0 < max(moment, self.clock.now - TAKEN_UP_S)

    # --- the rules at the end --------------------------------------------------------------------------------------

    def check_end(self) -> None:
        desired = self.changes[-1][1]
        for model in desired.models:
            stored = self.disk.placed.get(model.name)
            if model.state is WantedState.ABSENT:
                self.require(stored is None, f"{model.name} is to be absent")
            elif model.name not in self.is_poisoned:
                self.require(stored is not None and stored.spec_digest == model.spec_digest, f"{model.name} is wanted")
                self.require(stored.files[0].condition is Condition.INTACT, f"{model.name} is whole")
        self._check_passes()
        self._check_poison()
        self._check_new_targets()

    def _check_passes(self) -> None:
        quiet = [at for at in self.starts if at > self.end_at - QUIET_END_S]
        self.require(len(quiet) <= QUIET_END_S / 60, f"{len(quiet)} passes in the quiet end")
        marks = [at for at, _ in self.events]
        for number, at in enumerate(self.starts):
            count = sum(1 for other in self.starts[number:] if other < at + 60)
            near = sum(1 for mark in marks if at - 60 < mark < at + 60)
            self.require(count <= PASSES_A_MINUTE + PASSES_PER_EVENT * near, f"{count} passes in a minute from {at}")

    def _check_poison(self) -> None:
        late = Counter(
            (name, spec) for at, name, spec in self.attempts if at > self.end_at - QUIET_END_S - HEALED_S / 2
        )
        for (name, _), count in late.items():
            self.require(name not in self.is_poisoned, f"{name} is poisoned and was tried {count} times again")

    def _check_new_targets(self) -> None:
        """What a manifest wants anew is begun at once, whatever failed or waits."""
        for moment, desired in self.changes:
            near = [at for at, kind in self.events if moment - 15 < at < moment + STARTED_S + 1 and at != moment]
            if near or any(moment < at < moment + STARTED_S + 1 for at, _ in self.changes):
                continue
            if self._was_suspended(moment):
                continue
            tried = {(name, spec) for _, name, spec in self.attempts}
            fresh = {
                mark
                for mark in specs(desired).items()
                if not any(a[1:] == mark for a in self.attempts if a[0] < moment)
            }
            soon = {(name, spec) for at, name, spec in self.attempts if moment <= at <= moment + STARTED_S}
            began = len(fresh & soon)
            self.require(began or not fresh & tried, f"nothing new was begun within {STARTED_S} s of {moment}: {fresh}")

    def _was_suspended(self, moment: float) -> bool:
        return any(moment <= at <= moment + STARTED_S for at in self.guarded)


# --- made-up parts ------------------------------------------------------------------------------------------------------


class _Stop:
    """The cancel token: set at the end of the life; waiting lets the clock run."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def is_set(self) -> bool:
        return self._life.clock.now >= self._life.end_at

    def wait(self, timeout: float | None = None) -> bool:
        self._life.clock.sleep(timeout or 0.0)
        if self._life.is_crashing:
            raise Crash
        return self.is_set()


class _Bell(Bell):
    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life

    def ring(self, trigger: str) -> None:
        """Inner rings may be lost and repeated as well; what a person asks may not."""
        is_sure = trigger == triggers.POKE or not self._life.with_chaos
        for _ in range(1 if is_sure else self._life.random.choice((0, 1, 1, 2))):
            super().ring(trigger)

    def wait(self, timeout_s: float) -> frozenset[str]:
        self._life.on_round()
        self._life.clock.sleep(0.001)
        self._life.clock.wait_until(lambda: not self._queue.empty() or self._life.is_crashing, timeout_s)
        self._life.on_round()
        return super().wait(0.0)


class _Inputs:
    label = "models.yaml"

    def __init__(self, life: Life) -> None:
        self._life = life

    def read(self) -> Reading:
        text = self._life.text
        if text is None:
            return Reading(digest_bytes(b"gone"), None, "models.yaml is gone", label=self.label)
        document = Document("models.yaml", text, "/", "/models.yaml")
        return Reading(digest_bytes(text), (document,), label=self.label)

    def read_quiet(self, first: Reading, cancel) -> Reading:
        del first
        cancel.wait(QUIET_S)
        return self.read()

    def folders(self) -> dict:
        return {}

    def fetch_now(self) -> None:
        """Nothing to fetch."""


class _Ears:
    folders: dict = {}  # noqa: RUF012 -- never changed
    trouble = ""

    def listen(self, folders) -> bool:
        del folders
        return False

    def close(self) -> None:
        """Nothing is open."""


class _Drift:
    def __init__(self, life: Life) -> None:
        self._life, self._seen, self._due = life, 0, 0.0

    def rebase(self, links) -> None:
        list(links)
        self._seen = self._life.disk.changes

    def close(self) -> None:
        """Nothing is open."""

    def has_changed(self) -> bool:
        if self._life.clock.now < self._due:
            return False
        self._due = self._life.clock.now + 1.0
        return self._seen != self._life.disk.changes


class _Surroundings:
    def __init__(self, life: Life) -> None:
        self._life, self._was, self._due = life, life.is_online, 0.0

    @property
    def is_online(self) -> bool:
        return self._life.is_online

    def note_plan(self, plan, free_bytes) -> None:
        """There is always room."""

    def changes(self, policy) -> frozenset[str]:
        del policy
        if self._life.clock.now < self._due:
            return frozenset()
        self._due = self._life.clock.now + 4.0
        before, self._was = self._was, self._life.is_online
        return frozenset({triggers.NETWORK}) if before != self._was else frozenset()


def live(seed: int, *, verbose: bool = False, **keys: object) -> Life:
    """One life, lived and checked."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="life-", dir=base))
    try:
        life = Life(seed, folder, verbose=verbose, **keys)
        life.live()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return life


if __name__ == "__main__":
    for word in sys.argv[1:]:
        live(int(word), verbose=True)
