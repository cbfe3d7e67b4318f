"""System checks of what the setting says about feedback."""

import pytest
from django.core import checks

from django_visual_search.checks import project as ours
from django_visual_search.checks.settings import check_feedback

HINT = "Give the dotted path of a function that takes the request and returns the visitor's IP address."


def error(number, message, hint):
    return checks.Error(message, hint=hint, id=f"visual_search.E{number:03}")


def test_the_defaults_are_sound(settings):
    del settings.VISUAL_SEARCH
    assert check_feedback() == []


@pytest.mark.parametrize(("key", "days"), [("FEEDBACK_DAYS", 1), ("FEEDBACK_DAYS", 3650), ("SESSION_DAYS", 366)])
def test_sound_days(settings, key, days):
    settings.VISUAL_SEARCH = {key: days}
    assert check_feedback() == []


@pytest.mark.parametrize("days", [0, -1, 0.5, "1", None, True, float("nan")])
def test_days_that_are_none(settings, days):
    settings.VISUAL_SEARCH = {"FEEDBACK_DAYS": days, "SESSION_DAYS": days}
    assert check_feedback() == [
        error(
            17,
            f"VISUAL_SEARCH['FEEDBACK_DAYS'] is {days!r}.",
            "Write a whole number of at least 1; the default is 180.",
        ),
        error(
            17,
            f"VISUAL_SEARCH['SESSION_DAYS'] is {days!r}.",
            "Write a whole number from 1 to 366; the default is 1.",
        ),
    ]


def test_periods_of_years(settings):
    settings.VISUAL_SEARCH = {"SESSION_DAYS": 367}
    assert [message.id for message in check_feedback()] == ["visual_search.E017"]


@pytest.mark.parametrize("function", [None, len, "tests.unit.test_feedback_checks.error"])
def test_sound_functions(settings, function):
    settings.VISUAL_SEARCH = {"CLIENT_ADDRESS": function}
    assert check_feedback() == []


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("shop.nothing.here", "ModuleNotFoundError: No module named 'shop'"),
        ("tests.unit.test_feedback_checks.HINT", "it is not callable"),
        (1, "it is neither a dotted path nor a callable"),
    ],
)
def test_no_functions(settings, function, why):
    settings.VISUAL_SEARCH = {"CLIENT_ADDRESS": function}
    expected = error(18, f"VISUAL_SEARCH['CLIENT_ADDRESS'] is {function!r}: {why}.", HINT)
    assert check_feedback() == [expected]
    assert expected in ours.check_project()
