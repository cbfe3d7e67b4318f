"""Write the towers of a KerasHub preset as flatbuffers: ``hub`` runs this module as a process of its own.

Standard input and reports: as of ``build``. Beside ``request["output"]``, the image tower, it writes ``text.tflite``
and ``tokenizer.json``, which is all that a process without TensorFlow needs to embed texts.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .build import converted, prepare, reported


def build_towers(request: dict[str, Any]) -> None:
    """Write both towers and the tokenizer. Raise ValueError for a preset that has no two towers of this size."""
    prepare()
    import keras
    import keras_hub

    preset, size, output = request["preset"], request["input_size"], Path(request["output"])
    backbone = keras_hub.models.Backbone.from_preset(preset)
    if not hasattr(backbone, "get_vision_embeddings") or not hasattr(backbone, "get_text_embeddings"):
        raise ValueError(f"{preset} is a {type(backbone).__name__}, which has no towers for pictures and texts.")
    side = backbone.vision_encoder.image_shape[0]
    if side != size:
        raise ValueError(f"{preset} takes pictures of {side} pixels: set input_size to {side}.")

    pictures = keras.Input(batch_shape=(1, size, size, 3), dtype="uint8")
    scaled = keras.ops.cast(pictures, "float32") * _channels(preset, "scale", 1.0) + _channels(preset, "offset", 0.0)
    output.write_bytes(_flatbuffer(pictures, backbone.get_vision_embeddings(scaled), request["quantise"]))

    tokenizer = _tokenizer(preset, backbone)
    tokens = keras.Input(batch_shape=(1, tokenizer["length"]), dtype="int32")
    text = _flatbuffer(tokens, backbone.get_text_embeddings(tokens), request["quantise"])
    (output.parent / "text.tflite").write_bytes(text)
    (output.parent / "tokenizer.json").write_text(json.dumps(tokenizer))


def _channels(preset: str, name: str, default: float) -> Any:
    """Return a number for each channel, ``(3,)``, of the preset's preparation of pictures."""
    import keras_hub

    value = getattr(keras_hub.layers.ImageConverter.from_preset(preset), name)
    return np.broadcast_to(np.asarray(default if value is None else value, np.float32).reshape(-1), (3,))


def _flatbuffer(inputs: Any, outputs: Any, quantise: str | None) -> bytes:
    import keras

    return converted(keras.Model(inputs, outputs), inputs.shape, inputs.dtype, quantise)


def _tokenizer(preset: str, backbone: Any) -> dict[str, Any]:
    """Return what ``hub.TextTokenizer`` needs: the vocabulary, and how a text becomes a row of tokens."""
    import keras_hub

    kind = type(backbone).__name__.replace("Backbone", "Preprocessor")
    preprocessor = getattr(keras_hub.models, kind).from_preset(preset)
    tokenizer = preprocessor.tokenizer
    proto = getattr(tokenizer, "proto", None)
    model = tokenizer._tokenizer.to_str() if proto is None else base64.b64encode(proto).decode()
    return {
        "kind": "tokenizers" if proto is None else "sentencepiece",
        "model": model,
        "length": int(preprocessor.sequence_length),
        "start": int(tokenizer.start_token_id) if preprocessor.add_start_token else None,
        "end": int(tokenizer.end_token_id) if preprocessor.add_end_token else None,
        "pad": int(tokenizer.pad_token_id),
        "lower": bool(getattr(preprocessor, "to_lower", False) or getattr(preprocessor, "canonicalize_text", False)),
        "plain": bool(getattr(preprocessor, "canonicalize_text", False)),
    }


def main() -> int:
    request = json.load(sys.stdin)
    return reported(request, lambda: build_towers(request))


if __name__ == "__main__":
    sys.exit(main())
