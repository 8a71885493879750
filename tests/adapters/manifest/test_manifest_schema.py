"""The schema is the one table: complete, found everywhere, and read alike by us and by jsonschema."""

import copy
import json
import random
from pathlib import Path

import jsonschema
import pytest
from manifest_bad_models import CASES as MODELS
from manifest_bad_sections import CASES as SECTIONS
from manifest_bad_sources import CASES as SOURCES
from manifest_good import GOOD

from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.models import FORMATS
from reconciler.adapters.manifest.reader import read
from reconciler.adapters.manifest.rules import ANNOTATIONS, KEYWORDS, manifest_schema
from reconciler.adapters.manifest.schemas import load_schema, schema_names, schema_text
from reconciler.adapters.manifest.tree import plain
from reconciler.adapters.manifest.walker import Walker
from reconciler.core import units
from reconciler.core.errors import Failure
from reconciler.core.reference import FORMS

SCHEMA = load_schema("manifest")
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def subschemas(schema, path="#"):
    """Every subschema with its path."""
    yield path, schema
    for keyword in ("properties", "definitions"):
        for key, child in schema.get(keyword, {}).items():
            yield from subschemas(child, f"{path}/{keyword}/{key}")
    for keyword in ("items", "additionalProperties", "propertyNames"):
        if isinstance(schema.get(keyword), dict):
            yield from subschemas(schema[keyword], f"{path}/{keyword}")


def test_the_schema_is_draft_07():
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_the_walker_knows_every_keyword_of_the_schema():
    for path, schema in subschemas(SCHEMA):
        assert set(schema) <= KEYWORDS | ANNOTATIONS, path
        if "$ref" in schema:  # draft-07 passes over rules beside a $ref
            assert set(schema) <= {"$ref"} | ANNOTATIONS, path


def test_every_property_has_a_description_a_default_and_an_example_that_are_valid():
    count = 0
    for path, schema in subschemas(SCHEMA):
        for key, child in schema.get("properties", {}).items():
            count += 1
            assert child["description"].endswith("."), f"{path}/{key}"
            assert child["examples"], f"{path}/{key}"
            validator = VALIDATOR.evolve(schema={**child, "definitions": SCHEMA["definitions"]})
            for value in child["examples"]:
                assert validator.is_valid(value), f"{path}/{key}: {value}"
            if child["default"] is not None:  # null: there is none
                assert validator.is_valid(child["default"]), f"{path}/{key}: {child['default']}"
    assert count > 80


def test_every_object_says_what_an_unknown_key_means():
    for path, schema in subschemas(SCHEMA):
        if schema.get("type") == "object":
            assert "additionalProperties" in schema, path


def test_the_patterns_are_those_of_the_units():
    definitions = SCHEMA["definitions"]
    assert definitions["size"]["pattern"] == units.SIZE_PATTERN
    assert definitions["sizeOrShare"]["pattern"] == units.SIZE_OR_SHARE_PATTERN
    assert definitions["share"]["pattern"] == units.SHARE_PATTERN
    assert definitions["duration"]["pattern"] == units.DURATION_PATTERN
    assert units.RATE_PATTERN[1:-1] in definitions["rate"]["pattern"]


def test_the_formats_are_those_of_the_schema():
    assert tuple(SCHEMA["definitions"]["model"]["properties"]["format"]["examples"]) == FORMATS


def test_every_built_in_scheme_is_a_source_for_the_schema():
    validator = VALIDATOR.evolve(schema=SCHEMA["definitions"]["source"])
    assert all(validator.is_valid(form.partition(" or ")[0]) for form in FORMS.values())


def test_the_schema_is_found_in_a_wheel_first_and_beside_the_package_second(tmp_path):
    package = tmp_path / "site" / "reconciler"
    for folder, text in ((package / "schemas", "inside"), (package.parent / "schemas", "beside")):
        folder.mkdir(parents=True)
        (folder / "manifest.v1.schema.json").write_text(text)
    assert schema_text("manifest", package) == "inside"
    (package / "schemas" / "manifest.v1.schema.json").unlink()
    assert schema_text("manifest", package) == "beside"
    assert schema_names(package) == ("manifest",)


def test_the_schema_of_this_checkout_is_found():
    assert "manifest" in schema_names()
    assert json.loads(schema_text("manifest")) == SCHEMA


@pytest.mark.parametrize("name", ["nothing", "../manifest", "manifest/../manifest", ""])
def test_an_unknown_schema_is_refused(name):
    with pytest.raises(Failure) as caught:
        schema_text(name)
    assert caught.value.reason == "unknown_schema"
    assert "manifest" in caught.value.hint


# --- two readers, one verdict ------------------------------------------------------------------------------------


def ours(data):
    """Whether our walker accepts the one document, and its plain value; None where YAML itself was refused."""
    findings = Findings()
    reading = read(data, "m", {}, findings)
    if len(findings) or len(reading.documents) != 1:
        return None, None
    value = plain(reading.documents[0])
    Walker(manifest_schema(), findings).check(reading.documents[0])
    return len(findings) == 0, value


@pytest.mark.parametrize("case", [*SECTIONS, *MODELS, *SOURCES], ids=lambda case: case.name)
def test_jsonschema_agrees_on_the_corpus(case):
    if case.environ:
        return
    verdict, value = ours(case.data)
    if verdict is not None:
        assert verdict == VALIDATOR.is_valid(value)


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD.keys())
def test_jsonschema_agrees_on_what_is_good(text):
    verdict, value = ours(text.encode())
    assert verdict is True
    assert VALIDATOR.is_valid(value)


STRANGE = [
    None,
    True,
    False,
    0,
    1,
    -1,
    65,
    2.5,
    8.0,
    "",
    "x",
    "never",
    "auto",
    "60%",
    "40GiB",
    "30d",
    "1h30m",
    "20MB/s",
]
STRANGE += [">=8GiB", "https://h/x", "a" * 200, [], ["x"], [1], {}, {"x": 1}, {"env": "A"}, {"env": "A", "file": "/b"}]


def places(value):
    """Every container in ``value``."""
    if isinstance(value, dict | list):
        yield value
        for child in value.values() if isinstance(value, dict) else value:
            yield from places(child)


def mutate(rng, document):
    """One to three random changes anywhere."""
    document = copy.deepcopy(document)
    for _ in range(rng.randint(1, 3)):
        container = rng.choice(list(places(document)))
        if isinstance(container, dict):
            key = rng.choice([*container, "x", "source", "type", "-bad"])
            if key in container and rng.random() < 0.3:
                del container[key]
            else:
                container[key] = copy.deepcopy(rng.choice(STRANGE))
        elif container and rng.random() < 0.5:
            container[rng.randrange(len(container))] = copy.deepcopy(rng.choice(STRANGE))
        else:
            container.append(copy.deepcopy(rng.choice(STRANGE)))
    return document


def test_jsonschema_agrees_on_thousands_of_mutations():
    rng = random.Random(20261123)
    seeds = [ours(text.encode())[1] for text in GOOD.values()]
    verdicts = {True: 0, False: 0}
    for _ in range(2000):
        document = mutate(rng, rng.choice(seeds))
        verdict, value = ours(json.dumps(document).encode())  # JSON is YAML
        assert value == document
        assert verdict == VALIDATOR.is_valid(document), json.dumps(document)
        verdicts[verdict] += 1
    assert min(verdicts.values()) > 50


def test_the_schema_file_ends_in_one_newline():
    path = Path(__file__).parents[3] / "schemas" / "manifest.v1.schema.json"
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
