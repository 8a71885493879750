"""Saved plans and snapshots come from outside again: they are checked before anybody believes them."""

from typing import Any

from reconciler.adapters.manifest.schemas import load_schema
from reconciler.core.errors import permanent

_MAX_TOLD = 5


def validate_document(name: str, value: Any) -> None:
    """Check ``value`` against ``<name>.v1.schema.json``, e.g. ``plan`` or ``snapshot``.

    Raises:
        Failure: permanent ``document_invalid`` with the first places that are wrong, as JSON pointers;
            ``unknown_schema`` where there is no such schema.
    """
    import jsonschema  # noqa: PLC0415 -- 0.3 s that only this needs

    schema = load_schema(name)
    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft7Validator)(schema)
    errors = sorted(validator.iter_errors(value), key=lambda error: [str(part) for part in error.absolute_path])
    if not errors:
        return
    told = [f"{_pointer(error.absolute_path)}: {_sentence(error)}" for error in errors[:_MAX_TOLD]]
    more = f"; and {len(errors) - _MAX_TOLD} more" if len(errors) > _MAX_TOLD else ""
    raise permanent(
        "document_invalid",
        f"this is no {name} document: {'; '.join(told)}{more}",
        hint=f"make it again with this version; reconciler schema {name} prints what is expected",
    )


def _pointer(path: Any) -> str:
    parts = [str(part).replace("~", "~0").replace("/", "~1") for part in path]
    return "/" + "/".join(parts)


def _sentence(error: Any) -> str:
    """What was expected, without quoting the whole value: it may be long, or not for everybody's eyes."""
    match error.validator:
        case "type":
            return f"expected {error.validator_value}"
        case "enum":
            return f"expected one of {error.validator_value}"
        case "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            return f"without {', '.join(missing)}"
        case "additionalProperties":
            known = error.schema.get("properties", {})
            unknown = [str(key)[:60] for key in error.instance if key not in known]
            return f"unknown {', '.join(unknown[:3])}"
        case _:
            return f"fails {error.validator} {error.validator_value!r}"[:200]
