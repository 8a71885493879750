"""TLS: who is trusted, and that https never falls to http."""

import ssl

import pytest
from faulty import Faulty
from fetching import digest_of, make_bytes

from reconciler.core.errors import FailureKind

BODY = make_bytes(3_000_000)
DIGEST = digest_of(BODY)


@pytest.fixture
def tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "cert.pem", authority / "key.pem")
    return context


def test_an_unknown_authority_is_not_trusted(case, tls):
    with Faulty(lambda talk: talk.serve(BODY), tls) as server:
        failure = case.fail(f"{server.url}/a", digest=DIGEST)
        assert (failure.kind, failure.reason) == (FailureKind.PERMANENT, "tls_certificate")
        assert "SSL_CERT_FILE" in failure.hint
        assert server.seen == []


def test_an_authority_of_ones_own_is_named_by_the_environment(case, tls, authority):
    case.settings["environment"] = {"SSL_CERT_FILE": str(authority / "cert.pem")}
    with Faulty(lambda talk: talk.serve(BODY), tls) as server:
        case.get(f"{server.url}/a", digest=DIGEST, timeout_s=5)
    assert case.target.read_bytes() == BODY


def test_a_missing_authority_file_is_said_so(case, tls):
    case.settings["environment"] = {"SSL_CERT_FILE": "/nowhere/at/all.pem"}
    with Faulty(lambda talk: talk.serve(BODY), tls) as server:
        assert case.fail(f"{server.url}/a").reason == "tls_authorities"


def test_https_never_falls_to_http(case, tls, authority):
    case.settings["environment"] = {"SSL_CERT_FILE": str(authority / "cert.pem")}
    with Faulty(lambda talk: talk.serve(BODY)) as plain:
        script = lambda talk: talk.head("302 Found", f"Location: {plain.url}/a", "Content-Length: 0")  # noqa: E731
        with Faulty(script, tls) as server:
            assert case.fail(f"{server.url}/a", timeout_s=5).reason == "unsafe_redirect"
        assert plain.seen == []


def test_a_certificate_for_another_host_is_refused(case, tls, authority):
    case.settings["environment"] = {"SSL_CERT_FILE": str(authority / "cert.pem")}
    with Faulty(lambda talk: talk.serve(BODY), tls) as server:
        failure = case.fail(f"https://localhost:{server.port}/a", timeout_s=5)
    assert failure.reason == "tls_certificate"


def test_plain_http_on_a_tls_port_has_a_reason(case):
    with Faulty(lambda talk: talk.serve(BODY)) as server:
        failure = case.fail(f"https://127.0.0.1:{server.port}/a", timeout_s=1)
    assert failure.reason in {"timeout", "tls_error", "tls_broken"}


def test_hanging_up_during_the_handshake_is_transient(case):
    import socket  # noqa: PLC0415
    import threading  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        failure = case.fail(f"https://127.0.0.1:{listener.getsockname()[1]}/a")
        thread.join()
    assert (failure.kind, failure.reason) in {
        (FailureKind.TRANSIENT, "tls_broken"),
        (FailureKind.TRANSIENT, "connection_reset"),
    }


def test_a_silent_handshake_ends_in_time(case):
    import socket  # noqa: PLC0415

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert case.fail(f"https://127.0.0.1:{listener.getsockname()[1]}/a", timeout_s=0.5).reason == "timeout"
