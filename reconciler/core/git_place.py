"""Where a manifest lies in Git, as options or a bootstrap file say it. Checked by the Git adapter, not here."""

from enum import Enum

from reconciler.core.policies import Credential
from reconciler.core.records import dataclass

GIT_INTERVAL_S = 60.0
GIT_TIMEOUT_S = 60.0
GIT_PATH = "models.yaml"


class Reach(Enum):
    """How far a verb goes for a manifest that is fetched."""

    KEEP = "keep"  # fetch into the store
    LOOK = "look"  # fetch, and leave nothing behind
    LAST = "last"  # ask nobody: the last good one


@dataclass(frozen=True, slots=True)
class GitPlace:
    """One manifest of one repository.

    ``signers`` is an allowed-signers file (ssh) or the folder of a GnuPG key ring; None where no signature is asked
    for. A ``credential`` with an empty host is for the URL's own. ``ssh_key`` and ``known_hosts`` are absolute paths.
    """

    url: str
    ref: str | None = None
    path: str = GIT_PATH
    interval_s: float = GIT_INTERVAL_S
    timeout_s: float = GIT_TIMEOUT_S
    signers: str | None = None
    credential: Credential | None = None
    ssh_key: str | None = None
    known_hosts: str | None = None
