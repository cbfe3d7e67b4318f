"""The models of ``keras.applications``, known without importing Keras."""

from __future__ import annotations

import difflib

# name: (features of the pooled last layer, default side of the input in pixels), as Keras 3.15 builds them.
APPLICATIONS: dict[str, tuple[int, int]] = {
    "ConvNeXtBase": (1024, 224),
    "ConvNeXtLarge": (1536, 224),
    "ConvNeXtSmall": (768, 224),
    "ConvNeXtTiny": (768, 224),
    "ConvNeXtXLarge": (2048, 224),
    "DenseNet121": (1024, 224),
    "DenseNet169": (1664, 224),
    "DenseNet201": (1920, 224),
    "EfficientNetB0": (1280, 224),
    "EfficientNetB1": (1280, 240),
    "EfficientNetB2": (1408, 260),
    "EfficientNetB3": (1536, 300),
    "EfficientNetB4": (1792, 380),
    "EfficientNetB5": (2048, 456),
    "EfficientNetB6": (2304, 528),
    "EfficientNetB7": (2560, 600),
    "EfficientNetV2B0": (1280, 224),
    "EfficientNetV2B1": (1280, 240),
    "EfficientNetV2B2": (1408, 260),
    "EfficientNetV2B3": (1536, 300),
    "EfficientNetV2L": (1280, 480),
    "EfficientNetV2M": (1280, 480),
    "EfficientNetV2S": (1280, 384),
    "InceptionResNetV2": (1536, 299),
    "InceptionV3": (2048, 299),
    "MobileNet": (1024, 224),
    "MobileNetV2": (1280, 224),
    "MobileNetV3Large": (960, 224),
    "MobileNetV3Small": (576, 224),
    "NASNetLarge": (4032, 331),
    "NASNetMobile": (1056, 224),
    "ResNet50": (2048, 224),
    "ResNet50V2": (2048, 224),
    "ResNet101": (2048, 224),
    "ResNet101V2": (2048, 224),
    "ResNet152": (2048, 224),
    "ResNet152V2": (2048, 224),
    "VGG16": (512, 224),
    "VGG19": (512, 224),
    "Xception": (2048, 299),
}

RESERVED = frozenset(
    {
        *("classes", "classifier_activation", "include_preprocessing", "include_top"),
        *("input_shape", "input_tensor", "name", "pooling", "weights"),
    }
)
"""Arguments of an application that KerasExtractor sets itself."""


def check_application(name: str) -> None:
    """Raise ValueError, with the names that come close, if ``keras.applications`` has no such model."""
    if name not in APPLICATIONS:
        lower = {known.lower(): known for known in APPLICATIONS}
        close = [lower[match] for match in difflib.get_close_matches(name.lower(), lower, n=4, cutoff=0.5)]
        raise ValueError(
            f"keras.applications has no model {name!r}. "
            + (f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(APPLICATIONS)}.")
        )


def known_width(name: str, kwargs: dict[str, object]) -> int | None:
    """How many features the application gives, or None where these ``kwargs`` may change it."""
    width = APPLICATIONS[name][0]
    alpha = kwargs.get("alpha", 1.0)
    if set(kwargs) - {"alpha"} or not isinstance(alpha, int | float):
        return None
    # MobileNetV2 never narrows its last layer (M. Sandler et al., "MobileNetV2", 2018, section 4).
    return width if alpha == 1 or (name == "MobileNetV2" and alpha < 1) else None
