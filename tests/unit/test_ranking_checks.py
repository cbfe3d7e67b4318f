"""The check of the rankers named in the settings: exact messages, with the hint that says what to write."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_visual_search.checks.project import check_project
from django_visual_search.checks.settings import check_rankers
from django_visual_search.ranking import feedback, merchandise, rankers

HINT = 'Write a list of dotted paths of functions, such as ["django_visual_search.ranking.feedback"], or [] for none.'
OURS = "django_visual_search.ranking"


def greedy(candidates, context):
    return candidates


greedy.needs = {"everything"}


def own(candidates, context):
    return candidates


def configure(settings, **values):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, **values}


def test_the_default_is_sound(settings):
    assert check_rankers() == []
    settings.VISUAL_SEARCH = {}
    assert check_rankers() == []
    assert rankers.rankers_for(None) == (feedback, merchandise)


@pytest.mark.parametrize("ranking", [[], (), [own], [f"{__name__}.own", f"{OURS}.diversity"], ["feedback"]])
def test_what_may_be_listed(settings, ranking):
    configure(settings, RANKING=ranking)
    assert check_rankers() == []
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
    (message,) = check_rankers()
    assert message.msg.startswith(f"VISUAL_SEARCH['RANKING'] has {name!r}: {problem}")
    assert (message.id, message.hint) == ("visual_search.E015", HINT)
    if not isinstance(name, int | dict):
        with pytest.raises(ImproperlyConfigured):
            rankers.rankers_for(None)


def test_the_project_is_checked(settings):
    configure(settings, RANKING=["nowhere.at_all"], FEEDBACK_WEIGHT=2)
    ids = [message.id for message in check_project()]
    assert {"visual_search.E015", "visual_search.E016"} <= set(ids)
