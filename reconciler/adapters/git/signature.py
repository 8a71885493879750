"""Who signed a commit: ``git verify-commit`` against signers that the machine's owner allows.

The signers stand in a file (ssh, the format of ``ssh-keygen`` ALLOWED SIGNERS) or in the folder of a GnuPG key ring
that was made for this. They come from this machine, never from the repository. A commit counts as signed where it is
signed itself, or where the annotated tag that is followed is signed and bears the name that it is followed by.
"""

import re
from pathlib import Path

from reconciler.adapters.git.faults import quote
from reconciler.adapters.git.program import Program
from reconciler.core.errors import Failure, permanent, refused

# What GnuPG (words after ``[GNUPG:]``) and ssh-keygen say; the first row whose words are found counts.
_WHY = tuple(
    (re.compile(words), told)
    for words, told in (
        (r"\[GNUPG:\] REVKEYSIG (\w+)", "its key {} was revoked"),
        (r"\[GNUPG:\] EXPKEYSIG (\w+)", "its key {} has expired"),
        (r"\[GNUPG:\] EXPSIG (\w+)", "the signature by key {} has expired"),
        (r"\[GNUPG:\] NO_PUBKEY (\w+)", "its key {} is not in the key ring"),
        (r"\[GNUPG:\] BADSIG|incorrect signature", "the signature belongs to other content"),
        (r"key (SHA256:\S+)\n(?:.*\n)*?.*key has expired", "its key {} has expired"),
        (r"key (SHA256:\S+)\n(?:.*\n)*No principal matched", "its key {} is not among them"),
    )
)


def check_signers(signers: str) -> None:
    """See that there are signers at all.

    Raises:
        Failure: permanent ``git_signers_missing``.
    """
    path = Path(signers)
    try:
        is_there = path.is_dir() or (path.is_file() and path.stat().st_size > 0)
    except OSError:
        is_there = False
    if not is_there:
        hint = "write an allowed-signers file (ssh-keygen), or name the folder of a GnuPG key ring"
        raise permanent("git_signers_missing", f"there are no allowed signers at {signers}", hint=hint)


def check_signature(program: Program, commit: str, tag: str, ref: str | None) -> None:
    """Verify ``commit``, or the annotated tag at the ref ``tag`` here that is followed as ``ref``.

    Raises:
        Failure: refused ``git_unsigned``.
    """
    ran = program.run(["verify-commit", "--raw", commit])
    if ran.code == 0 or _is_tag_signed(program, tag, ref):
        return
    raise _unsigned(commit, ran.errors)


def _is_tag_signed(program: Program, tag: str, ref: str | None) -> bool:
    if ref is None:
        return False
    found = program.run(["cat-file", "tag", tag])
    name = ref.removeprefix("refs/tags/")
    head = found.output.decode(errors="replace").partition("\n\n")[0].splitlines()
    if found.code or f"tag {name}" not in head:
        return False
    return program.run(["verify-tag", "--raw", tag]).code == 0


def _unsigned(commit: str, errors: str) -> Failure:
    hint = "sign the commit with an allowed key; the last good one stays in force"
    if not errors.strip():
        return refused("git_unsigned", f"commit {commit} is not signed", hint=hint)
    why = next((told.format(*found.groups()) for words, told in _WHY if (found := words.search(errors))), quote(errors))
    return refused("git_unsigned", f"commit {commit} is not signed by an allowed signer: {why}", hint=hint)
