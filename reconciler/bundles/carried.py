"""What a bundle is made of, for both ends."""

from reconciler.core.records import dataclass

KIND = "Bundle"
INDEX = "bundle.json"
BLOBS = "blobs/sha256"


@dataclass(frozen=True, slots=True)
class Carried:
    """What was exported or imported: models, those of them that were placed, distinct files and their bytes."""

    models: tuple[str, ...]
    files: int
    bytes: int
    placed: tuple[str, ...] = ()
