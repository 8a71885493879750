"""Where the JSON schemas lie: inside the package in a wheel, beside it in a checkout or an editable install."""

import json
from pathlib import Path
from typing import Any

from reconciler.adapters.manifest.nearest import nearest
from reconciler.core.errors import permanent

_PACKAGE = Path(__file__).resolve().parents[2]


def schema_text(name: str, package: Path = _PACKAGE) -> str:
    """The text of ``<name>.v1.schema.json``, e.g. of ``manifest`` or ``plan``.

    Raises:
        Failure: permanent ``unknown_schema`` where there is none of that name.
    """
    file_name = f"{name}.v1.schema.json"
    if name.replace("-", "").replace("_", "").isalnum():
        for folder in (package / "schemas", package.parent / "schemas"):
            try:
                return (folder / file_name).read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
    names = schema_names(package)
    near = nearest(name, names)
    meant = f"did you mean {near}? " if near else ""
    raise permanent("unknown_schema", f"there is no schema named {name}", hint=f"{meant}schemas: {', '.join(names)}")


def schema_names(package: Path = _PACKAGE) -> tuple[str, ...]:
    """The names of all schemas that came with this installation, sorted."""
    suffix = ".v1.schema.json"
    folders = (package / "schemas", package.parent / "schemas")
    return tuple(sorted({path.name.removesuffix(suffix) for folder in folders for path in folder.glob(f"*{suffix}")}))


def load_schema(name: str) -> dict[str, Any]:
    """The schema as a value."""
    schema: dict[str, Any] = json.loads(schema_text(name))
    return schema
