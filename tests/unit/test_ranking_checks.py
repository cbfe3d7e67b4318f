"""The checks of the ranking settings: exact messages, with the hint that says what to write."""

import math

import pytest
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from django_visual_search.checks.project import check_project
from django_visual_search.checks.settings import check_ranking
from django_visual_search.ranking import feedback, merchandise, rankers

HINT = 'Write dotted paths of functions, such as ["django_visual_search.ranking.feedback"], or [] for none.'
OURS = "django_visual_search.ranking"


def greedy(candidates, context):
    return candidates


greedy.needs = {"everything"}


def own(candidates, context):
    return candidates


def configure(settings, **values):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, **values}


def test_the_default_is_sound(settings):
    assert check_ranking() == []
    settings.VISUAL_SEARCH = {}
    assert check_ranking() == []
    assert rankers.rankers_for(None) == (feedback, merchandise)


@pytest.mark.parametrize("ranking", [[], (), [own], [f"{__name__}.own", f"{OURS}.diversity"], ["feedback"]])
def test_what_may_be_listed(settings, ranking):
    configure(settings, RANKING=ranking)
    assert check_ranking() == []
    assert len(rankers.rankers_for(None)) == len(ranking)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (f"{OURS}.popularity", f"There is no ranker '{OURS}.popularity': "),
        ("popularity", f"There is no ranker '{OURS}.popularity': "),
        ("nowhere.at_all", "There is no ranker 'nowhere.at_all': No module named 'nowhere'"),
        (f"{__name__}.HINT", f"'{__name__}.HINT' is not a ranker: a function whose 'needs' are of "),
        (f"{__name__}.greedy", f"'{__name__}.greedy' is not a ranker: a function whose 'needs' are of "),
        (greedy, f"{greedy!r} is not a ranker: a function whose 'needs' are of ['evidence', 'rules', 'vectors']."),
        (7, "it is neither a dotted path nor a function."),
        ({}, "it is neither a dotted path nor a function."),
    ],
)
def test_what_is_no_ranker(settings, name, problem):
    configure(settings, RANKING=[f"{OURS}.feedback", name])
    (message,) = check_ranking()
    assert message.msg.startswith(f"VISUAL_SEARCH['RANKING'] has {name!r}: {problem}")
    assert (message.id, message.hint) == ("visual_search.E015", HINT)
    if not isinstance(name, int | dict):
        with pytest.raises(ImproperlyConfigured):
            rankers.rankers_for(None)


@pytest.mark.parametrize(("ranking", "kind"), [(f"{OURS}.feedback", "str"), (None, "NoneType"), ({}, "dict")])
def test_what_is_no_list(settings, ranking, kind):
    configure(settings, RANKING=ranking)
    expected = checks.Error(f"VISUAL_SEARCH['RANKING'] is a {kind}, not a list.", hint=HINT, id="visual_search.E015")
    assert check_ranking() == [expected]


@pytest.mark.parametrize(
    ("key", "number", "words"),
    [
        ("FEEDBACK_WEIGHT", 1, "at least 0 and below 1; the default is 0.5"),
        ("FEEDBACK_WEIGHT", -0.1, "at least 0 and below 1; the default is 0.5"),
        ("FEEDBACK_WEIGHT", "0.5", "at least 0 and below 1; the default is 0.5"),
        ("FEEDBACK_WEIGHT", True, "at least 0 and below 1; the default is 0.5"),
        ("HALF_LIFE_DAYS", 0, "above 0; the default is 30"),
        ("HALF_LIFE_DAYS", math.nan, "above 0; the default is 30"),
        ("POSITION_BIAS", -1, "at least 0; the default is 1.0"),
        ("POSITION_BIAS", None, "at least 0; the default is 1.0"),
    ],
)
def test_numbers_out_of_bounds(settings, key, number, words):
    configure(settings, **{key: number})
    hint = f"Write a number {words}."
    assert check_ranking() == [
        checks.Error(f"VISUAL_SEARCH[{key!r}] is {number!r}.", hint=hint, id="visual_search.E016")
    ]


def test_the_project_is_checked(settings):
    configure(settings, RANKING=["nowhere.at_all"], FEEDBACK_WEIGHT=2)
    ids = [message.id for message in check_project()]
    assert {"visual_search.E015", "visual_search.E016"} <= set(ids)
