"""Row 22: a searched photo is decoded in a process with limits, which ends with its visitor or with this process."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from django_visual_search import images
from django_visual_search.decoding import decoder, photos
from django_visual_search.decoding.child import DecodeSettings
from django_visual_search.decoding.decoder import DecoderLost
from django_visual_search.decoding.photos import decode_photo, waiting_visitor
from django_visual_search.decoding.pipes import HungUpError
from django_visual_search.extractors import ExtractorUnavailable
from django_visual_search.images import ImageOptions, ImageRefused
from django_visual_search.storefront.gate import Busy

from ..image_files import ROOT, encode, many_scans, png, quadrants

OPTIONS = ImageOptions()
PHOTO = encode(quadrants())


@pytest.fixture(autouse=True)
def decoders(monkeypatch):
    """Decoders of this test alone."""
    monkeypatch.setattr(photos, "_decoders", photos.PhotoDecoders())
    yield
    decoder.stop_decoders()


@pytest.fixture
def limits(settings):
    def set_limits(**values):
        settings.VISUAL_SEARCH = settings.VISUAL_SEARCH | values

    return set_limits


def process():
    return photos._decoders.idle[0].process


def slow_photo():
    """Half a second of decoding or more."""
    return many_scans(50)


def test_the_pixels_are_those_of_images_load():
    for data, crop in ((PHOTO, None), (PHOTO, (0.1, 0.2, 0.9, 0.7)), (memoryview(png(700, 500)), None)):
        expected = np.asarray(images.load(data, options=OPTIONS, crop=crop, size=64))
        assert np.array_equal(decode_photo(data, OPTIONS, 64, crop), expected)


def test_one_process_decodes_one_photo_after_another_and_imports_no_django():
    decode_photo(PHOTO, OPTIONS, 32)
    first = process()
    decode_photo(PHOTO, OPTIONS, 32)
    assert process() is first
    maps = Path(f"/proc/{first.pid}/maps").read_text()
    assert "_imaging" in maps
    assert "numpy" not in maps
    resident = next(line for line in Path(f"/proc/{first.pid}/status").read_text().splitlines() if "VmRSS" in line)
    assert int(resident.split()[1]) < 60_000, "kB"


def test_a_refusal_has_its_code():
    with pytest.raises(ImageRefused) as refusal:
        decode_photo(b"no picture", OPTIONS, 32)
    assert refusal.value.code == "format"


def test_processor_time_is_limited_and_the_next_photo_is_decoded():
    """The clock has another limit, so that a busy machine is not the photo's fault."""
    one, data = decoder.Decoder(), slow_photo()
    [refusal] = one.decode([lambda: data], DecodeSettings(OPTIONS, 32, cpu_seconds=0.15, wall_seconds=30))
    assert isinstance(refusal, ImageRefused)
    assert refusal.code == "time"
    [lost] = one.decode([lambda: data], DecodeSettings(OPTIONS, 32, cpu_seconds=30, wall_seconds=0.15))
    assert isinstance(lost, DecoderLost)
    assert lost.code == "decode_time"
    [pixels] = one.decode([lambda: PHOTO], DecodeSettings(OPTIONS, 32, cpu_seconds=30, wall_seconds=30))
    assert pixels.shape == (32, 32, 3)


def test_memory_is_limited(limits):
    limits(DECODE_MEMORY_MB=120)
    decode_photo(PHOTO, OPTIONS, 32)
    # Tried again in a fresh process, as the first has decoded others before.
    with pytest.raises(ImageRefused) as refusal:
        decode_photo(png(7000, 6000), OPTIONS, 32)
    assert refusal.value.code == "memory"


def test_a_process_that_was_killed_is_started_again():
    decode_photo(PHOTO, OPTIONS, 32)
    killed = process()
    killed.kill()
    assert decode_photo(PHOTO, OPTIONS, 32).shape == (32, 32, 3)
    assert killed.returncode is not None, "no zombie"
    assert process().pid != killed.pid


def test_a_crash_refuses_the_photo(monkeypatch):
    decode_photo(PHOTO, OPTIONS, 32)
    read = decoder._Exchange.run

    def crash(exchange, pipes):
        os.kill(process_of(pipes), signal.SIGSEGV)
        read(exchange, pipes)

    def process_of(pipes):
        return next(d.process.pid for d in decoder._running if d.pipes is pipes)

    monkeypatch.setattr(decoder._Exchange, "run", crash)
    with pytest.raises(ImageRefused) as refusal:
        decode_photo(PHOTO, OPTIONS, 32)
    assert refusal.value.code == "corrupt"


@pytest.mark.parametrize("step_aside", [None, lambda: None])
def test_a_process_that_was_stopped_is_given_up(limits, monkeypatch, step_aside):
    """Row 31: as by SIGSTOP, where its own timers never end it."""
    limits(DECODE_SECONDS=0.2)
    monkeypatch.setattr(decoder, "STOP_GRACE", 0.2)
    decode_photo(PHOTO, OPTIONS, 32)
    stopped = process()
    stopped.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    with waiting_visitor(None, step_aside), pytest.raises(DecoderLost) as lost:
        decode_photo(PHOTO, OPTIONS, 32)
    assert lost.value.code == "decode_time"
    assert time.monotonic() - started < 2
    assert stopped.returncode == -signal.SIGKILL
    assert decode_photo(PHOTO, OPTIONS, 32).shape == (32, 32, 3)


def test_who_hangs_up_frees_the_slot(limits):
    limits(DECODE_SECONDS=30)
    decode_photo(PHOTO, OPTIONS, 32)
    decoding, slow = process(), slow_photo()
    visitor, server = socket.socketpair()
    with visitor, server:
        hang_up = threading.Timer(0.1, visitor.close)
        hang_up.start()
        started = time.process_time()
        with waiting_visitor(server.fileno()), pytest.raises(HungUpError):
            decode_photo(slow, OPTIONS, 32)
        assert time.process_time() - started < 0.3
    assert decoding.returncode == -signal.SIGKILL
    assert photos._decoders.busy == 0
    assert decode_photo(PHOTO, OPTIONS, 32).shape == (32, 32, 3)


@pytest.mark.parametrize("made_to_hurt", [True, False])
def test_a_photo_that_takes_long_steps_aside_once(limits, made_to_hurt):
    limits(DECODE_SECONDS=30)
    aside = []
    with waiting_visitor(None, lambda: aside.append(1)):
        decode_photo(slow_photo() if made_to_hurt else encode(quadrants(1200, 900)), OPTIONS, 32)
    assert aside == [1] * made_to_hurt


def test_a_slow_photo_that_may_not_step_aside_is_ended(limits):
    def refuse():
        raise Busy

    limits(DECODE_SECONDS=30)
    decode_photo(PHOTO, OPTIONS, 32)
    decoding, slow = process(), slow_photo()
    with waiting_visitor(None, refuse), pytest.raises(Busy):
        decode_photo(slow, OPTIONS, 32)
    assert decoding.returncode == -signal.SIGKILL
    assert decode_photo(PHOTO, OPTIONS, 32).shape == (32, 32, 3)


def test_pages_come_before_decoding():
    decode_photo(PHOTO, OPTIONS, 32)
    assert os.getpriority(os.PRIO_PROCESS, process().pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)


def test_no_more_processes_than_searches_at_once(limits):
    limits(PHOTO_SEARCHES_AT_ONCE=2)
    failed = []

    def search():
        try:
            for _ in range(20):
                decode_photo(PHOTO, OPTIONS, 32)
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=search) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(decoder._running) <= 4, "two, and two more for those that step aside"


def test_a_forked_child_has_a_process_of_its_own():
    decode_photo(PHOTO, OPTIONS, 32)
    parents = process()
    child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            decode_photo(PHOTO, OPTIONS, 32)
            code = 0 if process().pid != parents.pid else 2
            decoder.stop_decoders()
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert parents.poll() is None
    decode_photo(PHOTO, OPTIONS, 32)
    assert process() is parents


SEARCH = """
import os, signal, sys
from django.conf import settings
settings.configure()
from django_visual_search.decoding import photos
from django_visual_search.images import ImageOptions
photos.decode_photo(sys.stdin.buffer.read(), ImageOptions(), 32)
print(photos._decoders.idle[0].process.pid, flush=True)
"""


@pytest.mark.parametrize("end", ["", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_process_ends_with_its_parent(end):
    done = subprocess.run([sys.executable, "-c", SEARCH + end], input=PHOTO, capture_output=True)
    child = Path(f"/proc/{int(done.stdout)}")
    for _ in range(100):
        if not child.exists():
            return
        time.sleep(0.02)
    pytest.fail("it is still there")


@pytest.mark.parametrize("program", ["/usr/bin/uwsgi", "", "/usr/sbin/apache2"])
def test_a_server_that_is_not_python(monkeypatch, program):
    """Row 13: uWSGI and others put themselves into ``sys.executable``."""
    monkeypatch.setattr(sys, "executable", program)
    assert decode_photo(PHOTO, OPTIONS, 32).shape == (32, 32, 3)
    assert Path(process().args[0]).name.startswith("python")


def test_row_13_a_program_that_embeds_python():
    """Its own name is in ``argv[0]``, from which Python finds no executable; its path to modules is its own too."""
    path = [str(ROOT), *(entry for entry in sys.path if entry.endswith("site-packages"))]
    script = f"import sys; sys.path += {path}; assert not sys.executable" + SEARCH
    done = subprocess.run(
        ["some-server", "-I", "-c", script], executable=sys.executable, input=PHOTO, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_no_python_at_all_is_said(monkeypatch):
    monkeypatch.setattr(decoder, "_candidates", lambda: iter([""]))
    with pytest.raises(ExtractorUnavailable, match="There is no Python"):
        decode_photo(PHOTO, OPTIONS, 32)


def test_a_memory_limit_that_is_too_low_is_said(limits):
    limits(DECODE_MEMORY_MB=10)
    with pytest.raises(ExtractorUnavailable, match="DECODE_MEMORY_MB"):
        decode_photo(PHOTO, OPTIONS, 32)


def test_row_31_hostile_exif_writes_no_warnings(capfd):
    """Pillow reads an AVIF's EXIF on opening, and warns of each entry of its own."""
    entries = b"".join(struct.pack("<HHLL", n, 3 + n % 5, 2**28 + n, 2**31 - n) for n in range(5000))
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 5000) + entries
    with warnings.catch_warnings(action="ignore"):
        data = encode(quadrants(), "AVIF", exif=exif)
    with warnings.catch_warnings(record=True, action="always") as warned:
        images.load(data, size=32)
    assert warned
    assert decode_photo(data, OPTIONS, 32).shape == (32, 32, 3)
    decoder.stop_decoders()
    assert capfd.readouterr().err == ""


def test_the_largest_that_is_accepted_fits_after_others(limits):
    """52 megapixels in colour with alpha: the limit leaves room for what earlier photos left behind."""
    limits(DECODE_SECONDS=30)
    for data in (PHOTO, encode(Image.effect_noise((4000, 3000), 50).convert("RGB")), png(7240, 7240, 8, 6)):
        assert decode_photo(data, OPTIONS, 224).shape == (224, 224, 3)
