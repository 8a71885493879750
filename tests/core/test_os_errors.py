"""What an error of the operating system means: the same word whoever met it."""

import errno
import os

import pytest

from reconciler.core.errors import FailureKind
from reconciler.core.os_errors import map_os_error

TRANSIENT, PERMANENT, REFUSED = FailureKind.TRANSIENT, FailureKind.PERMANENT, FailureKind.REFUSED


def mapped(number: int):
    return map_os_error(OSError(number, os.strerror(number), "/secret/place"), "cannot place whisper-base")


@pytest.mark.parametrize(
    ("numbers", "kind", "reason"),
    [
        ((errno.ENOSPC, errno.EDQUOT), TRANSIENT, "no_space"),
        ((errno.EROFS,), TRANSIENT, "read_only"),
        ((errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE), TRANSIENT, "io_error"),
        ((errno.EMFILE, errno.ENFILE), TRANSIENT, "too_many_files"),
        ((errno.EACCES, errno.EPERM), TRANSIENT, "permission_denied"),
        ((errno.ENOENT,), TRANSIENT, "file_vanished"),
        ((errno.EBUSY, errno.ETXTBSY), TRANSIENT, "file_busy"),
        ((errno.ENOMEM,), TRANSIENT, "no_memory"),
        ((errno.EEXIST, errno.ENOTEMPTY), TRANSIENT, "unexpected_file"),
        ((errno.ENOTDIR, errno.EISDIR), REFUSED, "unexpected_file"),
        ((errno.ELOOP,), REFUSED, "path_escape"),
        ((errno.ENAMETOOLONG,), PERMANENT, "name_too_long"),
        ((errno.EFBIG,), PERMANENT, "file_too_large"),
        ((errno.EXDEV, errno.ENOTTY, 99999), TRANSIENT, "io_error"),  # unknown: it may pass
    ],
)
def test_errors_are_sorted_by_what_would_help(numbers, kind, reason):
    for number in numbers:
        failure = mapped(number)
        assert (failure.kind, failure.reason) == (kind, reason)
        assert failure.message == f"cannot place whisper-base: {os.strerror(number)}"
        assert failure.hint


def test_only_what_the_same_input_meets_again_is_permanent():
    permanent = {number for number in errno.errorcode if mapped(number).kind is PERMANENT}
    assert permanent == {errno.ENAMETOOLONG, errno.EFBIG}


def test_an_error_without_a_number_is_told_by_its_class():
    failure = map_os_error(TimeoutError(), "cannot read a")
    assert (failure.kind, failure.reason, failure.message) == (TRANSIENT, "io_error", "cannot read a: TimeoutError")


def test_a_real_error_is_mapped_and_the_caller_names_the_place(tmp_path):
    with pytest.raises(OSError) as caught:
        (tmp_path / "nothing").read_bytes()
    failure = map_os_error(caught.value, "cannot read a")
    assert failure.reason == "file_vanished"
    assert str(tmp_path) not in failure.message
