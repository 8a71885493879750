"""The number at which a decision turns is exact, and found with few plans."""

from hypothesis import given
from hypothesis import strategies as st

import reconciler.core.why as asking
from reconciler.core.threshold import smallest, turning_limits
from tests.core.worlds import BLOCK, desired, held, observed, wanted

NUMBERS = st.integers(0, 5000)


def counted(answer):
    """A question whose answer is yes from ``answer`` on, and the numbers it was asked about."""
    asked = []

    def is_enough(number):
        asked.append(number)
        return number >= answer

    return is_enough, asked


@given(NUMBERS, st.integers(1, 700), NUMBERS, st.lists(NUMBERS, max_size=3), st.sampled_from([1, 2, 8, 512]))
def test_the_smallest_is_found_whatever_is_guessed(answer, step, bound, guesses, grain):
    is_enough, _ = counted(answer)
    expected = answer if 0 < answer <= bound else None
    if answer:  # what is to be exceeded is not enough
        assert smallest(0, step, bound, is_enough, guesses, grain) == expected


def test_a_right_guess_needs_two_questions():
    is_enough, asked = counted(900_001)
    assert smallest(0, 1 << 26, 1 << 40, is_enough, [900_001], grain=4096) == 900_001
    assert asked == [900_001, 900_000]


def test_a_whole_number_of_blocks_is_found_without_looking_at_every_byte():
    is_enough, asked = counted(5 << 20)
    assert smallest(0, 1 << 26, 1 << 40, is_enough, [5], grain=4096) == 5 << 20
    assert len(asked) <= 18


def crowd(count):
    models = [wanted(f"m{number:03}") for number in range(count)]
    return models, observed(*(held(model) for model in models))


def plans_of(monkeypatch, want, found, name):
    made = []
    plan = asking.plan
    monkeypatch.setattr(asking, "plan", lambda *world: made.append(world) or plan(*world))
    return asking.why(want, found, name).change, len(made)


def test_no_room_among_many_is_answered_with_three_plans(monkeypatch):
    models, found = crowd(50)
    used = found.store.used_bytes
    want = desired(*models, wanted("zz"), limit=used + 100)
    change, plans = plans_of(monkeypatch, want, found, "zz")
    assert (change.field, change.to, plans) == ("cache.maxSize", used + BLOCK, 3)


def test_what_is_evicted_among_many_is_answered_with_three_plans(monkeypatch):
    models, found = crowd(50)
    want = desired(*models[:-1], limit=found.store.used_bytes - 2)
    change, plans = plans_of(monkeypatch, want, found, models[-1].name)
    assert (change.field, change.to, plans) == ("cache.maxSize", found.store.used_bytes, 3)


def test_a_model_that_neither_lacks_room_nor_leaves_suggests_no_limit():
    models, found = crowd(1)
    want = desired(*models)
    assert turning_limits(asking.plan(want, found), want, found, models[0].name) == ()


def test_another_models_lack_of_room_is_no_limit_of_ours():
    models, found = crowd(1)
    want = desired(*models, wanted("aa"), wanted("zz"), limit=found.store.used_bytes + 100)
    made = asking.plan(want, found)
    assert [deferred.model for deferred in made.deferred] == ["aa", "zz"]
    assert turning_limits(made, want, found, "zz")[0] == found.store.used_bytes + BLOCK


def test_between_two_multiples_the_answer_is_narrowed_byte_by_byte():
    is_enough, _ = counted(4098)
    assert smallest(0, 5000, 5000, is_enough, [4100], grain=4096) == 4098


def test_other_evictions_before_it_are_no_limit_of_ours():
    models, found = crowd(3)
    made = asking.plan(desired(limit=0), found)
    assert [action.model for action in made.actions] == [model.name for model in models]
    assert turning_limits(made, desired(limit=0), found, models[1].name) == (2 * BLOCK,)
