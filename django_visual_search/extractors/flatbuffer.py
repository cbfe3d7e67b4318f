"""Write an EfficientNet-Lite as a flatbuffer that LiteRT runs, without TensorFlow.

Entry function: ``write_flatbuffer``. The format is TensorFlow Lite's schema, version 3, by the classes that LiteRT
brings. The weights are half floats, which LiteRT widens as it loads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .efficientnet import OFFSET, SCALE, ConvolutionLayer

WRITER_VERSION = 1
"""Raised whenever the same layers give another model; part of the names of written models and of keys."""

ALIGNMENT = 16
"""Bytes; the schema demands it of the data of a buffer."""

FEATURES = "features"
"""Name of the output that is the mean over the last map."""


def write_flatbuffer(layers: Sequence[ConvolutionLayer], size: int, outputs: Sequence[str] = (FEATURES,)) -> bytes:
    """Return a model of one picture, uint8 ``(1, size, size, 3)`` RGB, to ``outputs``.

    An output is ``FEATURES``, float32 ``(1, width)``, or the name of a layer for its map, float32
    ``(1, side, side, channels)``; the side is ``size`` divided by the strides so far, rounded up. Raise ValueError for
    an unknown name.
    """
    if unknown := set(outputs) - {FEATURES, *(layer.name for layer in layers)}:
        raise ValueError(f"The network has no layer {', '.join(sorted(unknown))}.")
    return _Writer().write(layers, size, outputs)


class _Writer:
    """A model while it is written."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]  # by convention the first is empty: for tensors without data
        self.operators: list[Any] = []
        self.codes: dict[int, int] = {}

    def write(self, layers: Sequence[ConvolutionLayer], size: int, outputs: Sequence[str]) -> bytes:
        import flatbuffers

        schema = self.schema
        # As quantised numbers, pixels become (pixel - OFFSET) / SCALE in the one step that makes them floats.
        scaled = schema.QuantizationParametersT(scale=[1 / SCALE], zeroPoint=[int(OFFSET)])
        source = self._tensor("pictures", (1, size, size, 3), schema.TensorType.UINT8, quantization=scaled)
        shape: tuple[int, ...] = (1, size, size, 3)
        now = self._operator("DEQUANTIZE", [source], "scaled", shape)
        made: list[int] = []
        named: dict[str, int] = {}
        for layer in layers:
            side = -(-shape[1] // layer.stride)
            shape = (1, side, side, layer.kernel.shape[2 if layer.depthwise else 3])
            now = self._convolution(layer, now, shape)
            if layer.adds is not None:
                options = schema.AddOptionsT()
                now = self._operator("ADD", [now, made[layer.adds]], f"{layer.name}_sum", shape, options)
            made.append(now)
            named[layer.name] = now
        if FEATURES in outputs:
            axes = self._constant("axes", np.array([1, 2], np.int32), schema.TensorType.INT32)
            options = schema.ReducerOptionsT(keepDims=False)
            named[FEATURES] = self._operator("MEAN", [now, axes], FEATURES, (1, shape[3]), options)
        graph = schema.SubGraphT(
            tensors=self.tensors,
            inputs=[source],
            outputs=[named[name] for name in outputs],
            operators=self.operators,
            name="main",
        )
        codes = [schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=min(code, 127)) for code in self.codes]
        model = schema.ModelT(version=3, operatorCodes=codes, subgraphs=[graph], buffers=self.buffers)
        builder = flatbuffers.Builder(sum(layer.kernel.size for layer in layers) * 2 + 2**20)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _convolution(self, layer: ConvolutionLayer, source: int, shape: tuple[int, ...]) -> int:
        schema = self.schema
        kernel, bias = layer.folded()
        common = {
            "padding": schema.Padding.SAME,
            "strideW": layer.stride,
            "strideH": layer.stride,
            "fusedActivationFunction": (
                schema.ActivationFunctionType.RELU6 if layer.activated else schema.ActivationFunctionType.NONE
            ),
        }
        if layer.depthwise:
            ordered = kernel.transpose(3, 0, 1, 2)
            options = schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **common)
        else:
            ordered = kernel.transpose(3, 0, 1, 2)
            options = schema.Conv2DOptionsT(**common)
        half = self._constant(f"{layer.name}_half", ordered.astype("<f2"), schema.TensorType.FLOAT16)
        weights = self._operator("DEQUANTIZE", [half], f"{layer.name}_kernel", ordered.shape)
        offset = self._constant(f"{layer.name}_bias", bias.astype("<f4"), schema.TensorType.FLOAT32)
        kind = "DEPTHWISE_CONV_2D" if layer.depthwise else "CONV_2D"
        return self._operator(kind, [source, weights, offset], layer.name, shape, options)

    def _operator(
        self, kind: str, inputs: list[int], name: str, shape: tuple[int, ...], options: Any | None = None
    ) -> int:
        """Add an operator and return the number of its output, a float32 tensor."""
        schema = self.schema
        output = self._tensor(name, shape, schema.TensorType.FLOAT32)
        code = getattr(schema.BuiltinOperator, kind)
        operator = schema.OperatorT(
            opcodeIndex=self.codes.setdefault(code, len(self.codes)), inputs=inputs, outputs=[output]
        )
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.operators.append(operator)
        return output

    def _constant(self, name: str, values: NDArray[Any], kind: int) -> int:
        self.buffers.append(_aligned_buffer(self.schema, values))
        return self._tensor(name, values.shape, kind, buffer=len(self.buffers) - 1)

    def _tensor(self, name: str, shape: tuple[int, ...], kind: int, **more: Any) -> int:
        self.tensors.append(self.schema.TensorT(shape=list(shape), type=kind, name=name, hasRank=True, **more))
        return len(self.tensors) - 1


def _aligned_buffer(schema: Any, values: NDArray[Any]) -> Any:
    """Return a buffer of the schema with aligned data; the schema's own class doesn't align it."""

    class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:  # noqa: N802 - the schema's name
            data = np.ascontiguousarray(values).tobytes()
            builder.StartVector(1, len(data), ALIGNMENT)
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            vector = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, vector)
            return schema.BufferEnd(builder)

    return AlignedBuffer()
