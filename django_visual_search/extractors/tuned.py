"""A backbone fine-tuned on the shop's own pictures: a flatbuffer kept as an artifact, run by LiteRT."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import litert
from .base import ArtifactStore, ExtractorUnavailable
from .looks import NetworkExtractor


class TunedExtractor(NetworkExtractor):
    """Pooled features of a fine-tuned network.

    ``artifact``: its name in ``artifacts``; ``sha256``: of the flatbuffer, the identity of its space. ``application``:
    the network it was tuned from, for people. ``input_size``: side of the pictures in pixels. ``width``: how many
    features the network gives. ``looks``: weight of the classic descriptor beside them. Raises ValueError for invalid
    options; a call raises ExtractorUnavailable if the artifact isn't in the store or can't be run.
    """

    def __init__(
        self,
        artifact: str,
        sha256: str,
        application: str,
        input_size: int,
        width: int,
        threads: int | None = None,
        looks: float = 0,
        *,
        dimensions: int | None = None,
        artifacts: ArtifactStore | None = None,
        images: dict[str, Any] | None = None,
    ) -> None:
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"sha256 must be 64 hexadecimal digits, not {sha256!r}.")
        self.artifact = artifact
        self.sha256 = sha256
        self.name = f"tuned-{application.lower()}"
        self.input_size = input_size
        self.threads = threads
        self._width = width
        super().__init__(looks=looks, dimensions=dimensions, artifacts=artifacts, images=images)

    @property
    def network_width(self) -> int:
        return self._width

    @property
    def identity(self) -> tuple[object, ...]:
        return (self.sha256,)

    def network_features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if problem := self.missing():
            raise ExtractorUnavailable(problem)
        path = self.artifacts and self.artifacts.get(self.artifact)
        assert path
        return litert.shared_flatbuffer(path, self.threads)(images)

    def missing(self) -> str | None:
        problem = litert.runtime_problem()
        if problem is None and (self.artifacts is None or self.artifacts.get(self.artifact) is None):
            problem = (
                f"The fine-tuned model {self.artifact} is not in the database: switch to another head or extractor "
                "(`manage.py switch_embedding`), or fine-tune again."
            )
        return problem
