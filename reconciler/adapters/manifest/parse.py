"""From a merged and walked tree to a desired state. After this line there are no strings for sizes."""

from dataclasses import replace

from reconciler.adapters.manifest.border import Border
from reconciler.adapters.manifest.checks import check_dependencies, check_links, check_names
from reconciler.adapters.manifest.conditions import parse_labels
from reconciler.adapters.manifest.generation import generation
from reconciler.adapters.manifest.models import parse_models
from reconciler.adapters.manifest.not_yet import not_yet
from reconciler.adapters.manifest.sections import parse_cache, parse_memory, parse_network, parse_runtimes
from reconciler.adapters.manifest.signatures import parse_hosts
from reconciler.adapters.manifest.tree import Node
from reconciler.core.desired import DesiredState


def parse(root: Node, border: Border) -> DesiredState:
    """Read the whole manifest. Problems go to ``border``; with any, the result means nothing.

    ``files`` is left empty: the caller knows where the bytes came from.
    """
    about, models = root.child("metadata"), root.child("models")
    runtimes = parse_runtimes(root.child("runtimes"), border)
    parsed = []
    if models is not None:
        check_names(models, border)
        check_links(models, border)
        check_dependencies(models, border)
        names = frozenset(spec.name for spec in runtimes)
        parsed = parse_models(models, root.child("defaults"), names, border, parse_hosts(root.child("network"), border))
    name = about.child("name") if about is not None else None
    state = DesiredState(
        models=tuple(sorted(parsed, key=lambda model: model.name)),
        name="" if name is None else name.value,
        labels=parse_labels(about.child("labels")) if about is not None else (),
        cache=parse_cache(root.child("cache"), border),
        memory=parse_memory(root.child("memory"), border),
        network=parse_network(root.child("network"), border),
        runtimes=runtimes,
        diagnostics=(*border.diagnostics, *not_yet(root)),
    )
    return state if len(border.findings) else replace(state, digest=generation(state))
