"""The decoded pictures of a catalogue in one file, for what looks at each of them many times.

Fine-tunes a backbone on the catalogue, and learns a head on what comes of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from django.core.exceptions import ImproperlyConfigured
from numpy.typing import NDArray

from ..extractors import DirectoryStore
from ..extractors.backbone import BackboneExtractor
from ..extractors.keras import KerasExtractor
from ..extractors.tuned import TunedExtractor
from ..fields import EmbeddingField
from ..learning.finetune import finetune
from ..learning.finetune.options import FinetuneOptions, Tuned
from ..learning.heads import Trained
from ..learning.lda import learn
from ..learning.selection import Plan, held_out, take
from ..learning.splits import Split, unseen_pictures
from ..models import Artifact
from ..spaces.artifacts import DatabaseStore
from ..spaces.extractors import get_extractor
from ..spaces.features import Keeper
from . import heads
from .features import AT_ONCE, Show, View, pixels
from .heads import Base, Baseline
from .supervision import LIKED, Supervision


class PixelFile:
    """Pictures of a Supervision, uint8 ``(n, s, s, 3)`` in a ``.npy`` file; one that can't be read now is black."""

    def __init__(self, path: Path, field: EmbeddingField, extractor: BackboneExtractor, given: Supervision) -> None:
        self.path = path
        self.field = field
        self.given = given
        self.rows = np.flatnonzero(given.view < 0)
        """Rows of the Supervision that are pictures; those of the file are as many, in that order."""
        self.size = extractor.spec.input_size
        self._places = {int(given.pictures[row]): i for i, row in enumerate(self.rows)}

    def write(self, extractor: BackboneExtractor, show: Show) -> None:
        """Decode all pictures into the file."""
        shape = (len(self.rows), self.size, self.size, 3)
        file = np.lib.format.open_memmap(self.path, mode="w+", dtype=np.uint8, shape=shape)
        wanted = self.given.pictures[self.rows].tolist()
        for done, (row, picture) in enumerate(pixels(self.field, extractor.spec, self.given.catalogue, wanted), 1):
            file[self._places[row]] = 0 if isinstance(picture, str) else picture
            show(done, len(wanted))
        file.flush()

    def features(self, extractor: BackboneExtractor, show: Show) -> NDArray[np.float16]:
        """Features of all rows of the Supervision, views too, by another backbone: ``(n, width)``."""
        file = np.load(self.path, mmap_mode="r")
        found = []
        for start in range(0, len(self.given.view), AT_ONCE):
            some = [self._picture(file, row) for row in range(start, min(start + AT_ONCE, len(self.given.view)))]
            found.append(extractor.kept_features(np.stack(some)))
            show(start + len(some), len(self.given.view))
        return np.concatenate(found)

    def _picture(self, file: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
        number, picture = int(self.given.view[row]), int(self.given.pictures[row])
        plain = np.asarray(file[self._places[picture]])
        return plain if number < 0 else View(self.field, self.given.catalogue, number)(plain, picture)


STOPPING = 0.15
"""Share of the pictures that are learned from which tell when to stop."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned backbone with a head on it."""

    base: Base
    """The backbone that is to serve."""
    trained: Trained
    """Figures and confidence are those of a backbone that never saw the held-out pictures."""
    measured: Tuned
    """What was fine-tuned without the held-out pictures."""
    served: Tuned
    """What was fine-tuned on everything; the same where that was not wanted."""


class Finetuning:
    """``folder``: for pictures and checkpoints; a run that was stopped goes on from there."""

    def __init__(
        self, field: EmbeddingField, base: Base, given: Supervision, plan: Plan, folder: Path, say: Say, show: Show
    ) -> None:
        extractor = get_extractor(base.alias, field.dimensions)
        if not isinstance(extractor, KerasExtractor):
            raise ImproperlyConfigured(
                f"Only a KerasExtractor can be fine-tuned; {base.alias!r} is a {type(extractor).__name__}. Learn a "
                "head (--method head), or name another --extractor."
            )
        self.field, self.alias, self.extractor = field, base.alias, extractor
        self.given, self.plan = given, plan
        self.folder, self.say, self.show = folder, say, show
        self.pixels = PixelFile(folder / "pictures.npy", field, extractor, given)

    def run(self, options: FinetuneOptions, before: Baseline, kind: str | None, *, again: bool) -> Finetuned:
        """``again``: train once more on everything, as many epochs as were best, for what is to serve."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.say("decoding")
        self.pixels.write(self.extractor, self.show)
        split = self._split()
        measured = self._finetune(options, split, "measured")
        base = self._base(measured, DirectoryStore(self.folder))
        given = replace(self.given, features=self.pixels.features(base.extractor, self.show))
        dimensions = self.plan.dimensions
        # By the pictures that told when to stop: those that were learned from lie closer together than others will.
        inner = [replace(split, train=self.pixels.rows[split.train], held_out=self.pixels.rows[split.held_out])]
        trained = heads.train(
            given,
            base,
            before,
            kind=kind,
            seed=self.plan.seed,
            dimensions=dimensions,
            progress=self.say,
            inner=inner,
        )
        if not again or measured.best_epoch == 0:
            return Finetuned(base, trained, measured, measured)
        self.say("once more, on every picture")
        served = self._finetune(replace(options, epochs=measured.best_epoch), None, "served")
        base = self._base(served, DirectoryStore(self.folder))
        features = self.pixels.features(base.extractor, self.show)
        learned = learn(features.astype(np.float32), given.labels, trained.settings)
        return Finetuned(base, replace(trained, learned=learned), measured, served)

    def keep(self, tuned: Finetuned) -> Base:
        """Store the backbone as an artifact, and its features of the pictures; what an EmbeddingHead needs of it."""
        base = self._base(tuned.served, DatabaseStore())
        artifact = Artifact.objects.get(name=base.columns["backbone"]["artifact"])
        features = self.pixels.features(base.extractor, self.show)[self.pixels.rows]
        catalogue = self.given.catalogue
        rows = self.given.pictures[self.pixels.rows].tolist()
        keeper = Keeper(self.field, base.extractor.features_key)
        for start in range(0, len(rows), 500):
            some = rows[start : start + 500]
            pictures = [(str(catalogue.keys[row]), catalogue.images[row]) for row in some]
            keeper.keep(pictures, features[start : start + 500])
        return replace(base, columns={**base.columns, "artifact_id": artifact.pk})

    def _finetune(self, options: FinetuneOptions, split: Split | None, name: str) -> Tuned:
        rows = self.pixels.rows
        labels = {key: values for key, values in take(self.given.labels, rows).items() if key != LIKED}
        target = self.plan.target
        labels = {target: labels[target], **labels}  # the first is what held-out pictures are measured by
        return finetune(
            self.extractor.recipe,
            self.pixels.path,
            labels,
            split,
            folder=self.folder / name,
            options=options,
            scenes=self.given.scenes[rows],
            progress=self.say,
        )

    def _split(self) -> Split:
        """Of the pictures that ``train_head`` won't measure with: what to learn from, and what tells when to stop."""
        rows = self.pixels.rows
        seen = np.flatnonzero(~held_out(self.given.labels, self.plan, self.given.scenes)[rows])
        target = take(self.given.labels, rows[seen])[self.plan.target]
        try:
            split = unseen_pictures(
                target, share=STOPPING, scenes=self.given.scenes[rows[seen]], seed=self.plan.seed + 2
            )
        except ValueError as e:
            raise ValueError(
                f"Nothing would tell when to stop fine-tuning: {e} Name --labels that several pictures share, or learn "
                "a head."
            ) from e
        return Split(split.task, seen[split.train], seen[split.held_out], split.leaked)

    def _base(self, tuned: Tuned, store: Any) -> Base:
        sha256 = hashlib.sha256(tuned.flatbuffer).hexdigest()
        backbone: dict[str, Any] = {
            "artifact": f"tuned-{self.extractor.recipe.application.lower()}-{sha256[:16]}.tflite",
            "sha256": sha256,
            "application": self.extractor.recipe.application,
            "input_size": tuned.input_size,
            "width": tuned.width,
        }
        store.put(backbone["artifact"], tuned.flatbuffer)
        extractor = TunedExtractor(**backbone, dimensions=self.field.dimensions, artifacts=store)
        extractor.image_options = self.extractor.image_options
        return Base(self.alias, extractor, {"backbone": backbone})
