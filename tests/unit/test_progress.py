"""What a long command reports of its progress."""

import io
import os
import re
import threading

import pytest
from django.core.management.base import OutputWrapper

from django_visual_search.management import progress
from django_visual_search.management.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def counts(stream):
    """The lines without time and rate."""
    return [line.partition(" [")[0] for line in stream.getvalue().splitlines()]


def styled(stream):
    output = OutputWrapper(stream)
    output.style_func = str.upper
    return output


def test_lines_with_rate_and_time_left(monkeypatch):
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    stream = io.StringIO()
    bar = Progress(stream, 100)
    for count in (10, 60, 100):
        bar.show(count)
    bar.finish()
    assert counts(stream) == [
        "pictures: 0/100",
        "pictures: 10/100",
        "pictures: 60/100",
        "pictures: 100/100",
    ]
    assert re.fullmatch(r"pictures: 60/100 \[00:00<00:00, +[\d.]+/s\]", stream.getvalue().splitlines()[2])
    assert "\r" not in stream.getvalue()


def test_few_lines():
    stream = io.StringIO()
    bar = Progress(stream, 100, "products")
    for count in range(101):
        bar.show(count)
    bar.finish()
    assert [line.partition(" [")[0] for line in stream.getvalue().splitlines()] == [
        "products: 0/100",
        "products: 100/100",
    ]


def test_a_new_round():
    stream = io.StringIO()
    bar = Progress(stream, 50)
    for count in (50, 1, 21):
        bar.show(count)
    bar.finish()
    assert counts(stream) == ["pictures: 0/50", "pictures: 50/50", "pictures: 0/50", "pictures: 21/50"]


def test_a_total_that_is_found_out_later():
    stream = io.StringIO()
    bar = Progress(stream, 0)
    bar.show(0)
    bar.finish()
    assert stream.getvalue() == ""
    bar.total = 4
    bar.show(3)
    bar.finish()
    assert "pictures: 3/4 [" in stream.getvalue()


@pytest.mark.parametrize("wrap", [lambda stream: stream, styled])
def test_a_bar_on_a_terminal(wrap):
    stream = Terminal()
    bar = Progress(wrap(stream), 4)
    for count in range(5):
        bar.show(count)
    bar.finish()
    shown = stream.getvalue()
    assert "\rpictures: 100%|" in shown
    assert "| 4/4 [" in shown
    assert shown.endswith("\n")


def test_a_closed_pipe_does_not_stop_the_work():
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    bar = Progress(stream, 4)
    bar.show(4)
    bar.finish()
    with pytest.raises(BrokenPipeError):
        stream.close()


def test_no_thread_and_no_process_is_started():
    before = threading.active_count()
    Progress(Terminal(), 4).show(1)
    assert threading.active_count() == before
