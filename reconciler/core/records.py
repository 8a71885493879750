"""The standard library's frozen, slotted dataclasses; their methods are made when they are first used.

To make them takes half a millisecond a class, two hundred classes are loaded for a command, and it uses half of them: a
tenth of a second of every start. So a class begins with stand-ins, each of which puts the real method in its own place
when it is called. What a class does is the library's to say; only the plainest method, which all that are used need,
is made here. All other kinds of dataclass, which are few, are handed to the library at once.
"""

import dataclasses
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: bool) -> Any:
        """As :func:`dataclasses.dataclass`."""
        if cls is not None or options != {"frozen": True, "slots": True}:
            return dataclasses.dataclass(cls, **options)
        return lambda decorated: _begin(decorated) if _is_plain(decorated) else _whole(decorated)


__all__ = ["dataclass"]

_whole = dataclasses.dataclass(frozen=True, slots=True)
_BY_LIBRARY = ("__dataclass_params__", "__dataclass_fields__", "__init__", "__eq__", "__hash__", "__repr__")
_OWN = {"__setattr__", "__delattr__", "__getstate__", "__setstate__", "__slots__", "__match_args__", *_BY_LIBRARY}
_NO_FIELD = re.compile("ClassVar|InitVar|KW_ONLY")
_MISSING = dataclasses.MISSING


def _is_plain(cls: type) -> bool:
    """Whether it is known here how the class comes out: the library has more to say of all others."""
    kinds, body = cls.__annotations__, cls.__dict__
    has_usual_fields = "self" not in kinds and not any(_NO_FIELD.search(repr(kind)) for kind in kinds.values())
    is_usual = cls.__bases__ == (object,) and type(cls) is type and _OWN.isdisjoint(body)
    defaults = [body.get(name, _MISSING) for name in kinds]
    strays = any(isinstance(value, dataclasses.Field) for name, value in body.items() if name not in kinds)
    return is_usual and has_usual_fields and not strays and _are_usual(defaults)


def _are_usual(defaults: list[Any]) -> bool:
    """Whether nothing is to be refused or told apart: those without a default first, none that can change."""
    has_default = False
    for value in defaults:
        is_option = isinstance(value, dataclasses.Field)
        if is_option and not (value.init and value.kw_only in {False, _MISSING}):
            return False
        shown = value.default if is_option else value
        if isinstance(shown, staticmethod | classmethod) or type(shown).__hash__ is None:
            return False
        is_given = shown is not _MISSING or (is_option and value.default_factory is not _MISSING)
        if has_default and not is_given:
            return False
        has_default = has_default or is_given
    return True


def _begin(cls: type) -> type:
    """The class with its slots, and with stand-ins for what the library makes."""
    body = {name: value for name, value in cls.__dict__.items() if name not in {"__dict__", "__weakref__"}}
    names = tuple(cls.__annotations__)
    recipe = _Recipe(cls.__name__, body | {"__qualname__": cls.__qualname__})
    own = {name: value for name, value in body.items() if name not in names} | {
        "__qualname__": cls.__qualname__,
        "__slots__": names,
        "__match_args__": names,
        "__setattr__": _refuse,
        "__delattr__": _refuse,
        "__getstate__": _get_state,
        "__setstate__": _set_state,
        **{name: _Late(recipe, name) for name in _BY_LIBRARY[:2]},
        **{name: _stand_in(recipe, name) for name in _BY_LIBRARY[2:]},
    }
    recipe.owner = type(cls.__name__, (), own)
    return recipe.owner


class _Recipe:
    """What is needed to make the methods of ``owner``."""

    def __init__(self, name: str, body: dict[str, Any]) -> None:
        self.name = name
        self.body = body
        self.owner: type = object

    def make(self, name: str) -> Any:
        """Make ``name``, and what comes with it. Twice is harmless: threads may meet here."""
        has_options = any(isinstance(value, dataclasses.Field) for value in self.body.values())
        if name == "__init__" and not has_options:
            made: dict[str, Any] = {name: _make_init(self.owner, self.body)}
        else:
            library: type = dataclasses.dataclass(frozen=True)(type(self.name, (), dict(self.body)))
            names = [each for each in _BY_LIBRARY if has_options or each != "__init__"]
            made = {each: library.__dict__[each] for each in names}
        for each, value in made.items():
            setattr(self.owner, each, value)
        return getattr(self.owner, name)


def _make_init(owner: Any, body: dict[str, Any]) -> Callable[..., None]:
    """What the library makes of fields without options, in a fifth of the time; it goes to the slots directly."""
    scope: dict[str, Any] = {f"__{name}_setter": getattr(owner, name).__set__ for name in owner.__slots__}
    scope |= {f"__{name}_default": body[name] for name in owner.__slots__ if name in body}
    parameters = [f"{name}=__{name}_default" if name in body else name for name in owner.__slots__]
    steps = [f"__{name}_setter(self, {name})" for name in owner.__slots__]
    steps += ["self.__post_init__()"] if "__post_init__" in body else []
    text = f"def __init__(self, {', '.join(parameters)}):\n    " + "\n    ".join(steps or ["pass"])
    exec(text, scope)  # noqa: S102 -- names of our own classes, as the library does
    made: Callable[..., None] = scope["__init__"]
    made.__qualname__ = f"{owner.__qualname__}.__init__"
    made.__module__ = owner.__module__
    return made


def _stand_in(recipe: _Recipe, name: str) -> Callable[..., Any]:
    def method(self: object, /, *args: Any, **named: Any) -> Any:
        return recipe.make(name)(self, *args, **named)

    return method


class _Late:
    """An attribute of the class that the library makes."""

    def __init__(self, recipe: _Recipe, name: str) -> None:
        self._recipe = recipe
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return self._recipe.make(self._name)


def _refuse(self: object, name: str, value: object = None) -> None:
    del value
    raise dataclasses.FrozenInstanceError(f"cannot change field {name!r} of {type(self).__qualname__}")


def _get_state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
