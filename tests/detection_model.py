"""A small real detection model: it finds the dark quarters of a picture. Entry function: ``write_model``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SIDE = 32
QUARTERS = np.array([[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1]], np.float32)[None]
"""Top, left, bottom, right."""
LABELS = "top left\ntop right\nbottom left\nbottom right\n"
FLOAT, INT, BYTE = schema.TensorType.FLOAT32, schema.TensorType.INT32, schema.TensorType.UINT8


class _Graph:
    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]
        self.operators: list[Any] = []
        self.codes: list[Any] = []

    def tensor(self, name, shape, kind=FLOAT, values=None, quantization=None) -> int:
        if values is not None:
            self.buffers.append(schema.BufferT(data=list(np.ascontiguousarray(values).tobytes())))
        buffer = 0 if values is None else len(self.buffers) - 1
        self.tensors.append(
            schema.TensorT(shape=list(shape), type=kind, buffer=buffer, name=name, quantization=quantization)
        )
        return len(self.tensors) - 1

    def operator(self, kind, inputs, name, shape, options=None) -> int:
        code = getattr(schema.BuiltinOperator, kind)
        self.codes.append(schema.OperatorCodeT(builtinCode=code, deprecatedBuiltinCode=code))
        output = self.tensor(name, shape)
        operator = schema.OperatorT(opcodeIndex=len(self.codes) - 1, inputs=inputs, outputs=[output])
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.operators.append(operator)
        return output


def write_model(folder: Path, *, scores_first: bool = False, without_count: bool = False) -> dict[str, Any]:
    """Write the model and its labels; return the value of ``DETECTOR``.

    A quarter's class is its number and its score is 1 less its brightness. ``scores_first``: as TensorFlow 2 names and
    orders the outputs.
    """
    graph = _Graph()
    bytes_to_one = schema.QuantizationParametersT(scale=[1 / 255], zeroPoint=[0])
    source = graph.tensor("image", (1, SIDE, SIDE, 3), BYTE, quantization=bytes_to_one)
    scaled = graph.operator("DEQUANTIZE", [source], "scaled", (1, SIDE, SIDE, 3))
    half = SIDE // 2
    pool = schema.Pool2DOptionsT(
        padding=schema.Padding.VALID, strideW=half, strideH=half, filterWidth=half, filterHeight=half
    )
    quarters = graph.operator("AVERAGE_POOL_2D", [scaled], "quarters", (1, 2, 2, 3), pool)
    axis = graph.tensor("axis", (1,), INT, np.array([3], np.int32))
    bright = graph.operator("MEAN", [quarters, axis], "bright", (1, 2, 2), schema.ReducerOptionsT(keepDims=False))
    shape = graph.tensor("shape", (2,), INT, np.array([1, 4], np.int32))
    row = graph.operator("RESHAPE", [bright, shape], "row", (1, 4), schema.ReshapeOptionsT(newShape=[1, 4]))
    ones = graph.tensor("ones", (1, 4), FLOAT, np.ones((1, 4), np.float32))
    names = ["Call:1", "Call:2"] if scores_first else ["PostProcess:2", "PostProcess:1"]
    scores = graph.operator("SUB", [ones, row], names[0], (1, 4), schema.SubOptionsT())
    classes = graph.tensor(names[1], (1, 4), FLOAT, np.arange(4, dtype=np.float32)[None])
    boxes = graph.tensor("boxes", (1, 4, 4), FLOAT, QUARTERS)
    count = graph.tensor("count", (1,), FLOAT, np.array([4], np.float32))
    outputs = [scores, boxes, count, classes] if scores_first else [boxes, classes, scores, count]
    if without_count:
        outputs.remove(count)
    subgraph = schema.SubGraphT(
        tensors=graph.tensors, inputs=[source], outputs=outputs, operators=graph.operators, name="main"
    )
    model = schema.ModelT(version=3, operatorCodes=graph.codes, subgraphs=[subgraph], buffers=graph.buffers)
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    (folder / "detect.tflite").write_bytes(builder.Output())
    (folder / "labels.txt").write_text(LABELS)
    return {"MODEL": str(folder / "detect.tflite"), "LABELS": str(folder / "labels.txt")}
