"""Pictures go to a decoder several at a time, and each gets its own pixels or its own reason why not."""

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from django.core.files.storage import FileSystemStorage

from django_visual_search import images
from django_visual_search.decoding.decoder import DecoderLost
from django_visual_search.decoding.pool import TOGETHER, DecoderPool
from django_visual_search.extractors import ExtractorSpec

from ..image_files import heic, many_scans, png, quadrants

SPEC = ExtractorSpec(key="test", dimensions=8, input_size=32, images=images.ImageOptions())


class Storage(FileSystemStorage):
    """Reading ``killer.png`` kills the decoder that would get it, as some pictures do."""

    def _open(self, name, mode="rb"):
        if name == "killer.png":
            os.kill(self.pool.decoders[0].process.pid, signal.SIGKILL)
        return super()._open(name, mode)


@pytest.fixture
def storage(settings, tmp_path):
    settings.VISUAL_SEARCH = settings.VISUAL_SEARCH | {"DECODERS": 1}
    storage = Storage(tmp_path)
    storage.pool = DecoderPool()
    yield storage
    storage.pool.close()


def save(storage, count):
    names = [f"{i}.png" for i in range(count)]
    for i, name in enumerate(names):
        quadrants().rotate(90 * i).save(storage.path(name))
    return names


def right(storage, name):
    with open(storage.path(name), "rb") as file:
        return np.asarray(images.load(file, options=SPEC.images, size=SPEC.input_size))


def decoded(storage, names):
    return [one for future in storage.pool.submit(storage, names, SPEC) for one in future.result(60)]


def test_each_picture_gets_its_own_pixels(storage):
    names = save(storage, 3 * TOGETHER + 1)
    for name, pixels in zip(names, decoded(storage, names), strict=True):
        assert np.array_equal(pixels, right(storage, name))


def test_what_is_wrong_with_one_is_not_with_its_neighbours(storage):
    names = save(storage, 2 * TOGETHER)
    bad = {3: FileNotFoundError, 5: images.ImageRefused, 6: DecoderLost}
    names[3] = "missing.png"
    Path(storage.path(names[5])).write_bytes(b"not a picture")
    os.rename(storage.path("6.png"), storage.path("killer.png"))
    names[6] = "killer.png"
    for i, (name, one) in enumerate(zip(names, decoded(storage, names), strict=True)):
        if i in bad:
            assert isinstance(one, bad[i])
        else:
            assert np.array_equal(one, right(storage, name))


def test_bombs_are_decoded_once_and_their_neighbours_are_done(storage, settings):
    """Row 23: each takes its limit of processor time once, not again with its neighbours and again alone."""
    settings.VISUAL_SEARCH = settings.VISUAL_SEARCH | {"DECODE_SECONDS": 0.4}
    names = save(storage, 2 * TOGETHER)
    bombs = {1, 2, 5}
    bomb = many_scans(50)
    for i in bombs:
        Path(storage.path(names[i])).write_bytes(bomb)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for i, (name, one) in enumerate(zip(names, decoded(storage, names), strict=True)):
        if i in bombs:
            assert isinstance(one, images.ImageRefused)
            assert one.code == "time"
        else:
            assert np.array_equal(one, right(storage, name))
    storage.pool.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime - before.ru_utime < len(bombs) * 0.3 * 1.5 + 0.5


def test_a_file_that_crashes_its_codec_is_refused(storage):
    """HEIC with one wrong byte, at which pi-heif 1.4 reads memory that isn't its own."""
    pytest.importorskip("pi_heif", reason="needs the heic extra")
    names = save(storage, TOGETHER)
    broken = bytearray(heic({2: (b"Exif", b"\0\0\0\6Exif\0\0II*\0\x08\0\0\0" + bytes(40))}, {2: (b"cdsc", [1])}))
    broken[184] = 181
    Path(storage.path(names[2])).write_bytes(broken)
    found = decoded(storage, names)
    assert isinstance(found[2], images.ImageRefused)
    assert found[2].code == "corrupt"
    assert all(isinstance(one, np.ndarray) for i, one in enumerate(found) if i != 2)


def test_memory_that_ran_out_after_others_is_tried_in_a_fresh_process(storage, settings):
    settings.VISUAL_SEARCH = settings.VISUAL_SEARCH | {"DECODE_MEMORY_MB": 120}
    names = save(storage, 2 * TOGETHER)
    Path(storage.path(names[4])).write_bytes(png(7000, 6000))
    found = decoded(storage, names)
    assert isinstance(found[4], images.ImageRefused)
    assert found[4].code == "memory"
    for i in {*range(len(names))} - {4}:
        assert np.array_equal(found[i], right(storage, names[i]))


def test_what_waits_for_a_pool_that_closes_is_cancelled(storage):
    names = save(storage, 50 * TOGETHER)
    futures = storage.pool.submit(storage, names, SPEC)
    storage.pool.close()
    assert all(future.done() for future in futures)
    assert futures[-1].cancelled()
