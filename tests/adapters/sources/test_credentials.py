"""A secret goes to the host it is given for, and is read only when it is used."""

from pathlib import Path

import pytest

from reconciler.adapters.sources.credentials import headers_for
from reconciler.core.errors import Failure
from reconciler.core.policies import Credential, SecretReference

TOKEN = SecretReference(env="TOKEN")
ENVIRONMENT = {"TOKEN": "hush"}
BEARER = (("Authorization", "Bearer hush"),)


@pytest.mark.parametrize(
    ("port", "url", "expected"),
    [
        (None, "https://h/x", BEARER),
        (None, "https://H:443/x", BEARER),
        (None, "http://h/x", BEARER),
        (None, "https://h:8443/x", ()),
        (8443, "https://h:8443/x", BEARER),
        (8443, "https://h/x", ()),
        (443, "http://h/x", ()),
        (None, "https://h.evil/x", ()),
        (None, "https://h@evil/x", ()),
    ],
)
def test_a_credential_is_bound_to_host_and_port(port: int | None, url: str, expected: object) -> None:
    assert headers_for(url, [Credential("h", port, bearer=TOKEN)], ENVIRONMENT) == expected


def test_basic_and_named_headers(tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_bytes(b"from file\n")
    basic = Credential("h", basic=("user", TOKEN))
    named = Credential("g", headers=(("X-Key", SecretReference(file=str(secret))),))
    assert headers_for("https://h/", [basic, named], ENVIRONMENT) == (("Authorization", "Basic dXNlcjpodXNo"),)
    assert headers_for("https://g/", [basic, named], {}) == (("X-Key", "from file"),)


def test_a_secret_that_is_missing_or_smuggles_a_header_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"\n")
    for reference, environment, reason in (
        (TOKEN, {}, "secret_missing"),
        (SecretReference(file=str(tmp_path / "none")), {}, "secret_missing"),
        (SecretReference(file=str(empty)), {}, "secret_missing"),
        (TOKEN, {"TOKEN": "a\r\nX-Evil: hush"}, "secret_malformed"),
    ):
        with pytest.raises(Failure) as caught:
            headers_for("https://h/", [Credential("h", bearer=reference)], environment)
        assert caught.value.reason == reason
        assert "hush" not in str(caught.value)
