"""Executing a plan: one handler per kind of action, in one table.

``run`` schedules, ``work`` is what handlers share, ``claims`` keeps passes of one process apart, ``remember`` writes down how it went. The handlers: ``download``,
``extract``, ``storing`` (verify, link, adopt), ``removal`` (evict), ``loading`` (load, unload).
"""

from reconciler.execute.claims import Claims, Share
from reconciler.execute.run import execute
from reconciler.execute.work import Work

__all__ = ["Claims", "Share", "Work", "execute"]
