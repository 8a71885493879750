"""Sources are found by URL, newest first; packages bring their own."""

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.adapters import plugins
from reconciler.adapters.sources import Sources, built_in_sources
from reconciler.core.desired import Artifact
from reconciler.core.errors import Failure
from reconciler.core.registry import Registration


class Custom:
    """A third party's source for one host."""

    name = "custom"
    schemes = ("https",)

    def __init__(self, host: str) -> None:
        self.host = host

    def handles(self, url: str) -> bool:
        return url.startswith(f"https://{self.host}/")


def make(*registrations: Registration) -> Sources:  # type: ignore[type-arg]
    return Sources(built_in_sources(lambda: 0.0), lambda: registrations)


@pytest.mark.parametrize("scheme", ["https", "http", "file", "hf", "s3", "gs", "az", "oci", "ollama"])
def test_every_scheme_of_the_contract_has_a_source(scheme: str) -> None:
    source = make().for_url(f"{scheme.upper()}://h/x")
    assert scheme in source.schemes
    assert source.needs_resolving(Artifact("", (f"{scheme}://h/x",)))


def test_an_unknown_scheme_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(Failure) as caught:
        make().for_url("ftp://user@h/x?secret")
    assert caught.value.reason == "unknown_scheme"
    assert "secret" not in str(caught.value)
    assert "https" in caught.value.hint


def test_the_newest_that_can_handle_it_wins() -> None:
    by_package = Custom("a")
    sources = make(Registration("custom", "pkg 1.0", by_package))
    assert sources.for_url("https://a/x") is by_package
    assert sources.for_url("https://b/x").name == "web"
    by_code = Custom("a")
    sources.register(by_code)  # type: ignore[arg-type]
    assert sources.for_url("https://a/x") is by_code
    assert [entry.package for entry in sources.listing()][:3] == ["(registered by code)", "pkg 1.0", "reconciler"]


def test_packages_are_asked_once_and_only_when_something_is_looked_up() -> None:
    asked = []
    sources = Sources(built_in_sources(lambda: 0.0), lambda: asked.append(1) or ())
    assert not asked
    sources.for_url("https://a/x")
    sources.for_url("https://a/x")
    assert asked == [1]


def test_entry_points_are_loaded_and_a_broken_package_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "acme_models-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-models\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[reconciler.sources]\nacme = acme_reconciler_models:Acme\nbroken = acme_reconciler_models:nothing\n"
    )
    (tmp_path / "acme_reconciler_models.py").write_text(
        "class Acme:\n    name = 'acme'\n    schemes = ('acme',)\n"
        "    def resolve(self): ...\n    needs_resolving = locate = resolve\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sources = Sources(built_in_sources(lambda: 0.0), plugins.discoverer(plugins.SOURCES))
    assert sources.for_url("acme://x").name == "acme"
    found = {entry.name: entry for entry in sources.listing() if entry.package == "acme-models 1.2"}
    assert found["acme"].error == ""
    assert found["broken"].item is None
    assert "AttributeError" in found["broken"].error


def test_naming_the_sources_imports_none_of_them() -> None:
    code = (
        "import sys; from reconciler.adapters.sources import built_in_sources; built_in_sources(lambda: 0.0); "
        "print([name for name in sys.modules if name in ('httpx', 'reconciler.adapters.sources.hub', 'xml.etree')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
