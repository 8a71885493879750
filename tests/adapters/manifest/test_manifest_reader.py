"""The reader: YAML 1.2 core types with places, and a price that cannot be driven up."""

import json
import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from reconciler.adapters.manifest import reader
from reconciler.adapters.manifest.findings import Findings
from reconciler.adapters.manifest.reader import Limits, read
from reconciler.adapters.manifest.strictness import check
from reconciler.adapters.manifest.tree import merge, plain, resolve
from reconciler.core.errors import MAX_PROBLEMS


def values(text, environ=None, limits=reader.DEFAULT_LIMITS):
    findings = Findings()
    data = text if isinstance(text, bytes) else text.encode()
    reading = read(data, "m", environ or {}, findings, limits)
    return [plain(node) for node in reading.documents], [str(problem) for problem in findings.problems]


def value(text, environ=None):
    documents, problems = values(text, environ)
    assert problems == []
    return documents[0]


CORE = {
    "~": None,
    "null": None,
    "": None,
    "nULL": "nULL",
    "true": True,
    "FALSE": False,
    "yes": "yes",
    "no": "no",
    "on": "on",
    "Off": "Off",
    "12": 12,
    "-7": -7,
    "+7": 7,
    "007": 7,
    "0o17": 15,
    "0x1F": 31,
    "0b11": "0b11",
    "1_000": "1_000",
    "1.5": 1.5,
    ".5": 0.5,
    "5.": 5.0,
    "1e3": 1000.0,
    "1.10": 1.1,
    "190:20:30": "190:20:30",
    "2026-11-23": "2026-11-23",
    "2026-11-23T10:00:00Z": "2026-11-23T10:00:00Z",
    "0x": "0x",
    "-": "-",
    "..": "..",
    "1.2.3": "1.2.3",
    "=": "=",
}


@pytest.mark.parametrize(("text", "expected"), CORE.items())
def test_plain_scalars_follow_the_core_schema(text, expected):
    kind, found = resolve(text)
    assert found == expected
    assert type(found) is type(expected)
    assert kind in {"null", "boolean", "integer", "number", "string"}


@pytest.mark.parametrize("quote", ["'", '"'])
@pytest.mark.parametrize("text", ["no", "12", "~", "true", ""])
def test_what_stands_in_quotes_is_text(text, quote):
    assert value(f"a: {quote}{text}{quote}\n") == {"a": text}


def test_block_scalars_are_text():
    assert value("a: |\n  12\nb: >-\n  x\n  y\n") == {"a": "12\n", "b": "x y"}


def test_every_value_and_key_has_its_place():
    findings = Findings()
    root = read(b"# c\na: 1\nb:\n  - {c: x}\n  - 'y'\n", "m", {}, findings).documents[0]
    listed = root.value["b"].value
    assert (root.value["a"].key_place, root.value["a"].place) == (("m", 2, 1), ("m", 2, 4))
    assert listed[0].place == ("m", 4, 5)
    assert (listed[0].value["c"].key_place, listed[0].value["c"].place) == (("m", 4, 6), ("m", 4, 9))
    assert listed[1].key_place == listed[1].place == ("m", 5, 5)


def test_columns_count_characters_not_bytes():
    _, problems = values('"ü": 1\n"äöü": {ß: *x}\n')
    assert problems[0].startswith("m:2:12: the alias *x")


def test_the_source_text_of_a_number_is_kept():
    findings = Findings()
    root = read(b"a: 1.10\nb: 0o17\n", "m", {}, findings).documents[0]
    assert [child.text for child in root.value.values()] == ["1.10", "0o17"]


def test_every_document_comes_in_order():
    documents, problems = values("a: 1\n---\nb: 2\n...\n---\n- c\n")
    assert (documents, problems) == ([{"a": 1}, {"b": 2}, ["c"]], [])


def test_reading_goes_on_after_what_is_refused():
    documents, problems = values("a: &x 1\na: 2\nb: *x\n? [k]\n: v\n1: 2\n<<: {d: 4}\nc: !!int 3\ne: 5\n")
    assert len(problems) == 7
    assert documents[0]["a"] == 1
    assert documents[0]["e"] == 5
    assert "d" not in documents[0]


@pytest.mark.parametrize(
    "text",
    [
        'a: "x" # y\n#z\n # tab\t#\nb: c#d\ne: \'#\'\nf: >- # g\n  h#i\n  "j"#k\n',
        "a: [ # b\n  c, # d\n# e\n  f,\n\n]\ng: {\n}\n",  # what closes may stand at the column of its key
        '{\n\t"a": [\n\t\t1\n\t]\n}\n',  # JSON: no key above it, no indentation asked for
        "- [\n a]\n- b:\n  - {c: d,\n   e: f}\n- - [\n   g]\n",
        'a:\n- "b\n\n c"\n- \'d\n e\'\nf: "\n"\n',
        "d: [\n \te]\n",
        '"a\nb"\n',
        "%YAML 1.2\n---\na: |\n %\n...\n# x\n%YAML 1.2\n---\nb: 1\n",
        "a: [b]\r\nc: [\r\n d]\r\n",
    ],
)
def test_what_yaml_allows_is_not_refused_on_the_second_look(text):
    documents, problems = values(text)
    assert documents
    assert problems == []


@given(
    st.recursive(
        st.text(max_size=30),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text("ab# ", min_size=1, max_size=3), inner, max_size=4)
        ),
        max_leaves=12,
    ),
    st.sampled_from([True, False, None]),
    st.sampled_from([None, "'", '"']),
)
def test_what_another_program_writes_is_not_refused_on_the_second_look(value, flow, style):
    text = yaml.safe_dump({"x": {"y": value}}, default_flow_style=flow, default_style=style, width=10)
    findings = Findings()
    check(yaml.CSafeLoader, text, "m", findings, None)
    assert findings.problems == ()


def test_a_flow_collection_is_told_once_and_a_second_look_ends_with_the_first_thousand():
    assert len(values("a: [\nb,\nc,\nd]\n")[1]) == 1
    text = "".join(f"a{index}: [\nb]\n" for index in range(MAX_PROBLEMS + 100))
    assert len(values(text)[1]) == MAX_PROBLEMS


def test_the_pure_python_parser_gives_the_same(monkeypatch):
    text = b"a: [1, {b: no}]\nc: 'x'#x\na: 3\nf: [\ng]\n---\nd: |\n  e\n"
    fast = values(text)
    monkeypatch.setattr(reader, "_LOADER", yaml.SafeLoader)
    assert values(text) == fast
    assert values(b"a:\n\t- b\n")[1] == ["m:2:1: a tab; expected spaces (YAML is indented with spaces only)"]


# --- the environment ---------------------------------------------------------------------------------------------

ENVIRONMENT = {
    "N": "8",
    "WORD": "no",
    "EMPTY": "",
    "URL": "https://h/x",
    "LONG": "9" * 1000,
    "REF": "${N}",
    "INF": ".inf",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${N}", 8),
        ("'${N}'", "8"),
        ("${N}0", 80),
        ("${WORD}", "no"),
        ("${EMPTY}", ""),
        ("${URL}?a=$b", "https://h/x?a=$b"),
        ("x${N}y${WORD}", "x8yno"),
        ("$${N}", "${N}"),
        ("$$${N}", "$${N}"),
        ("$N", "$N"),
        ("${LONG}", "9" * 1000),
        ("${REF}", "${N}"),
        ("${INF}", ".inf"),
    ],
)
def test_a_reference_is_replaced_once_and_read_again(text, expected):
    assert value(f"a: {text}\n", ENVIRONMENT) == {"a": expected}


def test_a_reference_in_a_key_stays_as_it_is():
    assert value('"${N}": 1\n', ENVIRONMENT) == {"${N}": 1}


def test_every_wrong_reference_has_its_own_place():
    _, problems = values("a: x${A}y${B}\nb: '${C}'\nc: |\n  ${D}\n")
    assert [problem.partition(";")[0] for problem in problems] == [
        "m:1:5: ${A}, which is not set",
        "m:1:10: ${B}, which is not set",
        "m:2:5: ${C}, which is not set",
        "m:3:4: ${D}, which is not set",
    ]


def test_an_environment_that_is_no_utf_8_is_refused():
    _, problems = values("a: ${A}\n", {"A": "x\udcff"})
    assert problems == ["m:1:4: ${A}, whose value is no UTF-8; expected UTF-8 text"]


# --- what it may cost --------------------------------------------------------------------------------------------

LINES = "apiVersion: reconciler/v1\nmodels:\n"
BOMBS = {
    "billion laughs": "a: &a [x,x]\n"
    + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)},*{chr(97 + i)}]\n" for i in range(24)),
    "merge keys": "a: &a {x: 1}\n" + "".join(f"b{i}: &b{i} {{<<: [*a, *a, *a]}}\n" for i in range(20000)),
    "brackets": "[" * 4_000_000,
    "braces": "{a: " * 1_000_000,
    "question marks": "? " * 2_000_000,
    "dashes": "- " * 2_000_000,
    "closing brackets": "]" * 4_000_000,
    "one long key": "a" * 4_000_000 + ": b\n",
    "one long number": "a: " + "9" * 4_000_000,
    "one long text": 'a: "' + "x" * 4_000_000 + '"\n',
    "one long comment": "#" * 4_000_000,
    "one long tag": "!" * 4_000_000,
    "one long anchor": "a: &" + "b" * 4_000_000 + " c\n",
    "one long alias": "a: *" + "b" * 4_000_000 + "\n",
    "one long link": "a: https://h/" + "b" * 4_000_000 + "\n",
    "directives": "%" * 4_000_000,
    "anchors": "".join(f"k{i}: &a{i} x\n" for i in range(200_000)),
    "equal keys": "a: 1\n" * 700_000,
    "NULs": "\0" * 4_000_000,
    "line ends": "\n" * 4_000_000,
    "documents": "--- a\n" * 500_000,
    "colons": ": " * 2_000_000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_costs_less_than_a_second(text):
    data = text.encode()
    findings = Findings()
    start = time.process_time()
    read(data, "m", {}, findings)
    assert time.process_time() - start < 1
    assert len(findings) <= MAX_PROBLEMS
    assert all(len(str(problem)) < 1000 for problem in findings.problems)


def test_a_file_that_is_too_large_is_not_parsed():
    _, problems = values("a: " + "x" * 100, limits=Limits(size_bytes=50))
    assert problems == ["m:1:1: a file of more than 50 bytes; expected at most 50 bytes"]


def test_a_file_with_too_many_values_ends_there():
    documents, problems = values("[1, 2, 3, 4]", limits=Limits(values=3))
    assert problems == ["m:1:8: more than 3 values; expected a manifest of at most 3 values"]
    assert documents == [[1, 2]] or documents == [[1, None]]


def test_nesting_ends_at_its_limit():
    assert values("[[1]]", limits=Limits(depth=2))[1] == []
    assert values("[[[1]]]", limits=Limits(depth=2))[1] == [
        "m:1:3: nesting deeper than 2; expected a manifest that is less deep"
    ]


@given(st.binary(max_size=200))
def test_any_bytes_give_trees_or_problems_and_nothing_else(data):
    documents, problems = values(data)
    assert documents or problems or not data.decode(errors="ignore").strip() or b"#" in data or b"%" in data


@given(st.text(st.sampled_from("ab:-?[]{},&*!|>'\"%@`# \n\t~1.$<"), max_size=60))
def test_any_yaml_like_text_gives_trees_or_problems_and_nothing_else(text):
    documents, problems = values(text)
    assert isinstance(documents, list)
    assert all(problem.startswith("m:") for problem in problems)


# --- merging -----------------------------------------------------------------------------------------------------


def tree(text, label="m"):
    return read(text.encode(), label, {}, Findings()).documents[0]


def test_mappings_merge_key_by_key_and_all_else_is_replaced():
    lower, upper = tree("a: {x: 1, y: [1, 2]}\nb: {z: 1}\nc: 1\n"), tree("a: {y: [3], w: 4}\nb: 5\nc: {d: 6}\n")
    assert plain(merge(lower, upper)) == {"a": {"x": 1, "y": [3], "w": 4}, "b": 5, "c": {"d": 6}}


def test_the_winner_keeps_its_place():
    merged = merge(tree("a: {x: 1}\nb: 2\n", "low"), tree("\n\na: {y: 3}\n", "high"))
    assert merged.value["a"].value["x"].place == ("low", 1, 8)
    assert merged.value["a"].value["y"].place == ("high", 3, 8)
    assert merged.value["b"].place == ("low", 2, 4)


_JSON = st.recursive(
    st.integers() | st.text("abc", max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def _expected(lower, upper):
    if not isinstance(lower, dict) or not isinstance(upper, dict):
        return upper
    both = {key: _expected(lower[key], upper[key]) for key in lower.keys() & upper.keys()}
    return {**lower, **upper, **both}


@given(_JSON, _JSON)
def test_merging_trees_is_merging_values_and_changes_neither(lower, upper):
    low, high = tree(json.dumps(lower)), tree(json.dumps(upper))
    assert plain(merge(low, high)) == _expected(lower, upper)
    assert (plain(low), plain(high)) == (lower, upper)
