"""A place in Git says little, and what it leaves out has one meaning."""

from reconciler.core.git_place import GIT_TIMEOUT_S, GitPlace, Reach


def test_only_the_address_must_be_given():
    place = GitPlace("https://git.example.com/fleet.git")
    assert (place.path, place.interval_s, place.timeout_s) == ("models.yaml", 60.0, GIT_TIMEOUT_S)
    assert (place.ref, place.signers, place.credential) == (None, None, None)


def test_how_far_to_go_is_one_of_three_words():
    assert [Reach(word) for word in ("keep", "look", "last")] == [Reach.KEEP, Reach.LOOK, Reach.LAST]
