"""A record is the standard library's frozen, slotted dataclass, whichever of its methods is used first."""

import abc
import copy
import dataclasses
import pickle
import sys
import threading
import weakref
from dataclasses import KW_ONLY, FrozenInstanceError, InitVar, field
from typing import ClassVar, Generic, TypeVar

import pytest
from sampling import others_slow

from reconciler.core import records

T = TypeVar("T")
LATE_METHODS = ("__init__", "__eq__", "__hash__", "__repr__")
MADE_LATE = (*LATE_METHODS, "__dataclass_fields__", "__dataclass_params__")


def at_the_top(decorate):
    """The decorator, for a class that goes by the name of one at the top of a module: the product has no others."""

    def decorated(cls):
        cls.__qualname__ = cls.__name__
        return decorate(cls)

    return decorated


OURS = at_the_top(records.dataclass(frozen=True, slots=True))
LIBRARY = at_the_top(dataclasses.dataclass(frozen=True, slots=True))


@OURS
class Place:
    """Where something is; pickled by its name."""

    x: int
    y: tuple[str, ...] = ()


@OURS
class Tagged:
    """Holds another record; pickled by its name."""

    place: Place
    tags: list[str] = field(default_factory=list)


def point(record):
    @record
    class Point:
        """Fields without options."""

        x: int
        y: int = 2

    return Point


def nothing(record):
    @record
    class Nothing:
        """No fields."""

    return Nothing


def optioned(record):
    @record
    class Optioned:
        """Fields with options."""

        x: int = field()
        y: tuple[int, ...] = field(default_factory=tuple)
        note: str = field(default="", repr=False, compare=False)
        size: int = 3

    return Optioned


def lively(record):
    @record
    class Lively:
        """Methods of all kinds."""

        x: int
        y: int = 1
        unit = "m"

        def __post_init__(self):
            if self.x < 0:
                raise ValueError(f"{self.x} is too small")
            object.__setattr__(self, "y", self.y * 10)

        @property
        def area(self):
            return self.x * self.y

        @classmethod
        def square(cls, side):
            return cls(side, side)

        @staticmethod
        def double(number):
            return 2 * number

        def __len__(self):
            return self.x

    return Lively


def in_words(record):
    @record
    class InWords:
        """Annotations as text."""

        x: "int"
        y: "list[Unknown] | None" = None  # noqa: F821 -- nobody has to know it

    return InWords


def limited(record):
    @record
    class Limited:
        """An annotation that is no field."""

        limit: ClassVar[int] = 7
        x: int
        y: int = 1

    return Limited


def limited_in_words(record):
    @record
    class LimitedInWords:
        """An annotation that is no field, as text."""

        x: "int"
        limit: "ClassVar[int]" = 7

    return LimitedInWords


def prepared(record):
    @record
    class Prepared:
        """An argument that is no field."""

        x: int
        y: int = 0
        extra: InitVar[int] = 5

        def __post_init__(self, extra):
            object.__setattr__(self, "y", self.y + extra)

    return Prepared


def by_keyword(record):
    @record
    class ByKeyword:
        """A field that is given by keyword only."""

        x: int
        _: KW_ONLY
        y: int = 1

    return ByKeyword


def heir(record):
    class Base:
        __slots__ = ()

        def doubled(self):
            return 2 * self.x

    @record
    class Heir(Base):
        """A base class that is no record."""

        x: int
        y: int = 1

    return Heir


def record_of_record(record):
    @record
    class Child(point(record)):
        """A record with the fields of another."""

        z: int = 3

    return Child


def generic(record):
    @record
    class Box(Generic[T]):
        """A type variable."""

        x: T
        y: int = 1

    return Box


def own_ways(record):
    @record
    class OwnWays:
        """Methods that the library leaves alone."""

        x: int
        y: int = 1

        def __eq__(self, other):
            return self.x == other

        def __hash__(self):
            return 5

        def __repr__(self):
            return f"<{self.x}>"

    return OwnWays


SHAPES = [
    point,
    nothing,
    optioned,
    lively,
    in_words,
    limited,
    limited_in_words,
    prepared,
    by_keyword,
    heir,
    record_of_record,
    generic,
    own_ways,
]
CALLS = [
    ((), {}),
    ((1,), {}),
    ((1, 4), {}),
    ((), {"x": 1}),
    ((), {"y": 4, "x": 1}),
    ((), {"y": 4}),
    ((1,), {"x": 1}),
    ((1,), {"colour": "red"}),
    ((1, 2, 3, 4, 5), {}),
    ((-1,), {}),
]


def twins(declare):
    return declare(OURS), declare(LIBRARY)


def outcome(use, *args):
    try:
        return use(*args)
    except Exception as error:  # what was raised is what is compared
        return type(error), str(error)


def new(cls, x=1):
    """An instance; the class has not been asked for its fields."""
    return cls(x) if "x" in dir(cls) else cls()


def unmade(cls):
    record = cls.__new__(cls)
    record.__setstate__([8 for _ in cls.__slots__])
    return record


USES = {
    "repr": lambda cls: repr(new(cls)),
    "equal": lambda cls: new(cls) == new(cls),
    "equal to another": lambda cls: new(cls) == new(cls, 2),
    "unequal": lambda cls: new(cls) != new(cls),
    "unequal to another": lambda cls: new(cls) != new(cls, 2),
    "equal to a number": lambda cls: (new(cls) == 1, new(cls) == "1", new(cls).__eq__("1")),
    "hash": lambda cls: hash(new(cls)),
    "in a set": lambda cls: len({new(cls), new(cls), new(cls, 2)}),
    "fields": lambda cls: repr(dataclasses.fields(cls)),
    "fields of an instance": lambda cls: repr(dataclasses.fields(new(cls))),
    "params": lambda cls: repr(cls.__dataclass_params__),
    "is a dataclass": lambda cls: (dataclasses.is_dataclass(cls), dataclasses.is_dataclass(new(cls))),
    "asdict": lambda cls: dataclasses.asdict(new(cls)),
    "astuple": lambda cls: dataclasses.astuple(new(cls)),
    "replace": lambda cls: repr(dataclasses.replace(new(cls), x=5)),
    "replace what is unknown": lambda cls: dataclasses.replace(new(cls), colour="red"),
    "copy": lambda cls: (repr(copy.copy(new(cls))), type(copy.copy(new(cls))) is cls),
    "deepcopy": lambda cls: (repr(copy.deepcopy(new(cls))), type(copy.deepcopy(new(cls))) is cls),
    "state": lambda cls: new(cls).__getstate__(),
    "repr without construction": lambda cls: repr(unmade(cls)),
    "equality without construction": lambda cls: unmade(cls) == unmade(cls),
    "hash without construction": lambda cls: hash(unmade(cls)),
    "order": lambda cls: new(cls) < new(cls),
}


@pytest.mark.parametrize("declare", others_slow(*SHAPES))
@pytest.mark.parametrize(("args", "named"), CALLS)
def test_arguments_are_taken_and_refused_as_by_the_library(declare, args, named):
    def values(cls):
        record = cls(*args, **named)
        return {each.name: getattr(record, each.name) for each in dataclasses.fields(record)}

    ours, library = twins(declare)
    expected = outcome(values, library)
    assert outcome(values, ours) == expected
    assert outcome(values, ours) == expected, "the second time"
    repr(new(ours))
    assert outcome(values, ours) == expected, "after all is made"


@pytest.mark.parametrize("declare", others_slow(*SHAPES))
@pytest.mark.parametrize("first", USES)
def test_whatever_is_used_first_answers_as_the_librarys(declare, first):
    ours, library = twins(declare)
    for name in (first, *USES):
        assert outcome(USES[name], ours) == outcome(USES[name], library), name


@pytest.mark.parametrize("declare", SHAPES)
def test_a_class_looks_like_the_librarys(declare):
    ours, library = twins(declare)
    for name in ("__name__", "__qualname__", "__module__", "__doc__", "__slots__", "__match_args__"):
        assert getattr(ours, name) == getattr(library, name), name
    assert repr(ours.__annotations__) == repr(library.__annotations__)
    assert sorted(vars(ours)) == sorted(vars(library))
    assert [type(getattr(ours, name)) for name in ours.__slots__] == [
        type(getattr(library, name)) for name in library.__slots__
    ]
    assert hasattr(new(ours), "__dict__") is hasattr(new(library), "__dict__") is False


@pytest.mark.parametrize("declare", [point, nothing, optioned, lively])
def test_methods_go_by_their_own_names_once_they_are_made(declare):
    def named(cls, method):
        return getattr(cls, method).__qualname__, getattr(cls, method).__module__

    ours, library = twins(declare)
    first = new(ours)
    assert named(ours, "__init__") == named(library, "__init__") == (f"{ours.__name__}.__init__", __name__)
    assert first == first
    for name in LATE_METHODS:
        assert named(ours, name) == named(library, name)


def test_a_class_within_another_is_named_in_full():
    def declare(record):
        class Outer:
            @record
            class Inner:
                """Stands within another."""

                x: int

        return Outer.Inner

    ours = declare(records.dataclass(frozen=True, slots=True))
    library = declare(dataclasses.dataclass(frozen=True, slots=True))
    assert ours.__qualname__ == library.__qualname__
    assert outcome(ours) == outcome(library)
    assert repr(ours(1)) == repr(library(1))
    assert ".Outer.Inner(x=1)" in repr(ours(1))


@pytest.mark.parametrize("declare", [shape for shape in SHAPES if shape is not nothing])
def test_a_field_is_neither_set_nor_deleted(declare):
    for cls in twins(declare):
        record = new(cls)
        with pytest.raises(FrozenInstanceError, match="'x'"):
            record.x = 2
        with pytest.raises(FrozenInstanceError, match="'x'"):
            del record.x
        with pytest.raises(FrozenInstanceError):
            cls.__new__(cls).x = 2
        assert record.x == 1


@pytest.mark.parametrize("declare", SHAPES)
def test_nothing_else_is_set_or_deleted_either(declare):
    for cls in twins(declare):
        record = new(cls)
        with pytest.raises((AttributeError, TypeError)):
            record.colour = "red"
        with pytest.raises((AttributeError, TypeError)):
            del record.colour
        assert not hasattr(record, "colour")


@pytest.mark.parametrize("declare", [point, nothing, optioned])
def test_a_record_has_no_room_for_a_weak_reference(declare):
    for cls in twins(declare):
        with pytest.raises(TypeError, match="weak reference"):
            weakref.ref(new(cls))


def test_records_of_different_classes_are_unequal_however_equal_their_values():
    for first, second in ((point(OURS), point(OURS)), (point(OURS), point(LIBRARY)), (point(LIBRARY), point(OURS))):
        assert first(1) != second(1)
        assert first(1).__eq__(second(1)) is NotImplemented
        assert hash(first(1)) == hash(second(1)) == hash((1, 2))


def test_a_record_equals_what_says_that_it_equals_everything():
    class Agreeable:
        def __eq__(self, other):
            return True

        __hash__ = None

    for cls in twins(point):
        assert cls(1) == Agreeable()


def test_a_record_with_an_unhashable_value_has_no_hash():
    ours, library = twins(point)
    assert outcome(lambda: hash(ours([]))) == outcome(lambda: hash(library([])))
    assert outcome(lambda: hash(ours([])))[0] is TypeError


def test_a_record_that_holds_itself_is_shown():
    def shown(cls):
        values = []
        values.append(cls(values))
        return repr(values[0])

    ours, library = twins(point)
    assert shown(ours) == shown(library)
    assert "[...]" in shown(ours)


def test_a_field_without_comparison_or_repr_counts_in_neither():
    for cls in twins(optioned):
        assert cls(1, note="a") == cls(1, note="b")
        assert hash(cls(1, note="a")) == hash(cls(1, note="b"))
        assert repr(cls(1, note="a")) == "Optioned(x=1, y=(), size=3)"
        assert cls(1, note="a").note == "a"


def test_each_record_gets_a_default_of_its_own_from_a_factory():
    first, second = Tagged(Place(1)), Tagged(Place(1))
    assert first.tags == []
    assert first.tags is not second.tags


def test_a_default_is_the_very_object():
    default = object()

    def declare(record):
        @record
        class Holder:
            x: object = default

        return Holder

    for cls in twins(declare):
        assert cls().x is default
        assert dataclasses.fields(cls)[0].default is default


def test_what_comes_after_the_fields_are_set_is_called_once():
    for cls in twins(lively):
        assert (cls(2).y, cls(2, 3).y, cls(x=2, y=4).y) == (10, 30, 40)
        with pytest.raises(ValueError, match="-1 is too small"):
            cls(-1)
        assert dataclasses.replace(cls(2), x=3).y == 100


def test_methods_of_all_kinds_work():
    for cls in twins(lively):
        assert cls(2).area == 20
        assert cls.square(2).area == 40
        assert type(cls.square(2)) is cls
        assert (cls.double(2), cls(1).double(3)) == (4, 6)
        assert len(cls(4)) == 4
        assert (cls.unit, cls(1).unit) == ("m", "m")
        with pytest.raises((AttributeError, TypeError)):
            cls(1).area = 3


def test_a_class_variable_is_no_field():
    for declare in (limited, limited_in_words):
        for cls in twins(declare):
            assert (cls.limit, cls(1).limit) == (7, 7)
            assert "limit" not in [each.name for each in dataclasses.fields(cls)]


def test_the_methods_of_a_base_class_are_inherited():
    for cls in twins(heir):
        assert cls(4).doubled() == 8


def test_a_generic_record_can_be_given_its_type():
    for cls in twins(generic):
        assert cls[int].__origin__ is cls


def test_a_record_is_taken_apart_by_a_pattern():
    def taken_apart(cls, record):
        match record:
            case cls(0):
                return "the origin"
            case cls(x, y=3):
                return ("three", x)
            case cls(x, y):
                return (x, y)
            case _:
                return "something else"

    for cls in twins(point):
        answers = [taken_apart(cls, record) for record in (cls(0), cls(1, 3), cls(4, 5), 7)]
        assert answers == ["the origin", ("three", 1), (4, 5), "something else"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_record_comes_back(protocol):
    record = Tagged(Place(1, ("a", "b")), ["c"])
    again = pickle.loads(pickle.dumps(record, protocol))
    assert type(again) is Tagged
    assert again == record
    assert again.place == Place(1, ("a", "b"))
    assert again.tags is not record.tags
    with pytest.raises(FrozenInstanceError):
        again.tags = []


def test_a_deep_copy_shares_nothing_and_a_copy_shares_all():
    record = Tagged(Place(1), ["c"])
    assert copy.copy(record) == copy.deepcopy(record) == record
    assert copy.copy(record).tags is record.tags
    assert copy.deepcopy(record).tags is not record.tags


def test_what_holds_records_becomes_plain_values():
    record = Tagged(Place(1, ("a",)), ["c"])
    assert dataclasses.asdict(record) == {"place": {"x": 1, "y": ("a",)}, "tags": ["c"]}
    assert dataclasses.astuple(record) == ((1, ("a",)), ["c"])


@pytest.mark.parametrize("first", USES)
def test_a_plain_subclass_may_be_the_first_to_use_a_method(first):
    def declare(record):
        class Child(point(record)):
            def total(self):
                return self.x + self.y

        return Child

    ours, library = twins(declare)
    for name in (first, *USES):
        assert outcome(USES[name], ours) == outcome(USES[name], library), name
    assert ours(1).total() == library(1).total() == 3


def test_a_subclass_calls_the_constructor_of_the_record():
    def declare(record):
        class Child(point(record)):
            def __init__(self, both):
                super().__init__(both, y=both)

        return Child

    for cls in twins(declare):
        assert dataclasses.astuple(cls(3)) == (3, 3)
        assert cls(3) == cls(3) != cls(4)
        with pytest.raises(FrozenInstanceError):
            cls(3).x = 4


def test_a_subclass_extends_the_methods_of_the_record():
    def declare(record):
        class Child(point(record)):
            def __eq__(self, other):
                return super().__eq__(other)

            def __hash__(self):
                return super().__hash__() + 1

            def __repr__(self):
                return f"<{super().__repr__()}>"

        return Child

    ours, library = twins(declare)
    assert (ours(1) == ours(1), ours(1) == ours(2), ours(1) == 1) == (True, False, False)
    assert hash(ours(1)) == hash(library(1)) == hash((1, 2)) + 1
    assert repr(ours(1)) == repr(library(1))


def test_a_subclass_is_unequal_to_its_record():
    for cls in twins(point):
        child = type("Child", (cls,), {})
        assert child(1) == child(1)
        assert child(1) != cls(1)
        assert isinstance(child(1), cls)


@pytest.mark.parametrize(
    "options", [{"frozen": True}, {"frozen": True, "slots": True}, {"frozen": True, "order": True}]
)
@pytest.mark.parametrize("declare", [point, optioned])
def test_the_librarys_dataclass_can_extend_a_record(declare, options):
    def extend(record):
        @dataclasses.dataclass(**options)
        class Child(declare(record)):
            z: int = 9

        return Child

    ours, library = twins(extend)
    calls = {"fields": dataclasses.fields, "shown": lambda cls: cls(1, z=2), "missing": lambda cls: cls(z=1)}
    calls |= {"equal": lambda cls: (cls(1) == cls(1), cls(1) == cls(1, z=2)), "hash": lambda cls: hash(cls(1))}
    for name, call in calls.items():
        assert repr(outcome(call, ours)) == repr(outcome(call, library)), name
    with pytest.raises(FrozenInstanceError):
        ours(1).x = 2
    with pytest.raises(FrozenInstanceError):
        ours(1).z = 2


def test_a_subclass_with_a_constructor_of_its_own_starts_from_that_of_the_record():
    def declare(record):
        @dataclasses.dataclass(frozen=True)
        class Child(point(record)):
            z: int = 0

            def __init__(self, x):
                super().__init__(x)
                object.__setattr__(self, "z", 2 * x)

        return Child

    ours, library = twins(declare)
    assert repr(ours(4)) == repr(library(4))
    assert dataclasses.astuple(ours(4)) == (4, 2, 8)


def test_a_subclass_cannot_thaw_a_record():
    def extend(cls):
        dataclasses.dataclass(type("Child", (cls,), {}))

    ours, library = twins(point)
    assert outcome(extend, ours) == outcome(extend, library)
    assert outcome(extend, ours)[0] is TypeError


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"slots": True},
        {"frozen": True},
        {"frozen": True, "slots": False},
        {"frozen": True, "slots": True, "order": True},
        {"frozen": True, "slots": True, "eq": False},
        {"frozen": True, "slots": True, "repr": False},
        {"frozen": True, "slots": True, "kw_only": True},
    ],
)
def test_other_options_mean_what_they_mean_to_the_library(options):
    ours, library = (point(decorator(**options)) for decorator in (records.dataclass, dataclasses.dataclass))
    calls = [
        lambda cls: (cls(x=1) == cls(x=1), repr(cls(x=1)).partition(" object at")[0], cls.__dataclass_params__),
        lambda cls: cls(1).y,
        lambda cls: cls(x=1) < cls(x=2),
        lambda cls: hash(cls(x=1)) == hash(cls(x=1)),
        lambda cls: setattr(cls(x=1), "x", 2),
        lambda cls: (hasattr(cls(x=1), "__dict__"), hasattr(cls, "__slots__"), cls.__match_args__),
    ]
    for call in calls:
        assert repr(outcome(call, ours)) == repr(outcome(call, library))


def test_without_parentheses_it_is_the_librarys_plain_dataclass():
    ours, library = point(records.dataclass), point(dataclasses.dataclass)
    record = ours(1)
    record.x = 5
    assert (repr(record), vars(record)) == (repr(library(5)), vars(library(5)))


def test_an_option_that_does_not_exist_is_refused():
    for decorator in (records.dataclass, dataclasses.dataclass):
        with pytest.raises(TypeError, match="'colour'"):
            decorator(colour="red")


@pytest.mark.parametrize("name", ["__setattr__", "__delattr__"])
def test_a_class_that_refuses_changes_in_its_own_way_is_refused(name):
    def declare(record):
        return record(type("Odd", (), {"__annotations__": {"x": int}, name: lambda *_: None}))

    assert outcome(declare, OURS) == outcome(declare, LIBRARY)
    assert outcome(declare, OURS)[0] is TypeError


@pytest.mark.parametrize("name", ["__init__", "__eq__", "__hash__", "__repr__", "__getstate__", "__setstate__"])
def test_a_method_that_a_class_has_is_kept(name):
    def method(self, *args):
        return 5

    def declare(record):
        return record(type("Odd", (), {"__annotations__": {"x": int}, "__doc__": "Odd.", name: method}))

    ours, library = twins(declare)
    assert vars(ours)[name] is vars(library)[name] is method


def test_methods_are_made_when_they_are_first_used():
    cls = point(OURS)
    begun = {name: vars(cls)[name] for name in MADE_LATE}
    cls(1)
    made = vars(cls)["__init__"]
    assert made is not begun["__init__"]
    assert [name for name in MADE_LATE if vars(cls)[name] is begun[name]] == list(MADE_LATE[1:])
    cls(2)
    assert vars(cls)["__init__"] is made
    assert cls(1) == cls(1)
    assert not [name for name in MADE_LATE if vars(cls)[name] is begun[name]]


def test_the_library_is_called_when_more_than_construction_is_asked_and_once(monkeypatch):
    asked, real = [], dataclasses.dataclass
    monkeypatch.setattr(dataclasses, "dataclass", lambda *args, **options: asked.append(options) or real(**options))
    cls = point(OURS)
    first, second = cls(1), cls(1)
    assert asked == []
    assert first == second
    assert (repr(first), hash(first), len(dataclasses.fields(cls))) == (repr(second), hash(second), 2)
    assert len(asked) == 1


@pytest.mark.parametrize("name", MADE_LATE[1:])
def test_whatever_is_used_first_makes_all_the_rest(name):
    cls = point(OURS)
    begun = {each: vars(cls)[each] for each in MADE_LATE}
    record = cls(1)
    if name in LATE_METHODS:
        getattr(record, name)(*[record] * (name == "__eq__"))
    else:
        getattr(record, name)
    assert not [each for each in MADE_LATE if vars(cls)[each] is begun[each]]


def test_a_method_that_was_taken_from_the_class_before_it_was_made_works_on():
    cls = point(OURS)
    begin, equal, show = cls.__init__, cls.__eq__, cls.__repr__
    for _ in range(2):
        record = cls.__new__(cls)
        begin(record, 1, y=3)
        assert equal(record, cls(1, 3)) is True
        assert show(record) == repr(cls(1, 3))


@pytest.fixture
def hasty_threads():
    """Threads that give way to each other as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(*uses):
    """What each gave or raised, all of them begun at the same moment."""
    start, answers = threading.Barrier(len(uses)), [None] * len(uses)

    def run(index, use):
        start.wait()
        answers[index] = outcome(use)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(uses)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("declare", others_slow(point, nothing, optioned, lively))
def test_two_threads_construct_the_first_record_at_once(declare):
    expected = repr(new(declare(LIBRARY)))
    for _ in range(50):
        cls = declare(OURS)
        first, second = at_once(lambda cls=cls: new(cls), lambda cls=cls: new(cls))
        assert (type(first), type(second)) == (cls, cls)
        assert first == second
        assert repr(first) == repr(second) == expected


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("declare", others_slow(point, optioned))
def test_threads_use_different_methods_first_at_once(declare):
    library = declare(LIBRARY)
    names = ["repr", "equal", "hash", "fields", "replace", "repr without construction"]
    expected = [USES[name](library) for name in names]
    for _ in range(50):
        cls = declare(OURS)
        assert at_once(*(lambda cls=cls, name=name: USES[name](cls) for name in names)) == expected


def both(declare):
    """What each decorator makes of a declaration: the class, or how it was refused."""

    def outcome(decorate):
        try:
            return declare(decorate)
        except TypeError as error:
            return f"TypeError: {error}"
        except ValueError as error:
            return f"ValueError: {error}"

    return outcome(OURS), outcome(LIBRARY)


def mutable_default(decorate):
    @decorate
    class Shared:
        names: list = []  # noqa: RUF012 -- what is refused

    return Shared


def default_before_none(decorate):
    @decorate
    class Unordered:
        first: int = 1
        second: int

    return Unordered


def factory_before_none(decorate):
    @decorate
    class Unordered:
        first: list = dataclasses.field(default_factory=list)
        second: int

    return Unordered


def field_without_annotation(decorate):
    @decorate
    class Stray:
        first: int
        second = dataclasses.field(default=1)

    return Stray


@pytest.mark.parametrize(
    "declare", [mutable_default, default_before_none, factory_before_none, field_without_annotation]
)
def test_a_wrong_declaration_is_refused_when_it_is_made_as_by_the_library(declare):
    ours, library = both(declare)

    assert isinstance(ours, str)
    assert ours == library


def test_fields_that_no_argument_fills_match_no_pattern():
    def declare(decorate):
        @decorate
        class Point:
            x: int
            y: int = dataclasses.field(default=2, init=False)
            z: int = dataclasses.field(default=3, kw_only=True)

        return Point

    ours, library = both(declare)

    assert ours.__match_args__ == library.__match_args__ == ("x",)
    assert repr(ours(1)) == repr(library(1))


def test_a_static_method_as_default_is_what_it_wraps():
    def declare(decorate):
        @decorate
        class Sorter:
            key: object = staticmethod(len)

        return Sorter

    ours, library = both(declare)

    assert ours().key is library().key is len


def test_a_metaclass_stays():
    def declare(decorate):
        @decorate
        class Shape(metaclass=abc.ABCMeta):
            sides: int

            @abc.abstractmethod
            def area(self): ...

        return Shape

    ours, library = both(declare)

    assert type(ours) is type(library) is abc.ABCMeta
    with pytest.raises(TypeError, match="abstract"):
        ours(1)


@pytest.mark.parametrize("name", ["self", "set_a", "_a_setter", "cls", "args"])
def test_a_field_may_have_any_name(name):
    ours, library = both(lambda decorate: decorate(type("Any", (), {"__annotations__": {"a": int, name: int}})))

    for made in (ours(1, 2), ours(1, **{name: 2})):
        assert (made.a, getattr(made, name)) == (1, 2)
    assert repr(ours(1, 2)) == repr(library(1, 2))


def test_a_nested_class_keeps_its_whole_name():
    class Outer:
        @records.dataclass(frozen=True, slots=True)
        class Inner:
            a: int

    assert repr(Outer.Inner(1)).endswith("Outer.Inner(a=1)")
    with pytest.raises(TypeError, match=r"Outer\.Inner\.__init__\(\) missing"):
        Outer.Inner()


def test_a_copy_of_a_subclass_has_all_fields():
    @OURS
    class Base:
        a: int

    class Bare(Base):
        __slots__ = ()

    @dataclasses.dataclass(frozen=True)
    class More(Base):
        b: int = 0

    assert copy.copy(Bare(1)).a == 1
    assert copy.deepcopy(More(1, 2)) == More(1, 2)


def test_the_class_itself_may_be_given():
    class Given:
        a: int

    made = records.dataclass(Given, frozen=True, slots=True)

    assert made(1) == made(1)
    assert made.__slots__ == ("a",)
