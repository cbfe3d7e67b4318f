"""Make tiny presets of KerasHub with random weights, and what KerasHub itself makes of pictures and texts.

``python -m tests.hub_oracle FOLDER``, as a process of its own, for it imports TensorFlow. Writes the presets ``siglip``
and ``clip`` into the folder, and ``KIND.npz`` with pictures, tokens and both towers' vectors of TEXTS.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np

from django_visual_search.extractors.build import skip_idle_imports

SIZE = 32
TEXTS = ["a red Running-shoe!", "blue mug", "", "Größe  42: schwarz", "word " * 80]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def siglip(keras_hub):
    import sentencepiece

    model = io.BytesIO()
    sentences = ["a red running shoe", "blue mug", "a black chair", "word", *LETTERS]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=60,
        model_type="BPE",
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        minloglevel=2,
    )
    tokenizer = keras_hub.models.SigLIPTokenizer(proto=model.getvalue())
    widths = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 32}
    vision = keras_hub.models.SigLIPVisionEncoder(patch_size=8, image_shape=(SIZE, SIZE, 3), **widths)
    text = keras_hub.models.SigLIPTextEncoder(
        vocabulary_size=tokenizer.vocabulary_size(), embedding_dim=16, max_sequence_length=12, **widths
    )
    backbone = keras_hub.models.SigLIPBackbone(vision_encoder=vision, text_encoder=text)
    converter = keras_hub.layers.SigLIPImageConverter(image_size=(SIZE, SIZE), scale=1 / 127.5, offset=-1.0)
    return backbone, keras_hub.models.SigLIPPreprocessor(tokenizer, image_converter=converter, sequence_length=12)


def clip(keras_hub):
    marks = ["<|startoftext|>", "<|endoftext|>"]
    merges = ["r e", "re d</w>", "b l", "bl u", "blu e</w>"]
    singles = list(LETTERS) + [f"{letter}</w>" for letter in LETTERS]
    terms = [*singles, *(merge.replace(" ", "") for merge in merges), *marks]
    vocabulary = {term: number for number, term in enumerate(terms)}
    tokenizer = keras_hub.models.CLIPTokenizer(vocabulary=vocabulary, merges=merges)
    widths = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "intermediate_dim": 32}
    vision = keras_hub.models.CLIPVisionEncoder(patch_size=8, image_shape=(SIZE, SIZE, 3), **widths)
    text = keras_hub.models.CLIPTextEncoder(
        vocabulary_size=len(vocabulary), embedding_dim=16, max_sequence_length=12, **widths
    )
    backbone = keras_hub.models.CLIPBackbone(vision_encoder=vision, text_encoder=text, projection_dim=24)
    scale, offset = [1 / 70, 1 / 68, 1 / 69], [-1.8, -1.7, -1.5]
    converter = keras_hub.layers.CLIPImageConverter(image_size=(SIZE, SIZE), scale=scale, offset=offset)
    return backbone, keras_hub.models.CLIPPreprocessor(tokenizer, image_converter=converter, sequence_length=12)


def main(folder: Path) -> None:
    skip_idle_imports()
    import keras
    import keras_hub

    pictures = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    for make in (siglip, clip):
        keras.utils.set_random_seed(1)
        backbone, preprocessor = make(keras_hub)
        for weight in backbone.weights:  # the initial ones are so small that all texts would be alike
            weight.assign(weight + 0.2 * keras.random.normal(weight.shape))
        backbone.save_to_preset(folder / make.__name__)
        preprocessor.save_to_preset(folder / make.__name__)
        tokens = np.concatenate(
            [preprocessor({"prompts": [text], "images": pictures[:1].astype("float32")})["token_ids"] for text in TEXTS]
        )
        images = preprocessor.image_converter(pictures.astype("float32"))
        np.savez(
            folder / f"{make.__name__}.npz",
            pictures=pictures,
            tokens=tokens,
            image=keras.ops.convert_to_numpy(backbone.get_vision_embeddings(images)),
            text=keras.ops.convert_to_numpy(backbone.get_text_embeddings(keras.ops.convert_to_tensor(tokens))),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
