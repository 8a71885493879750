"""A small honest stand-in for ``reconciler.library``: real plans and results over a folder of one-line files.

A manifest is lines of ``NAME SIZE`` (``bad`` makes it invalid); a model is there when ``<store>/<name>`` is. With
STUB_SECONDS a download takes that long and can be cancelled, which leaves ``<name>.part``.
"""

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

from reconciler.core import report
from reconciler.core.actions import (
    Action,
    ActionKind,
    Cause,
    Deferred,
    Guard,
    Outcome,
    OutcomeStatus,
    Plan,
    Precondition,
    Request,
    Satisfied,
    Summary,
)
from reconciler.core.desired import Artifact, DesiredModel, DesiredState, Diagnostic
from reconciler.core.digests import digest_value
from reconciler.core.errors import ManifestInvalid, Problem, permanent, refused, transient
from reconciler.core.history import History, RevisionFact, Transition
from reconciler.core.notices import Check, Event
from reconciler.core.observed import DeviceFacts, DiskFacts, MemoryFacts, ObservedState, Override
from reconciler.core.policies import CachePolicy, Size
from reconciler.core.ports import Progress
from reconciler.core.remembered import Remembered, RememberedModel
from reconciler.core.report import Stop, apply_result
from reconciler.core.status import status
from reconciler.core.stored import BlobFact, StoredFile, StoredModel, StoreFacts
from reconciler.core.usage import measure_df
from reconciler.core.words import Digest

NOTHING = Request()
NOW = 1_795_000_000.0
LIMIT = 10_000_000_000
REPORT = report


def load_manifest(paths, environ=None, **_):
    paths = [paths] if isinstance(paths, str) else list(paths)
    if not paths and not Path("models.yaml").exists():
        raise permanent("manifest_missing", "there is no manifest: no ./models.yaml", hint="reconciler init writes one")
    lines = [(path, number, line) for path in paths or ["models.yaml"] for number, line in _read(path)]
    problems = tuple(
        Problem(path, number, 1, f"the line {line.strip()!r}", "a name and a size", "did you mean good?")
        for path, number, line in lines
        if line.startswith("bad")
    )
    if problems:
        raise ManifestInvalid(problems)
    models = sorted((_model(*line.split()) for _, _, line in lines), key=lambda model: model.name)
    return DesiredState(
        models=tuple(models),
        cache=CachePolicy(max_size=Size(size_bytes=LIMIT)),
        digest=digest_value([model.name for model in models]),
        files=tuple(str(Path(path).resolve()) for path in paths or ["models.yaml"]),
        diagnostics=tuple(
            Diagnostic("not_supported_yet", f"{model.name} is odd", "m:1:1") for model in models if "odd" in model.name
        ),
    )


def load_manifests(hosts, paths, environ=None, **_):
    return (load_manifest(paths, environ),) * len(hosts)


def _read(path):
    try:
        return list(enumerate(Path(path).read_text().splitlines(), 1))
    except OSError as error:
        raise ManifestInvalid((Problem(path, 1, 1, error.strerror, "a readable file"),)) from error


def _model(name, size):
    artifact = Artifact(f"{name}.gguf", (f"https://models.test/{name}?token=hush",), size_bytes=int(size))
    return DesiredModel(name, artifacts=(artifact,), spec_digest=digest_value([name, size]))


class Reconciler:
    def __init__(self, desired=None, *, store=None, environ=None):
        self.desired = desired
        self.world = SimpleNamespace(now=lambda: NOW)
        self.environ = environ or {}
        self.store_path = store or self.environ.get("RECONCILER_STORE", "/nowhere")
        if self.environ.get("STUB_FAULT") == "crash":
            raise ZeroDivisionError("boom at https://user:pw@host/x?sig=hush")
        if self.environ.get("STUB_FAULT") == "busy":
            raise transient("store_busy", f"another reconciler (pid 4711) owns {self.store_path}", hint="wait for it")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def _names(self):
        folder = Path(self.store_path)
        names = sorted(p.name for p in folder.iterdir() if p.suffix != ".part") if folder.is_dir() else []
        return [name for name in names if not name.startswith(".")]

    def snapshot(self):
        names = self._names()
        digest = Digest("sha256:" + "a" * 64)
        models = tuple(
            StoredModel(
                name,
                digest_value(name),
                (StoredFile(f"{name}.gguf", digest, 1000, 4096),),
                pinned="pinned" in name,
                installed_at=NOW - 50,
                verified_at=NOW - 40,
                format="gguf",
            )
            for name in names
        )
        return ObservedState(
            NOW,
            StoreFacts(
                models,
                (BlobFact(digest, 1000, 4096, True),) if names else (),
                used_bytes=4096 * len(names),
                path=self.store_path,
            ),
            DiskFacts(100_000_000_000, 50_000_000_000),
            MemoryFacts(16_000_000_000, 8_000_000_000),
            DeviceFacts(hostname="kiosk", os="linux", arch="x86_64"),
            overrides=(Override("small", "pin", NOW - 5),) if names else (),
            digest=digest_value(names),
        )

    def plan(self, request=NOTHING, *, offline=False, observed=None):
        observed = observed or self.snapshot()
        here = {model.name for model in observed.store.models}
        wanted = {model.name: model for model in (self.desired.models if self.desired else ())}
        actions, deferred = [], []
        if request.verb == "evict":
            actions = [self._evict(name) for name in request.models if name in here]
        elif request.verb in ("", "prune"):
            for name, model in wanted.items():
                size = model.artifacts[0].size_bytes
                if request.verb or name in here or (request.only and name not in request.only):
                    continue
                if size > LIMIT:
                    deferred.append(Deferred(name, "no_room", f"{name} does not fit", size, LIMIT, ("pinned: small",)))
                else:
                    actions.append(self._download(model, size))
            if request.prune or request.verb == "prune":
                actions += [self._evict(name) for name in sorted(here - wanted.keys())]
        acted = {action.model for action in actions} | {item.model for item in deferred}
        satisfied = tuple(
            Satisfied(name, "in_place", "as the manifest says")
            for name in sorted(here | wanted.keys())
            if name not in acted
        )
        guards = ()
        if sum(action.kind is ActionKind.EVICT for action in actions) > 5 and request.allow_evict is None:
            guards = (Guard("mass_eviction", "the plan would evict most models", "--allow-evict N"),)
        return Plan(
            self.desired.digest if self.desired else Digest("sha256:" + "0" * 64),
            observed.digest,
            NOW,
            tuple(actions),
            tuple(deferred),
            satisfied,
            self._summary(actions, deferred, satisfied, guards),
            guards,
            self.desired.diagnostics if self.desired else (),
            request,
        )

    def _download(self, model, size):
        return Action(
            f"download:{model.name}",
            ActionKind.DOWNLOAD,
            model.name,
            "new",
            "the manifest asks for it and the store does not have it",
            Cause.INTENT,
            size,
            (),
            (Precondition("stored", model.name, "absent"),),
            model.spec_digest,
        )

    def _evict(self, name):
        return Action(f"evict:{name}", ActionKind.EVICT, name, "unwanted", "nobody wants it", Cause.REQUEST, 4096)

    def _summary(self, actions, deferred, satisfied, guards):
        kinds = [action.kind for action in actions]
        down = sum(action.bytes for action in actions if action.kind is ActionKind.DOWNLOAD)
        return Summary(
            counts=tuple((kind.value, kinds.count(kind)) for kind in ActionKind),
            causes=tuple((cause.value, sum(a.cause is cause for a in actions)) for cause in Cause),
            changes=len(actions),
            deferred=len(deferred),
            failed=0,
            satisfied=len(satisfied),
            guards=len(guards),
            bytes_download=down,
            bytes_freed=4096 * kinds.count(ActionKind.EVICT),
            disk_peak_bytes=down,
            disk_final_bytes=down,
            disk_limit_bytes=LIMIT,
            unknown_sizes=0,
            estimated_seconds=None,
        )

    def apply(
        self,
        request=NOTHING,
        *,
        saved=None,
        timeout_s=None,
        cancel=None,
        progress=None,
        on_outcome=None,
        on_plan=None,
    ):
        if saved is not None and {a.model for a in saved.actions} & set(self._names()):
            raise refused("plan_stale", "the saved plan is stale", hint="plan again")
        plan = saved or self.plan(request)
        if on_plan:
            on_plan(plan)
        outcomes = []
        end = None if timeout_s is None else time.monotonic() + timeout_s
        cancel = cancel or threading.Event()
        for action in () if plan.guards else plan.actions:
            outcome = self._do(action, cancel, progress, end)
            outcomes.append(outcome)
            on_outcome(outcome)
        stopped = None
        if cancel.is_set():
            stopped = Stop.INTERRUPTED
        elif end is not None and time.monotonic() >= end:
            stopped = Stop.TIMED_OUT
        return apply_result(plan, digest_value([a.id for a in plan.actions]), outcomes, seconds=1.5, stopped=stopped)

    def _do(self, action, cancel, progress, end):
        target = Path(self.store_path) / action.model
        if "fail" in action.model:
            message = f"404 from \x1b[31mhttps://h/{action.model}"
            return Outcome(action.id, action.kind, action.model, OutcomeStatus.FAILED, "not_found", message)
        if action.kind is ActionKind.EVICT:
            target.unlink()
            return Outcome(action.id, action.kind, action.model, OutcomeStatus.DONE, bytes=4096, seconds=0.2)
        seconds, start = float(self.environ.get("STUB_SECONDS", "0")), time.monotonic()
        partial = target.with_suffix(".part")
        while (elapsed := time.monotonic() - start) < seconds:
            partial.write_text("half")
            done = int(action.bytes * elapsed / seconds)
            rate = action.bytes / seconds
            progress(Progress(action.model, "x", "downloading", done, action.bytes, rate, seconds - elapsed))
            if cancel.wait(0.05) or (end is not None and time.monotonic() > end):
                return Outcome(
                    action.id, action.kind, action.model, OutcomeStatus.CANCELLED, "timed_out" if end else "cancelled"
                )
        partial.unlink(missing_ok=True)
        target.write_text("whole")
        return Outcome(action.id, action.kind, action.model, OutcomeStatus.DONE, bytes=action.bytes, seconds=seconds)

    def in_force(self):
        return self.desired

    def status(self):
        remembered = Remembered(
            models=tuple(RememberedModel(n, "ready", "gguf", '{"architecture": "llama"}') for n in self._names())
        )
        return status(self.desired, self.snapshot(), self.plan() if self.desired else None, remembered)

    def why(self, name, *, offline=False):
        from reconciler.core.why import Why  # noqa: PLC0415 -- only why needs it

        names = {*self._names(), *(model.name for model in (self.desired.models if self.desired else ()))}
        if name not in names:
            raise permanent("unknown_model", f"there is no model {name!r}", hint="did you mean small?")
        return Why(name, "download", "new", "it will be downloaded", (), None)

    def pin(self, name):
        (Path(self.store_path) / f".pin-{name}").write_text("")

    unpin = pin

    def touch(self, name, at=None):
        (Path(self.store_path) / f".use-{name}").write_text(str(at))

    def suspend(self, until):
        (Path(self.store_path) / ".suspend").write_text(str(until))

    def resume(self, names=()):
        (Path(self.store_path) / ".suspend").unlink()

    def pause(self, names=()):
        (Path(self.store_path) / ".pause").write_text(" ".join(names))

    def cancel(self, names, *, discard):
        (Path(self.store_path) / ".cancel").write_text(f"{' '.join(names)} {discard}")

    def poke(self):
        (Path(self.store_path) / ".poke").write_text("")

    def events(self, after=0, model=None, limit=None):
        found = [
            Event(1, NOW, "Normal", "downloaded", "small", "small is here"),
            Event(2, NOW, "Warning", "not_found", "other", "404 \x1b[31m", 3),
        ]
        found = [event for event in found if event.seq > after and model in (None, event.model)]
        return found[-limit:] if limit else found

    def follow_events(self, after, model, cancel):
        while not cancel.wait(0.1):
            yield from self.events(after, model)

    def history(self, name):
        return History(
            name,
            "ready",
            (Transition(NOW, "discovered", "downloading", 1.5), Transition(NOW, "downloading", "error", 2.5, "404")),
            (RevisionFact(digest_value(name), "abc123", 1000, NOW, is_current=True),),
            2,
            NOW,
        )

    def df(self):
        return measure_df((self.desired or DesiredState(())).cache, self.snapshot())

    def doctor(self):
        return (
            Check("store", "ok", "writable"),
            Check("clock", os.environ.get("STUB_CHECK", "warn"), "is odd", "set it"),
        )
