"""Fine-tune a backbone on the catalogue, and learn a head on its features.

Entry point: ``Finetuning(…).run``, then ``keep``. The backbone is fine-tuned without the held-out pictures, to measure
it (``measured``), and then once more on every picture, to serve (``served``). ``PixelFile`` holds the decoded pictures
meanwhile.
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

from ..extractors import ArtifactStore, DirectoryStore
from ..extractors.backbone import BackboneExtractor
from ..extractors.keras import KerasExtractor
from ..extractors.lite import EfficientNetLiteExtractor
from ..extractors.tuned import TunedExtractor
from ..fields import EmbeddingField
from ..learning.finetune import finetune
from ..learning.finetune.options import FinetuneOptions, Tuned
from ..learning.folds import Fold, Question, TrainingPlan, held_out, take
from ..learning.lda import learn_reduced_head, principal_axes
from ..learning.splits import SAME_LABEL, UNSEEN_PRODUCTS, Split, unseen_pictures, unseen_products
from ..learning.train import TrainedHead
from ..models import Artifact
from ..spaces.extractors import DatabaseStore, get_extractor
from ..spaces.features import Keeper
from .features import EMBEDDED_AT_ONCE, AlteredView, Show, decoded_rows
from .head import Backbone, Baseline, train
from .supervision import Supervision


class PixelFile:
    """The pictures of a Supervision, uint8 ``(n, s, s, 3)`` in a ``.npy`` file; unreadable ones are black."""

    def __init__(self, path: Path, field: EmbeddingField, extractor: BackboneExtractor, given: Supervision) -> None:
        self.path = path
        self.field = field
        self.given = given
        self.rows = np.flatnonzero(given.view < 0)
        """Rows of the Supervision that are pictures; the file has them in that order."""
        self.size = extractor.spec.input_size
        self._places = {int(given.pictures[row]): i for i, row in enumerate(self.rows)}

    def write(self, extractor: BackboneExtractor, show: Show) -> None:
        """Decode all pictures into the file."""
        shape = (len(self.rows), self.size, self.size, 3)
        file = np.lib.format.open_memmap(self.path, mode="w+", dtype=np.uint8, shape=shape)
        pictures = self.given.pictures[self.rows].tolist()
        read = decoded_rows(self.field, extractor.spec, self.given.catalogue, pictures)
        for done, (row, picture) in enumerate(read, 1):
            file[self._places[row]] = 0 if isinstance(picture, str) else picture
            show(done, len(pictures))
        file.flush()

    def features(self, extractor: BackboneExtractor, show: Show) -> NDArray[np.float16]:
        """Return features of all rows of the Supervision, views too, by another backbone: ``(n, width)``."""
        file = np.load(self.path, mmap_mode="r")
        found = []
        for start in range(0, len(self.given.view), EMBEDDED_AT_ONCE):
            some = [
                self._picture(file, row) for row in range(start, min(start + EMBEDDED_AT_ONCE, len(self.given.view)))
            ]
            found.append(extractor.kept_features(np.stack(some)))
            show(start + len(some), len(self.given.view))
        return np.concatenate(found)

    def _picture(self, file: NDArray[np.uint8], row: int) -> NDArray[np.uint8]:
        number, picture = int(self.given.view[row]), int(self.given.pictures[row])
        plain = np.asarray(file[self._places[picture]])
        return plain if number < 0 else AlteredView(self.field, self.given.catalogue, number)(plain, picture)


STOPPING = 0.15
"""Share of the pictures to learn from that is held back to stop early by."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Finetuned:
    """A fine-tuned backbone with a head on it."""

    base: Backbone
    """The backbone that is to serve."""
    trained: TrainedHead
    """Its figures and confidence are those of a backbone that never saw the held-out pictures."""
    measured: Tuned
    """Fine-tuned without the held-out pictures."""
    served: Tuned
    """Fine-tuned on everything; the same as ``measured`` with ``again=False``."""
    features: NDArray[np.float16]
    """Of all rows of the Supervision by the serving backbone, ``(n, width)``."""


class Finetuning:
    """One fine-tuning of ``base`` on ``given``.

    ``folder``: for pictures and checkpoints; a stopped run resumes from there. Raises ImproperlyConfigured where the
    extractor can't be fine-tuned.
    """

    def __init__(
        self,
        field: EmbeddingField,
        base: Backbone,
        given: Supervision,
        plan: TrainingPlan,
        folder: Path,
        say: Say,
        show: Show,
    ) -> None:
        extractor = get_extractor(base.alias, field.dimensions)
        if not isinstance(extractor, KerasExtractor | EfficientNetLiteExtractor):
            raise ImproperlyConfigured(
                f"Only a network of Keras or EfficientNet-Lite can be fine-tuned; {base.alias!r} is a "
                f"{type(extractor).__name__}. Learn a head (--method head), or name another --extractor."
            )
        if not plan.aims:
            raise ImproperlyConfigured(
                "Fine-tuning learns from labels that several products share, or from several pictures of a product, "
                "and there are neither: name --labels, such as the products' kind, or learn a head (--method head)."
            )
        self.field, self.alias, self.extractor = field, base.alias, extractor
        self.given, self.plan = given, replace(plan, draws=1)  # each draw would take a fine-tuning of its own
        self.folder, self.say, self.show = folder, say, show
        self.pixels = PixelFile(folder / "pictures.npy", field, extractor, given)

    def run(self, options: FinetuneOptions, before: Baseline, *, again: bool) -> Finetuned:
        """Fine-tune, learn a head and measure both.

        ``again``: fine-tune once more on everything, for as many epochs as were best, to serve. Raises ValueError and
        ExtractorUnavailable as ``learning.finetune`` does.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.say("decoding")
        self.pixels.write(self.extractor, self.show)
        split = self._split()
        measured = self._finetune(options, split, "measured")
        base = self._base(measured, DirectoryStore(self.folder))
        features = self.pixels.features(base.extractor, self.show)
        given = replace(self.given, features=features)
        # By the pictures that stopped it early: learned ones lie closer together than others will.
        inner = self._choosing(split)
        trained = train(given, base, before, self.plan, self.say, inner=[inner])
        if not again or measured.best_epoch == 0:
            return Finetuned(base, trained, measured, measured, features)
        self.say("once more, on every picture")
        served = self._finetune(replace(options, epochs=measured.best_epoch), None, "served")
        base = self._base(served, DirectoryStore(self.folder))
        features = self.pixels.features(base.extractor, self.show)
        features = features.astype(np.float32)
        axes = principal_axes(features, trained.settings.dimensions)
        learned = learn_reduced_head(features, given.labels, trained.settings, axes)
        return Finetuned(base, replace(trained, learned=learned), measured, served, features)

    def keep(self, tuned: Finetuned) -> Backbone:
        """Store the backbone as an artifact, and its features of the pictures. Return it as a head's row needs it."""
        base = self._base(tuned.served, DatabaseStore())
        artifact = Artifact.objects.get(name=base.columns["backbone"]["artifact"])
        features = tuned.features[self.pixels.rows]
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
        # Held-out pictures are measured by the first.
        labels = {name: values for name, values in take(self.given.labels, rows).items() if name in self.plan.aims}
        labels = {name: labels[name] for name in self.plan.aims}
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
        """Split the pictures that ``train_head`` doesn't measure with: to learn from, and to stop early by.

        The latter are of whole products if the first aim is a label.
        """
        rows, plan = self.pixels.rows, self.plan
        seen = np.flatnonzero(~held_out(self.given.labels, plan, self.given.scenes, self.given.plain)[rows])
        labels = take(self.given.labels, rows[seen])
        options: dict[str, Any] = {"share": STOPPING, "scenes": self.given.scenes[rows[seen]], "seed": plan.seed + 2}
        try:
            if plan.aims[0] == plan.target:
                split = unseen_pictures(labels[plan.target], **options)
            else:
                split = unseen_products(labels[plan.target], categories=labels[plan.aims[0]], **options)
                split = replace(split, task=SAME_LABEL)
        except ValueError as e:
            raise ValueError(
                f"Fine-tuning has no pictures to stop early by: {e} Name --labels that several pictures share, or "
                "learn a head."
            ) from e
        return replace(split, train=seen[split.train], held_out=seen[split.held_out])

    def _choosing(self, split: Split) -> Fold:
        """Return the fold that chooses a head's settings: by the pictures of ``_split``, and by their altered views."""
        rows, given, plan = self.pixels.rows, self.given, self.plan
        split = replace(split, train=rows[split.train], held_out=rows[split.held_out])
        questions = [Question(plan.aims[0], split, aim=True)]
        if plan.aims[0] == plan.target:
            return Fold(split, tuple(questions))
        train, held = (
            np.flatnonzero(np.isin(given.pictures, given.pictures[part])) for part in (split.train, split.held_out)
        )
        again = Split(UNSEEN_PRODUCTS, train, held, split.leaked)
        return Fold(again, (*questions, Question(plan.target, again, plan.target in plan.aims)))

    def _base(self, tuned: Tuned, store: ArtifactStore) -> Backbone:
        sha256 = hashlib.sha256(tuned.flatbuffer).hexdigest()
        backbone: dict[str, Any] = {
            "artifact": f"tuned-{self.extractor.recipe.application.lower()}-{sha256[:16]}.tflite",
            "sha256": sha256,
            "application": self.extractor.recipe.application,
            "input_size": tuned.input_size,
            "width": tuned.width,
            "looks": self.extractor.looks,
        }
        store.put(backbone["artifact"], tuned.flatbuffer)
        extractor = TunedExtractor(**backbone, dimensions=self.field.dimensions, artifacts=store)
        extractor.image_options = self.extractor.image_options
        return Backbone(self.alias, extractor, {"backbone": backbone})
