"""What a long command says of how far it is."""

import io

import pytest

from django_visual_search.management import progress
from django_visual_search.management.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Time that passes as the test says."""

    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    monkeypatch.setattr(progress, "time", Clock())
    return progress.time


def test_lines_tell_rate_and_time_left(clock):
    stream = io.StringIO()
    bar = Progress(stream, 100)
    clock.now += 60  # a model is loaded: that says nothing of the time left
    bar.show(10)
    clock.now += 5
    bar.show(30)  # too soon for a line
    clock.now += 5
    bar.show(60)
    clock.now += 8
    bar.show(100)
    bar.finish()
    assert stream.getvalue().splitlines() == [
        "10/100 pictures",
        "60/100 pictures, 5/s, 0:08 left",
        "100/100 pictures, 1/s, 1:18",
    ]


def test_a_new_round_begins_anew(clock):
    stream = io.StringIO()
    bar = Progress(stream, 50)
    clock.now += 20
    bar.show(50)
    clock.now += 300
    bar.show(1)
    clock.now += 20
    bar.show(21)
    assert stream.getvalue().splitlines() == [
        "50/50 pictures, 2/s, 0:20",
        "1/50 pictures",
        "21/50 pictures, 1/s, 0:29 left",
    ]


def test_a_terminal_is_written_over(clock):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    bar = Progress(stream, 4)
    for count in range(5):
        clock.now += 1
        bar.show(count)
    bar.finish()
    assert stream.getvalue().count("\r") == 6
    assert "3/4 pictures, 1/s, 0:01 left" in stream.getvalue()
    assert stream.getvalue().endswith("\n")
