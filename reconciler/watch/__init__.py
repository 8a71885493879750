"""The watch: when to reconcile, and the manners of a process that runs for months.

Level-triggered: every event only means "look again", and truth is what is read then. Reading order:

- :mod:`bell` wakes the loop; :mod:`ears` (files), :mod:`drift` (the store), :mod:`surroundings` (memory, network)
  and :mod:`agenda` (times) ring it
- :mod:`inputs` reads the manifest's bytes until they are quiet, from files or (:mod:`git_inputs`) from Git; :mod:`hops`
  tells which folders may change them; :mod:`force` decides which manifest is in force, and keeps the last good one
- :mod:`passes` runs passes side by side; newest wins; :mod:`questions` asks their origins beside them
- :mod:`rounds` decides when to run and what to cancel, from :mod:`parts` that a test replaces
- :mod:`wakes` hears what the kernel tells of memory and network
- :mod:`scrub` hashes what lies in the store again, slowly
- :mod:`daemon` is the loop, :mod:`live` what is told of it: by :mod:`control` and :mod:`client` (a socket in the
  store), :mod:`verbs` (what may be asked there), :mod:`notify` (systemd) and :mod:`listen` (HTTP)
"""

from typing import Any

__all__ = ["watch"]


def watch(**options: Any) -> int:
    """See :func:`reconciler.watch.entry.watch`; imported late, since readers only need the client."""
    from reconciler.watch.entry import watch as keep_doing  # noqa: PLC0415

    return keep_doing(**options)
