"""Large networks as graphs whose tensors are drawn when they are written.

ResNet, MobileNetV2, ViT, BERT and GPT in the operators that exporters write.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

_EPSILON = 1e-5

Statistics = dict[str, np.ndarray]


@dataclass(frozen=True)
class Size:
    """What a network is made for; a transformer's own size where it may be chosen."""

    image: int = 224
    tokens: int = 128
    classes: int = 1000
    layers: int = 12
    width: int = 768
    vocabulary: int = 50257


@dataclass
class Graph:
    """A graph that grows; its tensors are drawn when it is written, one at a time.

    Attributes:
        seed: Seed of all tensors.
        statistics: Mean and variance of every BatchNorm and spread of the scores; None: the graph
            computes them from its batch and gives them as outputs.
    """

    seed: int
    statistics: Statistics | None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: dict[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]] = field(
        default_factory=dict
    )
    outputs: list[str] = field(default_factory=list)

    def op(self, op: str, *inputs: str, num_outputs: int = 1, **attributes: Any) -> str:
        """Add a node and return its first output; the others end in ``:1``, ``:2``, ..."""
        name = f"{op.lower()}_{len(self.nodes)}"
        made = [name, *(f"{name}:{index}" for index in range(1, num_outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), made, name=name, **attributes))
        return name

    def constant(self, name: str, values: object, dtype: type = np.float32) -> str:
        """Add a small tensor."""
        array: np.ndarray = np.asarray(values, dtype=dtype)
        self.tensors[name] = (array.shape, lambda: array)
        return name

    def normal(self, name: str, shape: tuple[int, ...], spread: float) -> str:
        """Add a tensor of normal numbers of this standard deviation."""

        def draw() -> np.ndarray:
            stream = np.random.Generator(
                np.random.Philox(key=[self.seed, zlib.crc32(name.encode())])
            )
            values = stream.standard_normal(shape, dtype=np.float32)
            values *= np.float32(spread)
            return values

        self.tensors[name] = (shape, draw)
        return name

    def num_parameters(self) -> int:
        """Return the number of elements of all tensors."""
        return sum(math.prod(shape) for shape, _ in self.tensors.values())

    def batch_norm(self, x: str, name: str, channels: int) -> str:
        """Normalise with the statistics known, or with those of the batch, which become outputs."""
        scale = self.constant(f"{name}.scale", np.ones(channels))
        shift = self.normal(f"{name}.bias", (channels,), 0.1)
        mean, variance = f"{name}.mean", f"{name}.var"
        if self.statistics is not None:
            self.constant(mean, self.statistics[mean])
            self.constant(variance, self.statistics[variance])
            return self.op("BatchNormalization", x, scale, shift, mean, variance, epsilon=_EPSILON)
        average = self.op("ReduceMean", x, axes=[0, 2, 3], keepdims=1)
        centred = self.op("Sub", x, average)
        square = self.op("ReduceMean", self.op("Mul", centred, centred), axes=[0, 2, 3], keepdims=1)
        flat = self.constant("flat", [-1], np.int64)
        for output, value in ((mean, average), (variance, square)):
            self.nodes.append(helper.make_node("Reshape", [value, flat], [output], name=output))
            self.outputs.append(output)
        small = self.constant("epsilon", _EPSILON)
        deviation = self.op("Sqrt", self.op("Add", square, small))
        view = self.constant("channels_view", [1, -1, 1, 1], np.int64)
        scaled = self.op("Mul", self.op("Div", centred, deviation), self.op("Reshape", scale, view))
        return self.op("Add", scaled, self.op("Reshape", shift, view))

    def head(self, x: str, width: int, classes: int) -> None:
        """Add the last layer: its bias centres the scores, where known its weights spread them."""
        known = self.statistics or {}
        gain = float(known.get("gain", np.ones(())))
        self.normal("head.weight", (width, classes), gain / math.sqrt(width))
        self.constant("head.bias", known.get("head.bias", np.zeros(classes)))
        product = self.op("MatMul", x, "head.weight")
        self.nodes.append(
            helper.make_node("Add", [product, "head.bias"], ["scores"], name="scores")
        )


def _conv(
    graph: Graph,
    x: str,
    name: str,
    channels: tuple[int, int],
    *,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
) -> str:
    """Convolution and BatchNorm."""
    inside, outside = channels
    shape = (outside, inside // groups, kernel, kernel)
    weight = graph.normal(f"{name}.weight", shape, math.sqrt(2.0 / math.prod(shape[1:])))
    pad = kernel // 2
    made = graph.op(
        "Conv",
        x,
        weight,
        kernel_shape=[kernel] * 2,
        strides=[stride] * 2,
        pads=[pad] * 4,
        group=groups,
    )
    return graph.batch_norm(made, f"{name}.bn", outside)


def _resnet(graph: Graph, size: Size, *, blocks: tuple[int, ...], bottleneck: bool) -> None:
    x = graph.op("Relu", _conv(graph, "input", "stem", (3, 64), kernel=7, stride=2))
    x = graph.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inside = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        outside = width * (4 if bottleneck else 1)
        for block in range(count):
            name, stride = f"stage{stage}.{block}", 2 if block == 0 and stage > 0 else 1
            shortcut = x
            if stride > 1 or inside != outside:
                shortcut = _conv(
                    graph, x, f"{name}.shortcut", (inside, outside), kernel=1, stride=stride
                )
            plan = (
                ((inside, width, 1, 1), (width, width, 3, stride), (width, outside, 1, 1))
                if bottleneck
                else ((inside, width, 3, stride), (width, width, 3, 1))
            )
            for index, (before, after, kernel, step) in enumerate(plan):
                x = _conv(graph, x, f"{name}.{index}", (before, after), kernel=kernel, stride=step)
                x = graph.op("Relu", x) if index < len(plan) - 1 else x
            x, inside = graph.op("Relu", graph.op("Add", x, shortcut)), outside
    graph.head(graph.op("Flatten", graph.op("GlobalAveragePool", x)), inside, size.classes)


def resnet18(graph: Graph, size: Size) -> None:
    """ResNet-18 (He and others, 2016)."""
    _resnet(graph, size, blocks=(2, 2, 2, 2), bottleneck=False)


def resnet50(graph: Graph, size: Size) -> None:
    """ResNet-50, stride in the 3 x 3 convolution."""
    _resnet(graph, size, blocks=(3, 4, 6, 3), bottleneck=True)


def mobilenet_v2(graph: Graph, size: Size) -> None:
    """MobileNetV2 (Sandler and others, 2018): depthwise convolutions, inverted residuals."""
    zero, six = graph.constant("zero", 0.0), graph.constant("six", 6.0)

    def relu6(x: str) -> str:
        return graph.op("Clip", x, zero, six)

    x, inside = relu6(_conv(graph, "input", "stem", (3, 32), kernel=3, stride=2)), 32
    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
            (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
    for stage, (expansion, outside, count, first_stride) in enumerate(plan):
        for block in range(count):
            name, stride, before = f"stage{stage}.{block}", first_stride if block == 0 else 1, x
            wide = inside * expansion
            if expansion > 1:
                x = relu6(_conv(graph, x, f"{name}.expand", (inside, wide), kernel=1))
            x = relu6(_conv(
                graph, x, f"{name}.depthwise", (wide, wide), kernel=3, stride=stride, groups=wide
            ))  # fmt: skip
            x = _conv(graph, x, f"{name}.project", (wide, outside), kernel=1)
            x = graph.op("Add", x, before) if stride == 1 and inside == outside else x
            inside = outside
    x = relu6(_conv(graph, x, "last", (inside, 1280), kernel=1))
    graph.head(graph.op("Flatten", graph.op("GlobalAveragePool", x)), 1280, size.classes)


def _dense(graph: Graph, x: str, name: str, inside: int, outside: int, gain: float = 1.0) -> str:
    weight = graph.normal(f"{name}.weight", (inside, outside), math.sqrt(gain / inside))
    bias = graph.normal(f"{name}.bias", (outside,), 0.02)
    return graph.op("Add", graph.op("MatMul", x, weight), bias)


def _layer_norm(graph: Graph, x: str, name: str, width: int) -> str:
    scale = graph.constant(f"{name}.scale", np.ones(width))
    shift = graph.normal(f"{name}.bias", (width,), 0.02)
    return graph.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=_EPSILON)


def _attention(graph: Graph, x: str, name: str, width: int, tokens: int, *, fused: bool,
               causal: bool) -> str:  # fmt: skip
    heads = max(1, width // 64)
    if fused:
        packed = _dense(graph, x, f"{name}.qkv", width, 3 * width)
        first = graph.op("Split", packed, num_outputs=3, axis=-1)
        parts = [first, f"{first}:1", f"{first}:2"]
    else:
        parts = [_dense(graph, x, f"{name}.{part}", width, width) for part in ("q", "k", "v")]
    view = graph.constant("heads_view", [0, tokens, heads, width // heads], np.int64)
    query, key, value = (graph.op("Reshape", part, view) for part in parts)
    query, value = (graph.op("Transpose", part, perm=[0, 2, 1, 3]) for part in (query, value))
    key = graph.op("Transpose", key, perm=[0, 2, 3, 1])
    scale = graph.constant("attention_scale", 1.0 / math.sqrt(width // heads))
    scores = graph.op("Mul", graph.op("MatMul", query, key), scale)
    if causal:
        mask = np.triu(np.full((tokens, tokens), -1e4, np.float32), 1)[None, None]
        scores = graph.op("Add", scores, graph.constant("causal_mask", mask))
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    joined = graph.op(
        "Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]),
        graph.constant("joined_view", [0, tokens, width], np.int64),
    )  # fmt: skip
    return _dense(graph, joined, f"{name}.out", width, width)


def _feed_forward(graph: Graph, x: str, name: str, width: int) -> str:
    wide = _dense(graph, x, f"{name}.up", width, 4 * width, gain=2.0)
    scaled = graph.op("Div", wide, graph.constant("root_two", math.sqrt(2.0)))
    gate = graph.op("Add", graph.op("Erf", scaled), graph.constant("one", 1.0))
    gelu = graph.op("Mul", graph.op("Mul", wide, gate), graph.constant("half", 0.5))
    return _dense(graph, gelu, f"{name}.down", 4 * width, width)


def _blocks(graph: Graph, x: str, size: Size, tokens: int, *, first: bool, fused: bool,
            causal: bool) -> str:  # fmt: skip
    """Add transformer blocks that normalise first (ViT, GPT) or last (BERT)."""
    for layer in range(size.layers):
        name = f"layer{layer}"
        inner = _layer_norm(graph, x, f"{name}.norm1", size.width) if first else x
        mixed = _attention(
            graph, inner, f"{name}.attention", size.width, tokens, fused=fused, causal=causal
        )
        x = graph.op("Add", x, mixed)
        x = x if first else _layer_norm(graph, x, f"{name}.norm1", size.width)
        inner = _layer_norm(graph, x, f"{name}.norm2", size.width) if first else x
        x = graph.op("Add", x, _feed_forward(graph, inner, f"{name}.mlp", size.width))
        x = x if first else _layer_norm(graph, x, f"{name}.norm2", size.width)
    return x


def _embedded(graph: Graph, size: Size) -> str:
    table = graph.normal("tokens.weight", (size.vocabulary, size.width), 1.0)
    places = graph.normal("places.weight", (1, size.tokens, size.width), 0.3)
    return graph.op("Add", graph.op("Gather", table, "input", axis=0), places)


def _token_at(graph: Graph, x: str, index: int) -> str:
    return graph.op("Gather", x, graph.constant("chosen_token", index, np.int64), axis=1)


def vit_b16(graph: Graph, size: Size) -> None:
    """ViT-B/16 (Dosovitskiy and others, 2021)."""
    shape, side = (size.width, 3, 16, 16), size.image // 16
    weight = graph.normal("patches.weight", shape, 1.0 / math.sqrt(3 * 16 * 16))
    bias = graph.normal("patches.bias", (size.width,), 0.02)
    x = graph.op("Conv", "input", weight, bias, kernel_shape=[16, 16], strides=[16, 16])
    x = graph.op("Reshape", x, graph.constant("row", [0, size.width, side * side], np.int64))
    x = graph.op("Transpose", x, perm=[0, 2, 1])
    places = graph.normal("places.weight", (1, side * side, size.width), 0.3)
    x = graph.op("Add", x, places)
    x = _blocks(graph, x, size, side * side, first=True, fused=True, causal=False)
    x = graph.op("ReduceMean", _layer_norm(graph, x, "last_norm", size.width), axes=[1], keepdims=0)
    graph.head(x, size.width, size.classes)


def bert(graph: Graph, size: Size) -> None:
    """BERT (Devlin and others, 2019), a classifier on its first token."""
    x = _layer_norm(graph, _embedded(graph, size), "embedding_norm", size.width)
    x = _blocks(graph, x, size, size.tokens, first=False, fused=False, causal=False)
    pooled = graph.op("Tanh", _dense(graph, _token_at(graph, x, 0), "pool", size.width, size.width))
    graph.head(pooled, size.width, size.classes)


def gpt(graph: Graph, size: Size) -> None:
    """GPT-2 style; scores of the token that follows the last one, by a matrix of its own."""
    x = _blocks(
        graph, _embedded(graph, size), size, size.tokens, first=True, fused=False, causal=True
    )
    x = _layer_norm(graph, _token_at(graph, x, size.tokens - 1), "last_norm", size.width)
    graph.head(x, size.width, size.vocabulary)


NETWORKS: dict[str, tuple[Callable[[Graph, Size], None], Size]] = {
    "resnet18": (resnet18, Size()),
    "resnet50": (resnet50, Size()),
    "mobilenet_v2": (mobilenet_v2, Size()),
    "vit_b16": (vit_b16, Size()),
    "bert": (bert, Size(classes=10, vocabulary=30522)),
    "gpt": (gpt, Size()),
}
