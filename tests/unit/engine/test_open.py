from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from cimrobust.data.dataset import DataSet, DataSource
from cimrobust.data.decision import Decision, LabelReading
from cimrobust.engine import checks
from cimrobust.engine.batches import Feeding
from cimrobust.engine.open import Runtime, open_network
from cimrobust.engine.ort import OrtEngine
from cimrobust.errors import ModelNotCoveredError, SelfCheckError, UsageError
from cimrobust.onnx_io.network import Network
from cimrobust.onnx_io.scan import scan_layers

GENERATOR = np.random.default_rng(0)
W = {
    name: GENERATOR.normal(size=shape).astype(np.float32)
    for name, shape in (("w1", (6, 5)), ("w2", (5, 4)))
}
X = GENERATOR.normal(size=(40, 6)).astype(np.float32)
LABELS = (np.maximum(X @ W["w1"], 0) @ W["w2"]).argmax(axis=1)
HEAD = '<ir_version: 8, opset_import: ["" : 13]>'
WEIGHTS = "<float[6, 5] w1, float[5, 4] w2>"
DENSE = (
    HEAD
    + "agraph (float[{n}, 6] x) => (float[{n}, 4] y) "
    + WEIGHTS
    + " {{ a = MatMul(x, w1) h = Relu(a) y = MatMul(h, w2) }}"
)
SINGLE = (
    HEAD
    + "agraph (float[6] x) => (float[4] y) "
    + WEIGHTS
    + " { a = MatMul(x, w1) h = Relu(a) y = MatMul(h, w2) }"
)
# The mean over the sample axis is right for one sample only: the batch axis must not be widened.
MIXING = (
    HEAD
    + "agraph (float[1, 6] x) => (float[1, 4] y) "
    + WEIGHTS
    + " { a = MatMul(x, w1) m = ReduceMean<axes = [0], keepdims = 1>(a) h = Mul(a, m) y = MatMul(h,"
    " w2) }"
)

Opener = Callable[..., Runtime]


@pytest.fixture
def open_text(
    load: Callable[..., Network], place_box: Callable[..., object], dataset: Callable[..., DataSet]
) -> Opener:
    """Open a model given as text on the samples X."""

    def opener(
        text: str,
        weights: Mapping[str, np.ndarray] = W,
        *,
        data: DataSet | None = None,
        radius: float = 0.01,
        workers: int = 1,
    ) -> Runtime:
        network = load(text, weights)
        scan = scan_layers(network)
        return open_network(
            network,
            scan,
            place_box(scan, radius),
            data or dataset({"x": X}, LABELS),
            workers=workers,
        )  # type: ignore[arg-type]

    return opener


@pytest.mark.parametrize(
    ("text", "feeding", "note"),
    [
        (DENSE.format(n="N"), Feeding("free", 256), "any number"),
        (
            DENSE.format(n=1),
            Feeding("free", 256),
            "fixes the batch axis at 1; it was widened to 256",
        ),
        (DENSE.format(n=16), Feeding("free", 256), "fixes the batch axis at 16; it was widened"),
        (SINGLE, Feeding("none", 1), "no batch axis"),
    ],
)
def test_every_kind_of_batch_axis_scores_the_same(
    open_text: Opener, text: str, feeding: Feeding, note: str
) -> None:
    runtime = open_text(text)
    assert runtime.engine.feeding == feeding
    assert note in runtime.batch_note
    assert (runtime.clean.count, runtime.quantised.count, runtime.clean.num_samples) == (40, 40, 40)
    assert runtime.checks.original.max_difference < 1e-5
    assert (runtime.checks.zero_deviation.max_difference, runtime.checks.vertex.max_difference) == (
        0.0,
        0.0,
    )


def test_widening_that_mixes_samples_is_found_out(
    open_text: Opener, dataset: Callable[..., DataSet]
) -> None:
    runtime = open_text(MIXING, data=dataset({"x": X}))
    assert runtime.engine.feeding == Feeding("fixed", 1)
    assert "Widening the batch axis was tried and is not right" in runtime.batch_note
    assert runtime.clean.value == 1.0


def test_score_follows_weights_and_subset(open_text: Opener) -> None:
    runtime = open_text(DENSE.format(n=1))
    swapped = {"w1": W["w1"], "w2": np.ascontiguousarray(W["w2"][:, ::-1])}
    expected = (np.maximum(X @ W["w1"], 0) @ W["w2"][:, ::-1]).argmax(axis=1) == LABELS
    assert runtime.score(swapped).count == expected.sum()
    some = np.array([3, 1, 17, 39])
    score = runtime.score(swapped, subset=some, threads=2)
    assert (score.count, score.num_samples) == (expected[some].sum(), 4)


def test_own_decisions_are_the_labels_where_there_are_none(
    open_text: Opener, dataset: Callable[..., DataSet]
) -> None:
    runtime = open_text(DENSE.format(n=1), data=dataset({"x": X}))
    assert runtime.clean.value == 1.0
    np.testing.assert_array_equal(runtime.task.labels, LABELS)


def test_inputs_that_do_not_match_are_listed(
    open_text: Opener, dataset: Callable[..., DataSet]
) -> None:
    with pytest.raises(
        UsageError, match=r"graph inputs \['x'\].*missing \['x'\], unknown \['image'\]"
    ):
        open_text(DENSE.format(n=1), data=dataset({"image": X}))


def test_unknown_decision_output_is_refused(
    open_text: Opener, dataset: Callable[..., DataSet]
) -> None:
    with pytest.raises(UsageError, match=r"got 'logits' \(graph has \['y'\]\)"):
        open_text(DENSE.format(n=1), data=dataset({"x": X}, decision=Decision(output="logits")))


def test_constant_inputs_are_fed_as_they_are(
    open_text: Opener, dataset: Callable[..., DataSet]
) -> None:
    text = (
        HEAD
        + "agraph (float[1, 6] x, float[4] bias) => (float[1, 4] y) "
        + WEIGHTS
        + " { a = MatMul(x, w1) h = Relu(a) b = MatMul(h, w2) y = Add(b, bias) }"
    )
    bias = np.array([0, 100, 0, 0])
    runtime = open_text(
        text, data=dataset({"x": X}, np.ones(40, np.int64), constants={"bias": bias})
    )
    assert runtime.clean.value == 1.0
    assert runtime.dataset.constants["bias"].dtype == np.float32


def test_layer_without_influence_is_a_warning(open_text: Opener) -> None:
    text = (
        HEAD
        + "agraph (float[1, 6] x) => (float[1, 4] y) "
        + WEIGHTS
        + "<float[4, 4] w3, float z = {0}> { a = MatMul(x, w1) b = MatMul(a, w2) c = MatMul(b, w3)"
        " d = Mul(c, z) y = Add(b, d) }"
    )
    text = text.replace(WEIGHTS + "<", WEIGHTS[:-1] + ", ")
    runtime = open_text(text, {**W, "w3": np.ones((4, 4), np.float32)})
    assert runtime.checks.dead == ("w3",)
    assert any("'w3'" in warning and "dead layer" in warning for warning in runtime.warnings)


def test_tensor_with_an_empty_box_is_replaced_to_see_it_live(open_text: Opener) -> None:
    runtime = open_text(DENSE.format(n=1), radius=0.0)
    assert {tensor.move for tensor in runtime.checks.liveness} == {"replaced"}


def test_engine_that_ignores_a_weight_fails_the_self_check(
    open_text: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a runtime that folds weights too early would do."""
    real = OrtEngine.open
    monkeypatch.setattr(
        OrtEngine, "open", lambda self, weights: real(self, {**weights, "w2": W["w2"]})
    )
    with pytest.raises(SelfCheckError, match="corner of the tolerance box"):
        open_text(DENSE.format(n=1))
    monkeypatch.setattr("cimrobust.engine.open.check_against_saved", lambda *args, **kwargs: None)
    with pytest.raises(SelfCheckError, match="follow a change of 'w2'"):
        open_text(DENSE.format(n=1))


def test_network_that_is_deployed_wrongly_fails_the_self_check(
    open_text: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OrtEngine.run
    monkeypatch.setattr(
        OrtEngine,
        "run",
        lambda self, weights, *args, **kwargs: real(self, weights, *args, **kwargs) * 1.01,
    )
    with pytest.raises(SelfCheckError, match="must give the outputs of the model file"):
        open_text(DENSE.format(n=1))


def test_random_network_is_not_covered(open_text: Opener) -> None:
    text = (
        HEAD
        + "agraph (float[1, 6] x) => (float[1, 4] y) "
        + WEIGHTS
        + " { a = MatMul(x, w1) r = RandomNormalLike<scale = 1e-7>(a) b = Add(a, r) h = Relu(b) y ="
        " MatMul(h, w2) }"
    )
    with pytest.raises(ModelNotCoveredError, match="same output for the same input"):
        open_text(text)


def test_network_that_mixes_samples_of_a_free_batch_is_not_covered(open_text: Opener) -> None:
    text = MIXING.replace("float[1, 6]", "float[N, 6]").replace("float[1, 4]", "float[N, 4]")
    with pytest.raises(ModelNotCoveredError, match="whatever other samples are in its batch"):
        open_text(text)


@pytest.mark.parametrize("samples", ["N", 1])
def test_samples_that_would_share_a_quantisation_range_are_run_one_at_a_time(
    open_text: Opener, samples: str | int
) -> None:
    """Dynamic quantisers take their range from the whole batch: one sample that sticks out would
    change the others' results.
    """
    text = (
        HEAD
        + f"agraph (float[{samples}, 6] x) => (float[{samples}, 4] y) "
        + WEIGHTS
        + " { q, s, z = DynamicQuantizeLinear(x) d = DequantizeLinear(q, s, z) a = MatMul(d, w1) h"
        " = Relu(a) y = MatMul(h, w2) }"
    )
    spread = X * np.where(np.arange(len(X)) % 7 == 0, 100.0, 1.0)[:, None].astype(np.float32)
    runtime = open_text(
        text,
        data=DataSet({"x": spread}, {}, LABELS, Decision(), DataSource("test", {}, {}, len(X))),
    )
    assert runtime.engine.feeding == Feeding("fixed", 1)
    assert ("run one at a time" in runtime.batch_note) == (samples == "N")
    scale = np.maximum(spread.max(axis=1), 0) - np.minimum(spread.min(axis=1), 0)
    hidden = np.maximum(spread @ W["w1"], 0) @ W["w2"]
    # Half a step of each sample's own range, through both products; a range of the whole batch
    # would be ten times as far off.
    reach = 0.75 * scale / 255 * (np.abs(W["w1"]).sum(axis=0) @ np.abs(W["w2"])).max()
    assert (np.abs(runtime.clean_output - hidden) <= reach[:, None] + 1e-4).all()


def test_number_of_workers_changes_nothing(open_text: Opener) -> None:
    one, four = open_text(DENSE.format(n=1)), open_text(DENSE.format(n=1), workers=4)
    np.testing.assert_array_equal(one.clean_output, four.clean_output)
    assert one.checks == four.checks
    assert (one.clean, one.quantised) == (four.clean, four.quantised)


def test_differences_of_infinities_and_missing_numbers() -> None:
    values = np.array([1.0, np.inf, np.nan])
    assert checks.max_difference(values, values.copy()) == 0.0
    assert checks.max_difference(values, np.array([1.0, np.inf, 0.0])) == np.inf
    assert checks.max_difference(values, values[:2]) == np.inf


NAMED = (
    HEAD
    + """net (float[N, 6] x) => (string[N] y) <float[6, 5] w1, float[5, 4] w2>
{ a = MatMul(x, w1) h = Relu(a) z = MatMul(h, w2)
  i = ArgMax<axis = 1, keepdims = 0>(z)
  n = Constant<value_strings = ["cat", "dog", "eel", "fox"]>()
  y = Gather(n, i) }
"""
)


def test_a_network_whose_output_is_a_name_is_opened(
    open_text: Opener, dataset: Callable[..., DataSet]
) -> None:
    names = ("cat", "dog", "eel", "fox")
    given = dataset({"x": X}, np.array(names)[LABELS], decision=Decision(read="label"))
    data = replace(given, reading=LabelReading(classes=names))
    runtime = open_text(NAMED, data=data)
    assert runtime.clean.count == len(X)
    assert runtime.checks.original.max_difference == 0.0


def test_integer_networks_are_compared_by_decisions() -> None:
    outputs = np.eye(4, dtype=np.float32)[np.arange(100) % 4]
    decided = outputs.argmax(axis=1)
    other = decided.copy()
    other[:2] = 3
    parity = checks.compare(
        outputs, outputs * np.float32(0.5), decisions=(decided, other), integer=True
    )
    assert (parity.holds, parity.differing_decisions, parity.tolerance) == (True, 2, None)
    other[:4] = 3
    assert not checks.compare(outputs, outputs, decisions=(decided, other), integer=True).holds
    assert not checks.compare(
        outputs, outputs * np.float32(0.5), decisions=(decided, decided), integer=False
    ).holds
    assert replace(parity, holds=False) != parity
