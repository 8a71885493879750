"""Where a model comes from: the grammar of ``source:``.

A reference is checked here by its words alone; nothing is asked. It either stands for one file, which is named after
the last segment of its path, or for a whole tree (a repository, a bucket prefix, an image) that a source resolves
later. Secrets do not belong in it: user information is refused, and :func:`display` takes queries out of messages.

| scheme | one file | a tree |
|---|---|---|
| ``https`` ``http`` | ``https://HOST/…/NAME[?QUERY]`` | |
| ``file`` | ``file:///ABSOLUTE`` or ``file:RELATIVE`` (to the manifest) | |
| ``hf`` | ``hf://ORG/REPO[@REVISION]/PATH`` | ``hf://ORG/REPO[:QUANT][@REVISION]`` |
| ``s3`` ``gs`` ``az`` | ``s3://BUCKET/KEY``, the key as written | ``s3://BUCKET/PREFIX/`` |
| ``oci`` | | ``oci://HOST/REPO[:TAG][@sha256:HEX]`` |
| ``ollama`` | | ``ollama://[HOST/][NAMESPACE/]NAME[:TAG]`` |
"""

import posixpath
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote_to_bytes, urlsplit

from reconciler.core.errors import Failure
from reconciler.core.names import check_path, check_segment
from reconciler.core.records import dataclass

MAX_REFERENCE_CHARACTERS = 8192
FORMS: Mapping[str, str] = {
    "https": "https://HOST/PATH/NAME",
    "http": "http://HOST/PATH/NAME",
    "file": "file:///ABSOLUTE/PATH or file:RELATIVE/PATH",
    "hf": "hf://ORG/REPO[:QUANT][@REVISION][/PATH]",
    "s3": "s3://BUCKET/KEY or s3://BUCKET/PREFIX/",
    "gs": "gs://BUCKET/KEY or gs://BUCKET/PREFIX/",
    "az": "az://CONTAINER/KEY or az://CONTAINER/PREFIX/",
    "oci": "oci://HOST/REPO:TAG or oci://HOST/REPO@sha256:DIGEST",
    "ollama": "ollama://NAME:TAG",
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_BAD_CHARACTERS = re.compile(r"[\x00-\x20\x7f-\x9f\u2028\u2029<>\"\\^`{|}]")
_BAD_IN_RAW = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HUB_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB = re.compile(rf"hf://({_HUB_NAME})/({_HUB_NAME})(:[A-Za-z0-9._-]+)?(@[A-Za-z0-9%._-]+)?(/.*)?", re.DOTALL)
_BUCKET = re.compile(r"(?:s3|gs|az)://([A-Za-z0-9$][A-Za-z0-9._-]{0,221})/(.*)", re.DOTALL)
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_IMAGE = re.compile(rf"oci://{_HOST}/{_COMPONENT}(?:/{_COMPONENT})*(?::{_TAG})?(?:@sha256:[0-9a-f]{{64}})?")
_LIBRARY = re.compile(rf"ollama://(?:{_HOST}/)?(?:[A-Za-z0-9_.-]+/)?[A-Za-z0-9_][A-Za-z0-9_.-]*(?::{_TAG})?")


@dataclass(frozen=True, slots=True)
class Reference:
    """A source that reads well. ``last`` is the last segment of its path, decoded where its scheme encodes it.

    ``is_tree``: a source must first say which files it is made of.
    """

    url: str
    scheme: str
    last: str = ""
    is_tree: bool = False

    @property
    def file_name(self) -> str:
        """What a single file is called under ``models/``.

        Raises:
            ValueError: the last segment is missing or is no safe name.
        """
        if not self.last:
            raise ValueError("a URL that ends in a file name, or files: with a path for each")
        try:
            return check_segment(self.last)
        except Failure as failure:
            raise ValueError(
                f"a source whose last segment is a safe file name; this one {_trouble(failure)}"
            ) from failure


def parse_reference(text: str, folder: str | None = None) -> Reference:
    """Check ``text`` against the grammar of its scheme.

    Args:
        text: as the manifest has it.
        folder: the absolute folder that ``file:RELATIVE`` is relative to; None where there is none.

    Returns:
        the reference; a ``file`` URL comes out absolute, without ``..`` and percent-encoded.

    Raises:
        ValueError: its message is a phrase for "expected …". A scheme without a grammar here is only split.
    """
    match = _SCHEME.match(text)
    if match is None or len(text) > MAX_REFERENCE_CHARACTERS:
        raise ValueError("a source such as https://HOST/NAME, hf://ORG/REPO/PATH or file:PATH")
    scheme = match[1].lower()
    rest = text[match.end() :]
    if scheme in ("file", "s3", "gs", "az"):
        if _BAD_IN_RAW.search(text):
            raise ValueError("a source without control characters")
    elif bad := _BAD_CHARACTERS.search(text):
        raise ValueError(f"a URL without {_describe(bad[0])}")
    if scheme == "file":
        return _file(rest, folder)
    parser = _PARSERS.get(scheme, _foreign)
    return parser(f"{scheme}:{rest}", scheme)


def scheme_of(text: str) -> str:
    """The scheme, in lower case; empty where there is none."""
    match = _SCHEME.match(text)
    return match[1].lower() if match else ""


def is_lasting(url: str) -> bool:
    """Whether what a resolved reference stands for never changes: a commit, an image's digest. Objects and URLs do."""
    return scheme_of(url) not in ("https", "http", "file", "s3", "gs", "az")


def root_of(url: str) -> str:
    """The repository, bucket or image that a reference is within, with its scheme; a plain URL as it stands."""
    scheme, _, rest = url.partition("://")
    if scheme in ("s3", "gs", "az"):
        return f"{scheme}://{rest.partition('/')[0]}"
    if scheme == "hf":
        return f"hf://{'/'.join(re.split('[:@]', rest)[0].split('/')[:2])}"
    if scheme in ("oci", "ollama"):
        folder, slash, name = rest.partition("@")[0].rpartition("/")
        return f"{scheme}://{folder}{slash}{name.partition(':')[0]}"
    return url


def display(url: str) -> str:
    """``url`` for people: no user information, no query, no fragment, nothing that plays tricks on a terminal."""
    clean = re.sub(r"(?<=://)[^/?#]*@", "", url)
    if scheme_of(clean) not in ("s3", "gs", "az", "file"):  # there ? and # are part of the name
        clean = re.split(r"[?#]", clean, maxsplit=1)[0]
    if clean.isprintable():
        return clean
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in clean)


def _describe(character: str) -> str:
    if character == " ":
        return "spaces (write %20)"
    return f"the character {character}" if character.isprintable() else "control characters"


def _http(text: str, scheme: str) -> Reference:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("a URL whose host and port can be read") from None
    if "@" in parts.netloc:
        raise ValueError("a URL without user name or password; they go under network.credentials")
    if not parts.hostname or port == 0 or not text.startswith(f"{scheme}://"):
        raise ValueError(f"a URL with a host, {FORMS[scheme]}")
    if parts.fragment:
        raise ValueError("a URL without a #fragment; it is never sent")
    return Reference(text, scheme, _decode(parts.path.rpartition("/")[2]))


def _file(rest: str, folder: str | None) -> Reference:
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise ValueError("a file on this machine, file:///ABSOLUTE/PATH or file:RELATIVE/PATH")
        rest = slash + path
    path = _decode(rest)
    if not path or path.endswith("/") or posixpath.basename(path) in (".", ".."):
        raise ValueError("the path of one file; a folder is no source")
    if not path.startswith("/"):
        if folder is None:
            raise ValueError("an absolute file:///PATH; there is no manifest folder to be relative to")
        path = posixpath.join(folder, path)
    path = "/" + posixpath.normpath(path).lstrip("/")
    return Reference(f"file://{quote(path)}", "file", posixpath.basename(path))


def _hub(text: str, scheme: str) -> Reference:
    match = _HUB.fullmatch(text)
    if match is None:
        raise ValueError(f"a hub reference {FORMS[scheme]}")
    _check_revision(_decode((match[4] or "@main")[1:]))
    path = (match[5] or "/")[1:]
    if match[5] is None:
        return Reference(text, scheme, is_tree=True)
    if match[3] is not None:
        raise ValueError("either :QUANT, which picks a file, or a PATH, which names one")
    if not path or path.endswith("/"):
        raise ValueError("the path of one file after the repository; a folder is chosen with include:")
    if "?" in path or "#" in path:
        raise ValueError("a hub reference without ? and #")
    return Reference(text, scheme, _path_name(path))


def _check_revision(revision: str) -> None:
    """A branch or tag becomes part of URLs and, published, of paths."""
    try:
        check_path(revision)
    except Failure as failure:
        raise ValueError(f"a branch, tag or commit; this revision {_trouble(failure)}") from failure


def _bucket(text: str, scheme: str) -> Reference:
    match = _BUCKET.fullmatch(text)
    if match is None:
        raise ValueError(f"an object or a prefix, {FORMS[scheme]}")
    key = match[2]
    if not key or key.endswith("/"):
        return Reference(text, scheme, is_tree=True)
    return Reference(text, scheme, key.rpartition("/")[2])


def _image(text: str, scheme: str) -> Reference:
    if not _IMAGE.fullmatch(text):
        raise ValueError(f"an image {FORMS[scheme]}, the repository in lower case")
    return Reference(text, scheme, is_tree=True)


def _library(text: str, scheme: str) -> Reference:
    if not _LIBRARY.fullmatch(text):
        raise ValueError(f"a model {FORMS[scheme]}")
    return Reference(text, scheme, is_tree=True)


def _foreign(text: str, scheme: str) -> Reference:
    """A scheme that somebody else registered: a path with a last segment is one file, anything else a tree."""
    if "@" in text.partition("://")[2].partition("/")[0]:
        raise ValueError("a URL without user name or password; they go under network.credentials")
    path = text.partition("://")[2].partition("/")[2].partition("?")[0]
    last = path.rpartition("/")[2]
    return Reference(text, scheme, _decode(last), is_tree=not last)


def _path_name(path: str) -> str:
    try:
        return check_path(_decode(path)).rpartition("/")[2]
    except Failure as failure:
        raise ValueError(f"a path that stays inside its repository; this one {_trouble(failure)}") from failure


def _trouble(failure: Failure) -> str:
    """The end of the sentence that names.py wrote, after the quoted name."""
    return re.sub(r"^file name (['\"]).*?\1(?=[ …])…? ?", "", failure.message, flags=re.DOTALL)


def _decode(text: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise ValueError("a path whose percent codes are UTF-8") from None


_PARSERS: Mapping[str, Callable[[str, str], Reference]] = {
    "https": _http,
    "http": _http,
    "hf": _hub,
    "s3": _bucket,
    "gs": _bucket,
    "az": _bucket,
    "oci": _image,
    "ollama": _library,
}
