"""Names that strangers choose stay below the folder they are joined to."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.errors import Failure, FailureKind
from reconciler.core.names import check_collisions, check_digest, check_path, check_segment, quote

HOSTILE = {
    "empty": "",
    "dot only": ".",
    "parent": "..",
    "traversal": "a/../../etc/passwd",
    "absolute": "/etc/passwd",
    "UNC": "\\\\server\\share\\x",
    "UNC with slashes": "//server/share/x",
    "backslash": "a\\b",
    "drive": "C:/x",
    "drive behind a dot": "./C:x",
    "drive relative": "c:x",
    "NUL": "a\0b",
    "newline": "a\nb",
    "escape": "a\x1b[2Jb",
    "C1 control": "a\x9bb",
    "delete": "a\x7f",
    "line separator": "a\u2028b",
    "bidi override": "a\u202egnp.exe",
    "lone surrogate": "a\udc80b",
    "empty segment": "a//b",
    "trailing slash": "a/",
    "256 bytes": "a" * 256,
    "256 bytes in 128 characters": "é" * 128,
    "too long": "/".join(["a" * 250] * 9),
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_name_is_refused_for_good_and_quoted_so_that_it_prints(name: str) -> None:
    with pytest.raises(Failure) as caught:
        check_path(name, "repository file")
    assert (caught.value.kind, caught.value.reason) == (FailureKind.PERMANENT, "hostile_name")
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("model.onnx", "model.onnx"),
        ("./a/b.bin", "a/b.bin"),
        ("a/./b", "a/b"),
        ("..a/b..", "..a/b.."),
        ("a" * 255, "a" * 255),
        ("模型/权重.gguf", "模型/权重.gguf"),
        ("a b.c", "a b.c"),
        ("%2e%2e/x", "%2e%2e/x"),
        (".gitattributes", ".gitattributes"),
    ],
)
def test_an_honest_name_is_kept_in_normal_form(name: str, path: str) -> None:
    assert check_path(name) == path


def test_a_segment_holds_no_slash() -> None:
    assert check_segment("a") == "a"
    with pytest.raises(Failure, match="slash"):
        check_segment("a/b")


@given(st.text(st.characters(), max_size=60) | st.text("./\\aC:\0 ", max_size=12))
def test_whatever_passes_stays_inside(name: str) -> None:
    try:
        path = check_path(name)
    except Failure:
        return
    joined = posixpath.normpath(posixpath.join("/store/models/m", path))
    assert joined == f"/store/models/m/{path}"
    assert check_path(path) == path


@pytest.mark.parametrize(
    "paths",
    [
        ("a", "a"),
        ("Model.bin", "model.BIN"),
        ("caf\u00e9", "cafe\u0301"),
        ("\ufb01le", "file"),
        ("stra\u00dfe", "STRASSE"),
        ("a.", "a"),
        ("a ", "a"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/b", "A"),
        ("A", "a/b"),
        ("A/x", "a/y"),
    ],
)
def test_names_that_cannot_lie_side_by_side_are_refused(paths: tuple[str, str]) -> None:
    with pytest.raises(Failure, match="collides") as caught:
        check_collisions(paths)
    assert caught.value.reason == "hostile_name"


def test_names_that_can_lie_side_by_side_pass() -> None:
    check_collisions(["a/x", "a/y", "b/x", "a.b", "ab", "a/c/d", "..", "..."])


@given(st.lists(st.text("ab/", min_size=1, max_size=5), max_size=6))
def test_the_order_of_names_does_not_matter(names: list[str]) -> None:
    paths = [name for name in names if "//" not in name and not name.startswith("/") and not name.endswith("/")]

    def collide(items: list[str]) -> bool:
        try:
            check_collisions(items)
        except Failure:
            return True
        return False

    assert collide(paths) == collide(paths[::-1])


def test_a_digest_is_64_hex_digits_and_nothing_else() -> None:
    plain = "AB" * 32
    wanted = f"sha256:{plain.lower()}"
    assert check_digest(plain) == check_digest(f"sha256:{plain}") == check_digest(f"sha256-{plain}") == wanted
    for bad in ("", "sha256:", "sha512:" + plain, plain + "\n", "sha256:../" + plain, plain[:-1]):
        with pytest.raises(Failure, match="no SHA-256 digest") as caught:
            check_digest(bad)
        assert caught.value.reason == "bad_digest"


def test_quoting_cuts_long_names() -> None:
    assert quote("x" * 500, 10) == "'xxxxxxxxx…'"
    assert quote("x" * 10, 10) == "'xxxxxxxxxx'"
    assert quote("a'b\u202e") == '"a\'b\\u202e"'
