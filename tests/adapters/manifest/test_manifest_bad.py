"""Every bad manifest is told in full: each place, what stands there, what was expected, the nearest word."""

import pytest
from manifest_bad_models import CASES as MODELS
from manifest_bad_secrets import CASES as SECRETS
from manifest_bad_sections import CASES as SECTIONS
from manifest_bad_sources import CASES as SOURCES
from manifest_bad_syntax import CASES as SYNTAX

from reconciler.adapters.manifest import load_documents
from reconciler.core.errors import FailureKind, ManifestInvalid

CASES = (*SYNTAX, *SECTIONS, *MODELS, *SOURCES, *SECRETS)


def test_the_corpus_is_large_and_every_name_stands_once():
    assert len({case.name for case in CASES}) == len(CASES) >= 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_manifest_gives_every_problem_with_its_place(case):
    with pytest.raises(ManifestInvalid) as caught:
        load_documents([("models.yaml", case.data, "/etc/reconciler")], case.environ)
    assert tuple(told(problem) for problem in caught.value.problems) == case.expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_problem_reads_well_and_holds_no_secret(case):
    with pytest.raises(ManifestInvalid) as caught:
        load_documents([("models.yaml", case.data, "/etc/reconciler")], case.environ)
    failure = caught.value
    assert failure.reason == "manifest_invalid"
    assert failure.kind is FailureKind.PERMANENT
    for problem in failure.problems:
        line = str(problem)
        assert line.startswith(f"models.yaml:{problem.line}:{problem.column}: ")
        assert problem.found
        assert problem.expected
        assert line.isprintable()
        assert "None" not in line
        assert "s3cret" not in line + problem.path


def told(problem):
    nearest = problem.hint.removeprefix("did you mean ").removesuffix("?")
    hint = f" → {nearest}" if nearest != problem.hint else ""
    return f"{problem.line}:{problem.column} {problem.found}{hint}"
