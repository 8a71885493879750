"""The ledger: what the store remembers, in SQLite. Memory, not truth: the disk is, and from it this can be rebuilt.

:class:`Ledger` is the door. ``facts`` holds the values it gives, ``schema`` the tables, ``opening``, ``reading`` and
``writing`` how the database is reached without leaving a trace or losing a commit, ``reserve`` the room for a full
disk, and one module per noun its rows.
"""

from reconciler.adapters.ledger.facts import (
    BroughtRow,
    Change,
    EventRow,
    EventType,
    FailureRow,
    FileRow,
    Installed,
    JournalRow,
    LastGood,
    LedgerFacts,
    LinkRow,
    LoadRow,
    Meta,
    ModelRow,
    Origin,
    PassRow,
    ResolutionRow,
    RevisionRow,
    StepRow,
)
from reconciler.adapters.ledger.ledger import FILE_NAME, Ledger

__all__ = [
    "FILE_NAME",
    "BroughtRow",
    "Change",
    "EventRow",
    "EventType",
    "FailureRow",
    "FileRow",
    "Installed",
    "JournalRow",
    "LastGood",
    "Ledger",
    "LedgerFacts",
    "LinkRow",
    "LoadRow",
    "Meta",
    "ModelRow",
    "Origin",
    "PassRow",
    "ResolutionRow",
    "RevisionRow",
    "StepRow",
]
