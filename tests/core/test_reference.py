"""A source is read by its words alone: what it names, whether it is a tree, what it must not hold."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.reference import FORMS, display, parse_reference, scheme_of

FILES = {
    "https://h.example/a/m.gguf": "m.gguf",
    "https://h.example/a/m%20n.gguf?token=1": "m n.gguf",
    "HTTP://h.example:8080/m": "m",
    "http://[::1]:80/m": "m",
    "file:///abs/m.gguf": "m.gguf",
    "file://localhost/abs/m.gguf": "m.gguf",
    "file:models/m%20n.gguf": "m n.gguf",
    "file:./m": "m",
    "file:../m#1?.gguf": "m#1?.gguf",
    "hf://org/repo/onnx/model.onnx": "model.onnx",
    "hf://org/repo.v1@main/m": "m",
    "hf://org/repo@refs%2Fpr%2F1/m": "m",
    "hf://org/repo/sub%20dir/a%20b.bin": "a b.bin",
    "s3://bucket/a/m%20n?.gguf": "m%20n?.gguf",
    "gs://bucket/m": "m",
    "az://container/m": "m",
}
TREES = [
    "hf://org/repo",
    "hf://org/repo:Q4_K_M",
    "hf://org/repo@0123abc",
    "hf://org/repo:Q8_0@main",
    "s3://bucket/",
    "s3://bucket/prefix/",
    "gs://bucket/prefix/",
    "oci://registry.example/org/model:v1",
    "oci://localhost:5000/model@sha256:" + "0" * 64,
    "oci://registry.example/model",
    "ollama://llama3.2:1b",
    "ollama://library/llama3.2",
    "ollama://hf.co/org/repo:Q4_K_M",
]


@pytest.mark.parametrize(("text", "name"), FILES.items())
def test_a_file_is_called_after_its_last_segment(text, name):
    reference = parse_reference(text, "/etc/reconciler")
    assert (reference.is_tree, reference.file_name) == (False, name)


@pytest.mark.parametrize("text", TREES)
def test_a_tree_has_no_file_name(text):
    reference = parse_reference(text)
    assert reference.is_tree
    assert reference.url == text


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("file:models/m.gguf", "file:///etc/reconciler/models/m.gguf"),
        ("file:./m 1.gguf", "file:///etc/reconciler/m%201.gguf"),
        ("file:../m", "file:///etc/m"),
        ("file:/a/../../m", "file:///m"),
        ("file:///a%2Fb/m?", "file:///a/b/m%3F"),
        ("file://localhost//a/m", "file:///a/m"),
        ("HTTPS://H.example/m", "https://H.example/m"),
    ],
)
def test_a_url_comes_out_absolute_and_in_one_form(text, url):
    assert parse_reference(text, "/etc/reconciler").url == url


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=20))
def test_a_file_url_is_a_fixed_point(name):
    try:
        once = parse_reference(f"file:{name}", "/folder").url
    except ValueError:
        return
    assert parse_reference(once).url == once


BAD = {
    "hf://o/r@..%2F..%2Fx/y": "this revision leaves its folder",
    "hf://o/r@a%0A": "this revision holds a control character",
    "hf://o/r/..%2f..%2fx.bin": "this one leaves its folder",
    "": "a source such as",
    "models/m.gguf": "a source such as",
    "https:h/x": "with a host",
    "https://h\\x": "without the character",
    "https://user@h/x": "network.credentials",
    "https://user:pw@h/x": "network.credentials",
    "https://h/x#f": "#fragment",
    "https://h:0/x": "with a host",
    "https://[::1/x": "host and port",
    "https://h/a\nb": "control characters",
    "hf://org/repo/a//b": "holds an empty segment",
    "hf://org/repo/x?y": "without ? and #",
    "hf://or g/repo": "without spaces",
    "hf://org/repo/sub/": "the path of one file",
    "hf://org/repo:Q8_0/x": "either :QUANT",
    "s3://bucket/a\x00b": "without control characters",
    "oci://registry/repo:": "an image",
    "oci://registry/repo@sha256:short": "an image",
    "ollama://": "a model",
    "file:": "the path of one file",
    "file:..": "the path of one file",
    "file:%ff": "UTF-8",
    "toy://user@host/x": "network.credentials",
    "https://h/" + "a" * 9000: "a source such as",
}


@pytest.mark.parametrize(("text", "phrase"), BAD.items())
def test_a_bad_reference_says_what_was_expected(text, phrase):
    with pytest.raises(ValueError, match=r"^(a|an|the|either) .*") as caught:
        parse_reference(text, "/folder")
    assert phrase in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "https://h/..",
        "https://h/%2e%2e",
        "https://h/a%2fb",
        "https://h/a%5Cb",
        "https://h/%00",
        "https://h/",
        "s3://b/..",
        "s3://b/C:x",
    ],
)
def test_a_hostile_last_segment_is_no_file_name(text):
    with pytest.raises(ValueError, match="file name"):
        _ = parse_reference(text).file_name


def test_a_relative_file_needs_a_folder():
    with pytest.raises(ValueError, match="no manifest folder"):
        parse_reference("file:m.gguf", None)


def test_a_scheme_that_somebody_else_registered_is_only_split():
    assert parse_reference("toy://host/a/m.bin?x=1").file_name == "m.bin"
    assert parse_reference("toy://host/a/").is_tree
    assert parse_reference("toy:thing").is_tree


@given(st.sampled_from(sorted(FORMS)), st.text(max_size=30))
def test_only_a_value_error_comes_out_of_any_text(scheme, rest):
    for text in (rest, f"{scheme}:{rest}", f"{scheme}://{rest}"):
        with contextlib.suppress(ValueError):
            reference = parse_reference(text, "/folder")
            assert reference.is_tree or reference.file_name


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@h/x?sig=s3cret#f", "https://h/x"),
        ("https://me:p@ss@h/x", "https://h/x"),
        ("s3://bucket/a?b", "s3://bucket/a?b"),
        ("https://h/\x1b[31m", "https://h/\ufffd[31m"),
    ],
)
def test_people_see_no_user_query_or_control_character(url, shown):
    assert display(url) == shown


def test_the_scheme_is_in_lower_case():
    assert scheme_of("HF://org/repo") == "hf"
    assert scheme_of("no scheme") == ""
