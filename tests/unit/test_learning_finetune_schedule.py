"""The learning rate over a training, and how many epochs fit into the time."""

import pytest

from django_visual_search.learning.finetune.run import (
    RESERVE_SECONDS,
    WARM_UP,
    epochs_in_time,
    next_progress,
    rate_factor,
)


def test_the_rate_rises_to_one_and_falls_to_zero():
    assert rate_factor(0) == 0
    assert rate_factor(WARM_UP / 2) == pytest.approx(0.5)
    assert rate_factor(WARM_UP) == pytest.approx(1)
    assert rate_factor((1 + WARM_UP) / 2) == pytest.approx(0.5)
    assert rate_factor(1) == pytest.approx(0, abs=1e-12)


def test_progress_ends_at_one_however_plans_change():
    progress = 0.0
    for left in [*range(100, 60, -1), *range(20, 0, -1)]:  # after 40 of 100 steps, the time allows only 20 more
        before, progress = progress, next_progress(progress, left)
        assert before < progress <= 1
    assert progress == pytest.approx(1)


@pytest.mark.parametrize(
    ("done", "spent", "epoch", "allowed", "expected"),
    [
        (0, 0, 0, 100, 12),  # no epoch was timed yet
        (1, 50, 40, None, 12),
        (1, 50, 40, 10_000, 12),
        (1, 50, 40, 50 + RESERVE_SECONDS + 100, 3),  # two more fit
        (5, 500, 40, 400, 5),  # the time is over
        (0, 500, 40, 400, 1),  # one is always made
    ],
)
def test_epochs_that_fit_into_the_time(done, spent, epoch, allowed, expected):
    assert epochs_in_time(12, done, spent, epoch, allowed) == expected
