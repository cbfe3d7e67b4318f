"""An extractor that writes down what it embeds, and does what a picture asks for: kill the process, wait, or fail."""

from __future__ import annotations

import io
import os
import signal
import time
from pathlib import Path

import numpy as np
from django.core.files.base import ContentFile
from PIL import Image

from .extractors import ColourExtractor

KILL, WAIT, FAIL = 40, 80, 120


class FaultyExtractor(ColourExtractor):
    """``folder``: holds ``calls`` (a line for each picture: process, number), ``waiting`` (since it waits), ``go``."""

    def __init__(self, *, folder, delay=0.0, **kwargs):
        super().__init__(**kwargs)
        self.folder = Path(folder)
        self.delay = delay

    def __call__(self, images):
        if np.ptp(images) == 0:  # one plain picture: the call that loads the model, before anything is claimed
            return super().__call__(images)
        codes = images[:, 4, 4].astype(int)
        with (self.folder / "calls").open("a") as file:
            file.write("".join(f"{os.getpid()} {high * 256 + low}\n" for _, high, low in codes))
        orders = codes[:, 0]
        if KILL in orders:
            os.kill(os.getpid(), signal.SIGKILL)
        if FAIL in orders:
            raise RuntimeError("asked to fail")
        if WAIT in orders:
            (self.folder / "waiting").touch()
            while not (self.folder / "go").exists():
                time.sleep(0.01)
        time.sleep(self.delay * len(images))
        return super().__call__(images)


def numbered(number, order=0):
    """A picture with a number and an order for FaultyExtractor."""
    cells = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    cells[0, 0] = order, number // 256, number % 256
    cells[0, 3], cells[3, 0] = 255, 0  # corners of different colours: no border to trim
    file = io.BytesIO()
    Image.fromarray(cells).resize((64, 64), Image.Resampling.NEAREST).save(file, "PNG")
    return ContentFile(file.getvalue(), name=f"{number}.png")


def make_alike(rows):
    """Return new products, each with a file of its own that shows the same: one that they shared is embedded once."""
    from .models import Product  # the extractor is loaded before Django's models

    storage = Product._meta.get_field("image").storage
    first = storage.path(storage.save("products/one.png", numbered(1)))
    names = [f"products/one-{number}.png" for number in range(rows)]
    for name in names:
        if not storage.exists(name):
            os.link(first, storage.path(name))
    return Product.objects.bulk_create(Product(name=str(number), image=name) for number, name in enumerate(names))
