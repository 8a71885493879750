"""``show``: one model with everything that is known of it; the headers of its files are read now, nothing else is."""

import os
from dataclasses import replace

from reconciler.adapters import formats
from reconciler.adapters.ledger import Ledger
from reconciler.core.comparing import effective
from reconciler.core.desired import DesiredModel, DesiredState
from reconciler.core.errors import Failure, unknown_model
from reconciler.core.history import History
from reconciler.core.ports import FormatReport
from reconciler.core.reference import display
from reconciler.core.show import Shown, validate
from reconciler.core.stored import StoredModel
from reconciler.library.opened import EMPTY
from reconciler.planning import LOOKING, plan_pass
from reconciler.watch.live import Live, status_of
from reconciler.world import World


def show_model(world: World, ledger: Ledger, desired: DesiredState | None, live: Live, history: History) -> Shown:
    """What is known of the model that ``history`` is of.

    Raises:
        Failure: permanent ``unknown_model``.
    """
    made = plan_pass(world, desired or EMPTY, ledger, LOOKING, offline=True)
    name = history.model
    models = {model.name: model for model in status_of(desired, made, live).models}
    if name not in models:
        raise unknown_model(name, models)
    seen = models[name]
    stored = next((each for each in made.sight.observed.store.models if each.name == name and each.is_current), None)
    wanted = next((model for model in made.desired.models if model.name == name), None)
    whole, words = _read(world, stored)
    found = effective(wanted, dict(whole.metadata) or seen.metadata)
    files = stored.files if stored is not None else ()
    return Shown(
        status=replace(seen, metadata=found),
        files=files,
        formats=words,
        validation=validate(files, whole.errors, (*whole.warnings, *seen.warnings)),
        sources=_sources(wanted),
        links=stored.links if stored is not None else (),
        depends_on=wanted.depends_on if wanted is not None else (),
        history=history,
    )


def _read(world: World, stored: StoredModel | None) -> tuple[FormatReport, tuple[str, ...]]:
    """(the model's report, each file's format) from the files' own headers."""
    if stored is None:
        return FormatReport("unknown"), ()
    readers = (*world.formats, *formats.BUILTIN)
    pairs = [(file.path, world.store.placed_path(stored.name, file.path)) for file in stored.files]
    there = [(path, place) for path, place in pairs if os.path.isfile(place)]  # noqa: PTH113 -- the store speaks text
    try:
        words = {path: formats.inspect(place, readers).format for path, place in there}
        whole = formats.read_folder(there, readers) if there else FormatReport("unknown")
    except Failure as failure:
        return FormatReport("unknown", errors=(failure.message,)), tuple("unknown" for _ in pairs)
    return whole, tuple(words.get(path, "unknown") for path, _ in pairs)


def _sources(wanted: DesiredModel | None) -> tuple[str, ...]:
    if wanted is None:
        return ()
    return tuple(dict.fromkeys(display(url) for artifact in wanted.artifacts for url in artifact.sources))
