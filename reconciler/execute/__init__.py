"""Executing a plan: one handler per kind of action, in one table.

``run`` schedules, ``work`` is what handlers share, ``claims`` keeps passes of one process apart, ``remember`` writes
down how it went. The handlers: ``download``, ``extract``, ``storing`` (verify, link, adopt), ``removal`` (evict) and
``loading`` (load, unload). Nothing is imported here: planning and reading must not pay for it.
"""
