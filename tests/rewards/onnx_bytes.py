"""A tiny network of U²-Net's interface as an ONNX file, without the package ``onnx``.

Fields are numbered as in onnx.proto3; an ONNX file is one protobuf message, ModelProto.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

FLOAT = 1


def conv_sigmoid(weights: Sequence[float], bias: float, side: int = 320) -> bytes:
    """[1, 3, side, side] → σ(weights · pixel + bias), then a second output as U²-Net has more."""
    nodes = [
        _node("Conv", ["image", "weights", "bias"], "logits"),
        _node("Sigmoid", ["logits"], "salient"),
        _node("Neg", ["logits"], "other"),
    ]
    tensors = [_tensor("weights", [1, 3, 1, 1], weights), _tensor("bias", [1], [bias])]
    output = [1, 1, side, side]
    graph = b"".join(
        [
            *(_message(1, node) for node in nodes),
            _message(2, b"u2net"),
            *(_message(5, tensor) for tensor in tensors),
            _message(11, _value("image", [1, 3, side, side])),
            _message(12, _value("salient", output)),
            _message(12, _value("other", output)),
        ]
    )
    opset = _number(2, 13)
    return _number(1, 8) + _message(7, graph) + _message(8, opset)


def _node(kind: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(_message(1, name.encode()) for name in inputs) + (
        _message(2, output.encode()) + _message(4, kind.encode())
    )


def _tensor(name: str, shape: Sequence[int], values: Sequence[float]) -> bytes:
    raw = struct.pack(f"<{len(values)}f", *values)
    dims = b"".join(_number(1, length) for length in shape)
    return dims + _number(2, FLOAT) + _message(8, name.encode()) + _message(9, raw)


def _value(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(_message(1, _number(1, length)) for length in shape)
    tensor_type = _number(1, FLOAT) + _message(2, dims)
    return _message(1, name.encode()) + _message(2, _message(1, tensor_type))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    head = b""
    while value > 127:
        head += bytes([value & 127 | 128])
        value >>= 7
    return head + bytes([value])
