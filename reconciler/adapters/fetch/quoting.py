"""What may be repeated of a server's error text: plain words that no secret is made of.

A server may echo whatever it was sent, in whatever form: escaped, coded, cut off. So nothing is taken out of the text;
what is fit to be printed is taken from it. A word is kept where it is made of letters alone, as words are written, and
has nothing to do with any form of a secret. Where more than half would be missing, nothing is quoted.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable
from html import escape, unescape
from urllib.parse import quote, unquote, unquote_plus, urlsplit

MAX_BYTES = 2048
_MAX_WORDS = 20
_SHORT = 3  # below this only a whole part of a secret is one: every text holds some letter of it
_TAG = re.compile(r"<[^>]*>?")
_CODED = re.compile(r"[=?&%\\@]|://")  # a URL, a query, an escape: not a word of it is looked at
_WORD = re.compile(r"[A-Za-z]?[a-z]*|[A-Z]+|(?:[A-Z][a-z]+){2,5}")
_MAX_WORD_CHARS = 24
_BOUNDS = re.compile(r"[^0-9A-Za-z\u0080-\uffff]+")
_GONE = "***"


def secrets_of(headers: Iterable[tuple[str, str]], urls: Iterable[str]) -> frozenset[str]:
    """Every text that must not be printed: header values, user information and query strings, and their parts."""
    found: set[str] = set()
    for _, value in headers:
        found |= {value, *value.split(), *_decoded(value)}
    for url in urls:
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        found |= {user, unquote(user), *user.split(":"), *unquote(user).split(":", 1)}
        values = [part.partition("=")[2] for part in parts.query.split("&")]
        found |= {parts.query, *values, *map(unquote_plus, values)}
    return frozenset(found - {""})


def _decoded(value: str) -> list[str]:
    scheme, _, code = value.partition(" ")
    if scheme.lower() != "basic":
        return []
    try:
        text = b64decode(code).decode()
    except ValueError:
        return []
    return [text, *text.split(":", 1)]


def quote_of(body: bytes, secrets: Iterable[str]) -> str:
    """A short line of an error text; empty where nothing of it is sure to be harmless. ``body`` may be cut off."""
    text = unescape(_TAG.sub(" ", body.decode("utf-8", "replace")))
    chunks = text.split()
    if len(body) >= MAX_BYTES:
        chunks = chunks[:-1]  # its last word may be the first half of a secret
    forms = {form.casefold() for secret in secrets for form in _forms_of(secret)}
    parts = {part for form in forms for part in _BOUNDS.split(form)}
    words: list[str] = []
    for chunk in chunks:
        words += [_GONE] if _CODED.search(chunk) else [_kept(word, forms, parts) for word in _BOUNDS.split(chunk)]
    words = [word for word in words if word][:_MAX_WORDS]
    if words.count(_GONE) * 2 > len(words):
        return ""
    return " ".join(word for word, before in zip(words, ["", *words], strict=False) if word != _GONE or before != _GONE)


def has_secret(label: str, secrets: Iterable[str]) -> bool:
    """Whether what people are to see of a URL holds any form of a secret that is worth the name."""
    texts = (label.casefold(), unquote(label).casefold())
    forms = (form.casefold() for secret in secrets if len(secret) >= _SHORT for form in _forms_of(secret))
    return any(form in text for form in forms for text in texts)


def _kept(word: str, forms: set[str], parts: set[str]) -> str:
    if not word:
        return ""
    if len(word) > _MAX_WORD_CHARS or not _WORD.fullmatch(word):
        return _GONE
    plain = word.casefold()
    is_secret = plain in parts or any(
        (len(plain) >= _SHORT and plain in form) or (len(form) >= _SHORT and form in plain) for form in forms
    )
    return _GONE if is_secret else word


def _forms_of(secret: str) -> set[str]:
    data = secret.encode("utf-8", "replace")
    coded = b64encode(data).decode()
    return {secret, quote(secret, safe=""), escape(secret), data.hex(), coded, coded.rstrip("=")}
