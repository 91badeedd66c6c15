"""Models that one protobuf message does not hold, with a message that holds less."""

from __future__ import annotations

import pickle
import weakref
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper

from cimrobust.available_memory import memory_limit
from cimrobust.engine import original_file
from cimrobust.engine.original_file import model_source, run_original
from cimrobust.engine.ort import OrtEngine
from cimrobust.errors import InputRefusedError, ModelNotCoveredError
from cimrobust.onnx_io import large_models, memory_needs, save
from cimrobust.onnx_io import session_template as templates
from cimrobust.onnx_io.deploy import deploy
from cimrobust.onnx_io.large_models import is_large, tensor_bytes, without_data
from cimrobust.onnx_io.load_network import load_network
from cimrobust.onnx_io.save import data_file, save_model, session_source, with_weights
from cimrobust.onnx_io.scan import scan_layers
from cimrobust.onnx_io.session_template import session_template, template_bytes

MODEL = (
    '<ir_version: 10, opset_import: ["": 17], producer_name: "tests", metadata_props: ["k": "v"]>'
    " g (int64[N, 3] ids) => (float[N, 3, 40] y) {"
    " e = Gather(table, ids)"
    " h = MatMul(e, w)"
    " y = Add(h, b) }"
)
IDS = {"ids": np.array([[0, 5, 99], [3, 2, 1]], dtype=np.int64)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model with a table that stays digital, 12 800 bytes, and a layer of 5 120 bytes."""
    model = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(0)
    for name, shape in (("table", (100, 32)), ("w", (32, 40)), ("b", (40,))):
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def small_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_models, "MAX_TENSOR_BYTES", 4000)


def deployed_of(path: Path):
    network = load_network(path)
    scan = scan_layers(network)
    return network, deploy(network, scan), {x.initializer: x.values for x in scan.layers}


def test_a_copy_without_data_is_the_model_otherwise(path):
    model = onnx.load(path)
    bare = without_data(model, ["table"])
    assert tensor_bytes(bare) == tensor_bytes(model)
    table = next(tensor for tensor in bare.graph.initializer if tensor.name == "table")
    assert not table.raw_data
    table.raw_data = model.graph.initializer[0].raw_data
    assert bare.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


@pytest.mark.usefixtures("small_messages")
def test_a_saved_model_runs_and_is_read_again(path, tmp_path):
    network, deployed, weights = deployed_of(path)
    moved = {name: values + np.float32(0.5) for name, values in weights.items()}
    written = save_model(with_weights(deployed, moved), tmp_path / "out.onnx")
    assert written == (tmp_path / "out.onnx", data_file(tmp_path / "out.onnx"))
    assert sum(file.stat().st_size for file in written) > 12_800 + 5_120
    assert written[0].stat().st_size < 4000
    again = load_network(written[0])
    np.testing.assert_array_equal(again.initializers["w"], moved["w"])
    assert [file.name for file in again.files] == ["out.onnx", "out.onnx.data"]
    plain = ort.InferenceSession(str(written[0])).run(None, IDS)[0]
    np.testing.assert_array_equal(run_original(again, IDS), plain)
    np.testing.assert_array_equal(OrtEngine(deployed).run(moved, IDS), plain)
    assert network.files[0].name == "m.onnx"


def test_sessions_compute_the_same_whatever_a_message_holds(path, monkeypatch):
    _, deployed, weights = deployed_of(path)
    whole = OrtEngine(deployed).run(weights, IDS)
    monkeypatch.setattr(large_models, "MAX_TENSOR_BYTES", 4000)
    template, others = session_template(deployed)
    assert (list(others), len(template) < 2000) == (["table"], True)
    np.testing.assert_array_equal(OrtEngine(deployed).run(weights, IDS), whole)
    with session_source(deployed.model) as source:
        assert isinstance(source, Path)
        session = ort.InferenceSession(str(source))
    assert not source.exists()
    np.testing.assert_array_equal(session.run(None, IDS)[0], whole)


def test_a_session_of_many_bytes_maps_a_file(path, monkeypatch):
    _, deployed, _ = deployed_of(path)
    network = load_network(path)
    with session_source(deployed.model) as source:
        assert isinstance(source, bytes)
        whole = ort.InferenceSession(source).run(None, IDS)[0]
    as_bytes = run_original(network, IDS)
    monkeypatch.setattr(save, "MOST_SESSION_BYTES", 1000)
    monkeypatch.setattr(original_file, "MOST_SESSION_BYTES", 1000)
    with session_source(deployed.model) as source:
        assert isinstance(source, Path)
        mapped = ort.InferenceSession(str(source)).run(None, IDS)[0]
    np.testing.assert_array_equal(mapped, whole)
    assert model_source(network) == path
    np.testing.assert_array_equal(run_original(network, IDS), as_bytes)


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_weights_of_a_file_are_decoded_when_asked_for_and_not_held(path, kind):
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).astype(kind)
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    model.graph.output[0].type.tensor_type.elem_type = element
    onnx.save(model, path)
    network = load_network(path)
    (layer,) = scan_layers(network).layers
    values = layer.values
    assert (values.dtype, values.flags.writeable) == (np.float32, False)
    np.testing.assert_array_equal(values, network.initializers["w"].astype(np.float32))
    held = weakref.ref(values)
    del values
    assert held() is None
    assert layer.num_weights == 32 * 40
    again = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(again.values, layer.values)


def test_a_model_that_one_message_holds_is_as_before(path):
    _, deployed, _ = deployed_of(path)
    assert not is_large(deployed.model)
    assert session_template(deployed) == (template_bytes(deployed), {})


@pytest.mark.usefixtures("small_messages")
def test_functions_of_a_large_model_are_inlined(path, tmp_path):
    model = onnx.load(path)
    body = onnx.helper.make_function(
        "f",
        "Twice",
        ["a"],
        ["b"],
        [onnx.helper.make_node("Add", ["a", "a"], ["b"])],
        [onnx.helper.make_opsetid("", 17)],
    )
    model.functions.append(body)
    model.opset_import.append(onnx.helper.make_opsetid("f", 1))
    model.graph.node[2].output[0] = "s"
    model.graph.node.append(onnx.helper.make_node("Twice", ["s"], ["y"], domain="f"))
    onnx.save(model, tmp_path / "f.onnx")
    network = load_network(tmp_path / "f.onnx")
    assert [node.op_type for node in network.model.graph.node][-1] == "Add"
    np.testing.assert_array_equal(
        network.initializers["table"], load_network(path).initializers["table"]
    )


def test_a_model_larger_than_memory_is_refused_with_the_way_out(path, monkeypatch):
    monkeypatch.setattr(memory_needs, "available_memory", lambda: 43_000)
    with pytest.raises(
        ModelNotCoveredError,
        match=r"got 43680 bytes that are needed and 43000 that are free \(.*m.onnx\); use",
    ):
        load_network(path)


def test_a_model_larger_than_what_was_allowed_says_so(path):
    with (
        memory_limit(1000),
        pytest.raises(ModelNotCoveredError, match=r"needed and 0 that are left of --memory \("),
    ):
        load_network(path)


def test_a_network_that_does_not_fit_once_more_is_refused(path, monkeypatch):
    network = load_network(path)
    scan = scan_layers(network)
    monkeypatch.setattr(memory_needs, "available_memory", lambda: 18_000)
    with pytest.raises(ModelNotCoveredError, match=r"stored weights as float32 must fit"):
        deploy(network, scan)


def test_a_large_file_is_run_from_its_path_and_never_held(path, monkeypatch):
    network = load_network(path)
    whole = run_original(network, IDS)
    monkeypatch.setattr(original_file, "MOST_SESSION_BYTES", 1000)
    monkeypatch.setattr(original_file, "read_input", lambda *_: pytest.fail("it was read whole"))
    assert model_source(network) == path
    np.testing.assert_array_equal(run_original(network, IDS), whole)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputRefusedError, match="must not change during a run, got other content"):
        model_source(network)


def test_sessions_of_many_bytes_are_given_large_tables(path, monkeypatch):
    _, deployed, weights = deployed_of(path)
    whole = OrtEngine(deployed).run(weights, IDS)
    monkeypatch.setattr(templates, "MOST_SESSION_BYTES", 1000)
    monkeypatch.setattr(templates, "_LEAST_FLOATS", 10_000)
    template, others = session_template(deployed)
    assert (list(others), len(template) < 2000) == (["table"], True)
    np.testing.assert_array_equal(OrtEngine(deployed).run(weights, IDS), whole)


def test_a_deployed_model_holds_its_weights_once(path):
    _, deployed, weights = deployed_of(path)
    stored = {tensor.name: tensor for tensor in deployed.model.graph.initializer}
    np.testing.assert_array_equal(numpy_helper.to_array(stored["w"]), weights["w"])
    assert deployed.model.ByteSize() < 1.1 * path.stat().st_size


def test_values_are_made_once_while_somebody_uses_them(path):
    values = load_network(path).initializers
    table = values["table"]
    assert values["table"] is table
    assert not table.flags.writeable
    assert set(values) == {"table", "w", "b"}
    again = pickle.loads(pickle.dumps(values))
    np.testing.assert_array_equal(again["table"], table)
