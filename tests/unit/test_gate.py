"""The limit on photo searches at the same time."""

import os
import threading
import time
from contextlib import ExitStack

import pytest

from django_visual_search.decoding import photos
from django_visual_search.storefront import gate
from django_visual_search.storefront.gate import Busy, photo_slot, refuse_when_full


@pytest.fixture(autouse=True)
def two_slots(settings):
    settings.VISUAL_SEARCH = {**settings.VISUAL_SEARCH, "PHOTO_SEARCHES_AT_ONCE": 2}


def test_the_setting_limits_the_slots():
    with photo_slot(), photo_slot(), pytest.raises(Busy) as busy, photo_slot(wait=0):
        pytest.fail("a third one got in")
    assert busy.value.retry_after in range(1, 5)
    assert "Try again" in str(busy.value)
    with photo_slot(wait=0), photo_slot(wait=0):
        pass


def test_a_slot_comes_back_after_a_fault():
    for _ in range(5):
        with pytest.raises(ZeroDivisionError), photo_slot(wait=0):
            1 / 0  # noqa: B018
    assert gate._gate.running == 0


def test_a_search_waits_for_a_slot():
    done = []

    def search():
        with photo_slot(wait=20):
            done.append(time.monotonic())

    with photo_slot(), photo_slot():
        thread = threading.Thread(target=search)
        thread.start()
        while not gate._gate.waiting:
            time.sleep(0.001)
        assert not done
        released = time.monotonic()
    thread.join(20)
    assert done[0] >= released
    assert gate._gate.running == gate._gate.waiting == 0


def test_only_two_wait():
    """A waiting search holds a thread of the server, which others need."""
    refuse_when_full()
    with photo_slot(), photo_slot():

        def search():
            with photo_slot(wait=20):
                pass

        threads = [threading.Thread(target=search) for _ in range(2)]
        for waiting, thread in enumerate(threads, 1):
            refuse_when_full()  # one more may wait
            thread.start()
            while gate._gate.waiting < waiting:
                time.sleep(0.001)
        with pytest.raises(Busy), photo_slot(wait=20):
            pytest.fail("a third one waits")
        with pytest.raises(Busy):
            refuse_when_full()
    for thread in threads:
        thread.join(20)
    assert gate._gate.running == gate._gate.waiting == 0
    refuse_when_full()


def test_slow_searches_hold_up_each_other_and_nobody_else():
    """Four photos that take long, with two slots: two step aside, two are refused, and the next search runs."""

    def step_aside():
        photos._waiting.get().step_aside()

    with ExitStack() as slow:
        for _ in range(2):
            slow.enter_context(photo_slot(wait=0))
            step_aside()
            step_aside()  # the same search's second decode
        for _ in range(2):
            with pytest.raises(Busy), photo_slot(wait=0):
                step_aside()
        assert (gate._gate.running, gate._gate.slow) == (0, 2)
        with photo_slot(wait=0), photo_slot(wait=0), pytest.raises(Busy), photo_slot(wait=0):
            pytest.fail("a third one got in")
    assert (gate._gate.running, gate._gate.slow) == (0, 0)


def test_who_waits_comes_before_who_comes_later():
    """Else a client that asks again at once takes each slot that is freed."""
    done = []

    def search():
        with photo_slot(wait=20):
            done.append(True)

    with photo_slot(), ExitStack() as freed:
        freed.enter_context(photo_slot())
        thread = threading.Thread(target=search)
        thread.start()
        while not gate._gate.waiting:
            time.sleep(0.001)
        with gate._gate.freed:  # nobody who waits can wake yet
            gate._gate.running -= 1
            assert gate._gate._is_full()
            gate._gate.running += 1
        freed.close()
        thread.join(20)
        assert done
        with photo_slot(wait=0):
            pass


def test_never_more_at_once():
    running, most, refused, lock = 0, 0, 0, threading.Lock()

    def search():
        nonlocal running, most, refused
        try:
            with photo_slot(wait=0.01):
                with lock:
                    running += 1
                    most = max(most, running)
                time.sleep(0.005)
                with lock:
                    running -= 1
        except Busy:
            with lock:
                refused += 1

    threads = [threading.Thread(target=search) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 2
    assert 0 < refused < 40
    assert gate._gate.running == 0


def test_a_forked_process_has_its_own_slots():
    with photo_slot(), photo_slot():
        child = os.fork()
        if not child:
            try:
                with photo_slot(wait=0):
                    os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
