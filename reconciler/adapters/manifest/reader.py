"""Bytes to positioned trees: our own walk over the event stream of the C YAML parser.

PyYAML's loaders keep the last of two equal keys, expand aliases into bombs, turn ``no`` into False and lose every
position. The event stream below them has none of these manners and all of the marks, so it is read here, once, in
order, with a stack and no recursion:

* every problem is noted and reading goes on, up to the first place where the syntax itself breaks;
* what was read up to there is still handed out, so that its own mistakes are told in the same breath;
* bytes, depth and values are limited; anchors, aliases, merge keys and tags are refused, so nothing can grow.

``${NAME}`` in a value is replaced here, from a mapping that the caller gives.
"""

from collections.abc import Mapping
from typing import Any

import yaml

from reconciler.adapters.manifest.builder import Builder, Limits, Stop
from reconciler.adapters.manifest.decoding import decode
from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.strictness import check, is_suspect
from reconciler.adapters.manifest.tree import Node
from reconciler.core.records import dataclass

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Reading:
    """The documents of one file, in order. ``is_whole`` is False where the syntax broke or a limit was met."""

    documents: tuple[Node, ...]
    is_whole: bool


def read(
    data: bytes, label: str, environ: Mapping[str, str], findings: Findings, limits: Limits = DEFAULT_LIMITS
) -> Reading:
    """Read one file.

    Args:
        data: the file's bytes.
        label: its name in messages.
        environ: where ``${NAME}`` is looked up.
        findings: where problems go.
        limits: what it may cost.
    """
    text = decode(data, label, findings, limits.size_bytes)
    if text is None:
        return Reading((), is_whole=False)
    builder = Builder(label, environ, findings, limits)
    end = None
    try:
        builder.take_all(_LOADER(text))
    except yaml.YAMLError as error:
        end = builder.syntax_error(error, text)
    except Stop:
        builder.give_up()
        return Reading(tuple(builder.documents), is_whole=False)
    if builder.spans_lines or is_suspect(text):
        check(_LOADER, text, label, findings, end)
    return Reading(tuple(builder.documents), is_whole=builder.is_whole)
