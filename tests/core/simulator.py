"""A pure executor: what the effects of a plan's actions do to the observed state. It obeys, and decides nothing.

``bytes_at_most`` follows the disk through every prefix: what a download takes is there from its start, an archive until
its members are placed. What an archive unpacks to is as large as the archive, which is what the planner assumes.
"""

from collections.abc import Iterator
from dataclasses import replace

from reconciler.core.actions import Action, ActionKind, Cause, Plan
from reconciler.core.desired import DesiredState
from reconciler.core.inventory import Inventory
from reconciler.core.observed import FailureFact, ObservedState
from reconciler.core.stored import BadCopy, BlobFact, LinkFact, StoredFile, StoredModel
from reconciler.core.targets import target_files
from reconciler.core.words import Condition, Digest
from tests.core.worlds import MIB, blocks, digest, file_of


class Machine:
    """One machine that actions are carried out on."""

    def __init__(self, desired: DesiredState, observed: ObservedState, plan: Plan) -> None:
        self.wanted = {model.name: model for model in desired.models}
        self.observed = observed
        self.inventory = Inventory(observed)
        self.plan = plan
        self.models = list(observed.store.models)
        self.blobs = {blob.digest: blob for blob in observed.store.blobs}
        self.partials = {partial.key: partial for partial in observed.store.partials}
        self.copies = {copy.key: copy for copy in observed.store.bad_copies}
        self.unknown_copies = observed.store.quarantine_bytes - sum(
            copy.allocated_bytes for copy in self.copies.values()
        )
        self.archives: dict[str, int] = {}
        self.loaded = {name: size for runtime in observed.runtimes for name, size in runtime.loaded}
        self.available = observed.memory.available_bytes
        self.failures = list(observed.failures)
        self.most_bytes = self.used()

    def used(self) -> int:
        return (
            sum(blob.allocated_bytes for blob in self.blobs.values())
            + sum(partial.allocated_bytes for partial in self.partials.values())
            + sum(self.archives.values())
            + self.quarantine()
            + self.observed.store.foreign_bytes
        )

    def quarantine(self) -> int:
        return self.unknown_copies + sum(copy.allocated_bytes for copy in self.copies.values())

    def current(self, name: str) -> StoredModel | None:
        return next((each for each in self.models if each.name == name and each.is_current), None)

    def do(self, action: Action) -> None:
        match action.kind:
            case ActionKind.EVICT:
                self.evict(action)
            case ActionKind.DOWNLOAD:
                self.bring(action)
            case ActionKind.EXTRACT:
                self.extract(action)
            case ActionKind.LINK if action.subject == "links":
                links = tuple(LinkFact(path, True) for path in self.wanted[action.model].links)
                self.edit(action.model, lambda stored: replace(stored, links=links))
            case ActionKind.LINK if action.reason == "unplaced":
                self.mark(action.model, action.paths)
            case ActionKind.LINK:
                self.bring(action)
            case ActionKind.VERIFY:
                self.verify(action)
            case ActionKind.LOAD:
                self.loaded[action.model] = action.bytes
                self.available -= action.bytes
                self.edit(action.model, lambda stored: replace(stored, loaded=True, runtime="default"))
            case ActionKind.UNLOAD:
                self.unload(action)
            case ActionKind.ADOPT:
                self.edit(
                    action.model, lambda stored: replace(stored, is_foreign=False, spec_digest=action.spec_digest)
                )
        self.most_bytes = max(self.most_bytes, self.used())

    def edit(self, name: str, change) -> None:
        self.models = [change(each) if each.name == name and each.is_current else each for each in self.models]

    def mark(self, name: str, paths: tuple[str, ...]) -> None:
        def change(stored: StoredModel) -> StoredModel:
            files = tuple(replace(f, condition=Condition.INTACT) if f.path in paths else f for f in stored.files)
            return replace(stored, files=files)

        self.edit(name, change)

    def verify(self, action: Action) -> None:
        """A hash that is found right proves the blob for all who use it."""
        proven = {f.digest for f in self.current(action.model).files if f.path in action.paths}

        def change(stored: StoredModel) -> StoredModel:
            fine = {Condition.UNVERIFIED, Condition.INTACT}
            files = (
                replace(f, condition=Condition.INTACT) if f.digest in proven and f.condition in fine else f
                for f in stored.files
            )
            return replace(stored, files=tuple(files))

        self.models = [change(each) for each in self.models]

    def unload(self, action: Action) -> None:
        self.available += self.loaded.pop(action.model)
        self.edit(action.model, lambda stored: replace(stored, loaded=False, runtime=""))
        if action.cause is Cause.PRESSURE and action.reason == "memory_pressure":
            spec = self.wanted[action.model].spec_digest if action.model in self.wanted else action.spec_digest
            until = self.observed.taken_at + 60
            self.failures.append(
                FailureFact(
                    action.model, spec, "transient", "memory_pressure", "memory is short", 1, until, step="load"
                )
            )

    def evict(self, action: Action) -> None:
        if action.subject == "partial":
            del self.partials[action.paths[0]]
            return
        if action.subject == "blob":
            self.collect({Digest(action.paths[0])}, action)
            return
        if action.subject == "quarantine":
            self.give_up(action.paths[0])
            return
        is_current = not action.subject
        gone = next(
            each
            for each in self.models
            if each.name == action.model and each.spec_digest == action.spec_digest and each.is_current == is_current
        )
        self.models.remove(gone)
        self.collect({file.digest for file in gone.files if file.digest}, action)

    def give_up(self, key: str) -> None:
        """A bad copy goes: out of its place, or out of quarantine where a repair has set it aside meanwhile."""
        bad = {f.digest for each in self.models for f in each.files if f.condition is Condition.DAMAGED}
        if Digest(key) not in bad or Digest(key) not in self.blobs:
            del self.copies[key]
            return
        del self.blobs[Digest(key)]
        self.models = [
            replace(each, files=tuple(_gone(f) if f.digest == key else f for f in each.files)) for each in self.models
        ]

    def collect(self, digests: set[Digest], action: Action) -> None:
        """Delete blobs that no revision holds and no model that is still to come uses."""
        used = {file.digest for stored in self.models for file in stored.files if not stored.is_foreign}
        place = [each.id for each in self.plan.actions].index(action.id)
        for later in self.plan.actions[place:]:
            if later.kind in {ActionKind.DOWNLOAD, ActionKind.LINK} and later.model in self.wanted:
                used |= {file.digest for file in target_files(self.wanted[later.model], self.inventory)}
        used |= {
            file.digest
            for deferred in self.plan.deferred
            if deferred.model in self.wanted and deferred.reason in {"backing_off", "outside_window"}
            for file in target_files(self.wanted[deferred.model], self.inventory)
        }
        for each in digests - used:
            self.blobs.pop(each, None)

    def bring(self, action: Action) -> None:
        """Download or link: the bytes come, and are placed unless an extract follows."""
        model = self.wanted[action.model]
        files = target_files(model, self.inventory)
        stored = self.current(action.model)
        if any(each.kind is ActionKind.EXTRACT and each.model == action.model for each in self.plan.actions):
            for partial in [p for p in self.partials.values() if p.digest in {f.digest for f in files}]:
                del self.partials[partial.key]
            self.archives[action.model] = sum(blocks(file.size_bytes or 0) for file in files)
            return
        if action.paths:
            self.mend(action, stored)
            return
        self.publish(
            model,
            tuple(
                file_of(replace(f, digest=f.digest or digest(f"served {model.name} {f.path} {f.size_bytes}")))
                for f in files
            ),
        )

    def mend(self, action: Action, stored: StoredModel) -> None:
        for file in stored.files:
            if file.path in action.paths:
                self.repair(file)

    def repair(self, file: StoredFile) -> None:
        if file.condition is Condition.DAMAGED and file.digest in self.blobs:
            size = self.blobs.pop(file.digest).allocated_bytes
            self.copies[file.digest] = BadCopy(file.digest, size, self.observed.taken_at, file.digest)
        self.add(replace(file, condition=Condition.INTACT, allocated_bytes=blocks(file.size_bytes)))

        def change(stored: StoredModel) -> StoredModel:
            bad = {Condition.MISSING, Condition.DAMAGED}
            files = (
                replace(f, condition=Condition.INTACT, allocated_bytes=blocks(f.size_bytes))
                if f.digest == file.digest and f.condition in bad
                else f
                for f in stored.files
            )
            return replace(stored, files=tuple(files))

        self.models = [change(each) for each in self.models]

    def add(self, file: StoredFile) -> None:
        for partial in [p for p in self.partials.values() if p.digest == file.digest]:
            del self.partials[partial.key]
        if file.digest not in self.blobs:
            self.blobs[file.digest] = BlobFact(
                file.digest, file.size_bytes, file.allocated_bytes, True, file.stat, self.observed.taken_at
            )

    def publish(self, model, files: tuple[StoredFile, ...]) -> None:
        """Place a new revision; the one it replaces is superseded."""
        bad = {
            f.digest
            for each in self.models
            for f in each.files
            if f.condition in {Condition.DAMAGED, Condition.MISSING}
        }
        for file in files:
            if file.digest in bad:
                self.repair(replace(file, condition=Condition.DAMAGED))
            self.add(file)
        old = self.current(model.name)
        pinned = old.pinned if old else False
        self.edit(model.name, lambda stored: replace(stored, is_current=False, loaded=False, links=()))
        links = old.links if old else ()
        loaded = model.name in self.loaded
        new = StoredModel(
            model.name,
            model.spec_digest,
            files,
            pinned=pinned,
            memory_bytes=old.memory_bytes if old else None,
            links=links,
            installed_at=self.observed.taken_at,
            last_used=self.observed.taken_at,
            loaded=loaded,
            runtime="default" if loaded else "",
        )
        self.models = [each for each in self.models if (each.name, each.spec_digest) != (new.name, new.spec_digest)]
        self.models.append(new)

    def extract(self, action: Action) -> None:
        model = self.wanted[action.model]
        stored = self.current(action.model)
        if stored is not None and stored.spec_digest == model.spec_digest:
            for file in stored.files:
                if file.condition in {Condition.DAMAGED, Condition.MISSING}:
                    self.repair(file)
            self.most_bytes = max(
                self.most_bytes,
                self.used() + sum(blocks(f.size_bytes) for f in stored.files if f.condition is Condition.INTACT),
            )
            self.edit(model.name, _all_intact)
        else:
            source = model.artifacts[0]
            whole = self.archives[action.model]
            member = StoredFile("member.bin", digest(f"member {model.name} {source.digest}"), whole, whole)
            self.publish(model, (member,))
        self.most_bytes = max(self.most_bytes, self.used())
        del self.archives[action.model]

    def look(self) -> ObservedState:
        store = self.observed.store
        delta = self.used() - store.used_bytes
        new_store = replace(
            store,
            models=tuple(sorted(self.models, key=lambda m: (m.name, not m.is_current, m.spec_digest))),
            blobs=tuple(self.blobs[key] for key in sorted(self.blobs)),
            partials=tuple(self.partials[key] for key in sorted(self.partials)),
            quarantine_bytes=self.quarantine(),
            bad_copies=tuple(self.copies[key] for key in sorted(self.copies)),
            used_bytes=self.used() - sum(self.archives.values()),
        )
        disk = replace(self.observed.disk, free_bytes=self.observed.disk.free_bytes - delta)
        runtimes = tuple(replace(each, loaded=tuple(sorted(self.loaded.items()))) for each in self.observed.runtimes)
        memory = replace(self.observed.memory, available_bytes=self.available)
        return replace(
            self.observed, store=new_store, disk=disk, runtimes=runtimes, memory=memory, failures=tuple(self.failures)
        )


def _gone(file: StoredFile) -> StoredFile:
    """What the observer says of a file whose blob is not there any more."""
    return replace(file, condition=Condition.MISSING, allocated_bytes=0, stat=None)


def _all_intact(stored: StoredModel) -> StoredModel:
    return replace(stored, files=tuple(replace(file, condition=Condition.INTACT) for file in stored.files))


def prefixes(desired: DesiredState, observed: ObservedState, plan: Plan) -> Iterator[Machine]:
    """The machine after each prefix of the plan's effects, the empty one first."""
    machine = Machine(desired, observed, plan)
    yield machine
    for action in plan.actions:
        machine.do(action)
        yield machine


def carried_out(desired: DesiredState, observed: ObservedState, plan: Plan) -> Machine:
    """The machine after the whole plan."""
    for machine in prefixes(desired, observed, plan):
        last = machine
    return last


__all__ = ["MIB", "Machine", "carried_out", "prefixes"]
