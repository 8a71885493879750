"""file: a file of this machine is looked at and left alone."""

import os
from pathlib import Path

import pytest
from asking import MODEL, Context, artifact

from reconciler.adapters.sources.local import LocalSource
from reconciler.core.errors import Failure, FailureKind

SOURCE = LocalSource()


def test_a_file_has_its_size(tmp_path: Path, context: Context) -> None:
    path = tmp_path / "a b#?%41.bin"
    path.write_bytes(b"12345")
    url = path.as_uri()
    file = SOURCE.resolve(MODEL, artifact(url, path="x.bin"), url, context).files[0]
    assert (file.path, file.size_bytes, file.digest) == ("x.bin", 5, None)
    assert SOURCE.resolve(MODEL, artifact(url, path=""), url, context).files[0].path == path.name
    assert SOURCE.locate(file, url, context).label == str(path)


def test_bytes_that_are_no_utf8_name_a_file_too(tmp_path: Path, context: Context) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"a\xff.bin")
    with open(path, "wb") as file:
        file.write(b"xy")
    url = f"file://{tmp_path}/a%FF.bin"
    assert SOURCE.resolve(MODEL, artifact(url, path="x"), url, context).files[0].size_bytes == 2


@pytest.mark.parametrize(
    ("suffix", "reason"), [("missing", "not_found"), ("", "not_a_file"), ("file/below", "not_found")]
)
def test_what_is_no_file_is_permanent(tmp_path: Path, context: Context, suffix: str, reason: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    url = f"file://{tmp_path}/{suffix}"
    with pytest.raises(Failure) as caught:
        SOURCE.resolve(MODEL, artifact(url), url, context)
    assert (caught.value.kind, caught.value.reason) == (FailureKind.PERMANENT, reason)


@pytest.mark.parametrize("url", ["file://server/share/x", "file:relative", "file:///a%00b"])
def test_another_machines_files_are_no_source(context: Context, url: str) -> None:
    with pytest.raises(Failure) as caught:
        SOURCE.resolve(MODEL, artifact(url), url, context)
    assert caught.value.reason == "bad_source"


def test_the_fingerprint_changes_with_the_file(tmp_path: Path, context: Context) -> None:
    path = tmp_path / "a"
    absent = SOURCE.fingerprint(path.as_uri(), context)
    path.write_bytes(b"1")
    first = SOURCE.fingerprint(path.as_uri(), context)
    assert first == SOURCE.fingerprint(path.as_uri(), context)
    path.write_bytes(b"22")
    assert len({absent, first, SOURCE.fingerprint(path.as_uri(), context)}) == 3
