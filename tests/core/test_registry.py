"""What is registered: the newest first, packages asked once and late, what cannot be loaded shown but never used."""

from reconciler.core.registry import BUILT_IN, BY_CODE, Registration, Registry


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


class Typed:
    type = "llama-server"


class Anonymous:
    pass


def factory():
    return None


def test_code_comes_before_packages_and_packages_before_what_is_built_in():
    ours, theirs, own = Named("ours"), Named("theirs"), Named("own")
    registry = Registry((ours,), lambda: (Registration("theirs", "their-package", theirs),))
    registry.register(own)
    assert list(registry) == [own, theirs, ours]
    assert [(entry.name, entry.package) for entry in registry.listing()] == [
        ("own", BY_CODE),
        ("theirs", "their-package"),
        ("ours", BUILT_IN),
    ]


def test_what_was_registered_last_comes_first():
    first, second = Named("first"), Named("second")
    registry = Registry[Named]()
    registry.register(first)
    registry.register(second, "late-package")
    assert list(registry) == [second, first]
    assert registry.listing()[0].package == "late-package"


def test_built_in_things_keep_their_order():
    preferred, other = Named("preferred"), Named("other")
    assert list(Registry((preferred, other))) == [preferred, other]


def test_the_newest_that_can_handle_it_is_found():
    one, two = Named("gguf"), Named("gguf")
    registry = Registry((one, two))
    assert registry.find(lambda item: item.name == "gguf") is one
    registry.register(newest := Named("gguf"))
    assert registry.find(lambda item: item.name == "gguf") is newest
    assert registry.find(lambda item: item.name == "onnx") is None


def test_packages_are_asked_at_the_first_look_up_and_only_then():
    asked = []

    def discover():
        asked.append(1)
        return iter((Registration("theirs", "p", Named("theirs")),))

    registry = Registry((), discover)
    registry.register(Named("own"))
    assert asked == []
    assert [item.name for item in registry] == ["own", "theirs"]
    assert [item.name for item in registry] == ["own", "theirs"]
    assert registry.find(lambda item: item.name == "theirs") is not None
    assert asked == [1]


def test_packages_are_asked_once_also_where_they_bring_nothing():
    asked = []
    registry = Registry((), lambda: asked.append(1) or ())
    assert list(registry) == list(registry) == []
    assert asked == [1]


def test_what_could_not_be_loaded_is_listed_with_its_error_and_never_used():
    broken: Registration[Named] = Registration("broken", "bad-package", None, "ImportError: no module")
    registry = Registry((Named("ours"),), lambda: (broken,))
    assert registry.listing()[0] == broken
    assert [item.name for item in registry] == ["ours"]
    assert registry.find(lambda item: True).name == "ours"


def test_a_thing_is_called_by_its_name_its_type_or_its_class():
    registry = Registry((Named("gguf"), Typed(), Anonymous(), factory, Anonymous, Named(7)))
    names = [entry.name for entry in registry.listing()]
    assert names == ["gguf", "llama-server", "Anonymous", "factory", "Anonymous", "Named"]
