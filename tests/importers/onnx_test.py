"""An ONNX file is read as the network that it is: every operator, names, BatchNorm layers, batches, and what is refused."""

import jax
import numpy as np
import pytest

import dci_jax
from dci_jax.convert import __main__ as convert
from dci_jax.errors import InputError
from dci_jax.importers.onnx_operators import OPERATORS
from dci_jax.network import feature_shapes, logits, run, running_statistics, split_names, trace

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from dci_jax.importers import onnx_file  # noqa: E402

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def model(nodes, arrays, shape=("b", 3, 8, 8), opset=20, end="y"):
    """A file whose input is "x" and whose output is `end`."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [onnx.ValueInfoProto(name=end)],
            [numpy_helper.from_array(a, n) for n, a in arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
    )


# operator -> [(other inputs, attributes)]; the first input is an image [2, 3, 8, 8] in [.1, 1.1]
CASES = {
    "Conv": [
        ([floats(4, 3, 3, 3), floats(4)], dict(pads=[0, 1, 2, 1], strides=[2, 2])),
        ([floats(6, 1, 3, 3)], dict(group=3, auto_pad="SAME_UPPER", strides=[2, 2])),
        ([floats(3, 3, 3, 3)], dict(auto_pad="SAME_LOWER", dilations=[2, 1])),
    ],
    "ConvTranspose": [([floats(3, 4, 3, 3)], dict(pads=[1, 1, 1, 1], strides=[2, 2], output_padding=[1, 1]))],
    "BatchNormalization": [([floats(3), floats(3), floats(3), np.abs(floats(3))], dict(epsilon=1e-3))],
    "InstanceNormalization": [([floats(3), floats(3)], {})],
    "GroupNormalization": [],  # the reference evaluator has it from opset 21 on: below
    "LayerNormalization": [([floats(8), floats(8)], {}), ([floats(8, 8)], dict(axis=2))],
    "LRN": [],  # the reference evaluator leaves out a neighbor of the last channel: below
    "MaxPool": [
        ([], dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
        ([], dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    ],
    "AveragePool": [
        ([], dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
        ([], dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)),
        ([], dict(kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1)),
    ],
    "GlobalAveragePool": [([], {})],
    "GlobalMaxPool": [([], {})],
    "Resize": [
        (
            [None, np.float32([1, 1, 2, 2])],
            dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        ),
        ([None, None, ints(2, 3, 12, 5)], dict(mode="linear")),
        ([None, np.float32([1, 1, 1.5, 0.5])], dict(mode="linear", coordinate_transformation_mode="align_corners")),
        ([None, np.float32([1, 1, 3, 3])], dict(mode="linear", coordinate_transformation_mode="pytorch_half_pixel")),
    ],
    "DepthToSpace": [([], dict(blocksize=2)), ([], dict(blocksize=2, mode="CRD"))],
    "SpaceToDepth": [([], dict(blocksize=2))],
    "Gemm": [([floats(5, 192), floats(5)], dict(transB=1, alpha=0.5))],
    "MatMul": [([floats(8, 4)], {})],
    "Einsum": [([floats(3, 5)], dict(equation="bchw,cd->bdhw"))],
    "PRelu": [([floats(3, 1, 1)], {})],
    "LeakyRelu": [([], dict(alpha=0.2))],
    "Clip": [([np.float32(0.3), np.float32(0.6)], {}), ([None, np.float32(0.5)], {})],
    "Add": [([floats(3, 1, 1)], {})],
    "Sub": [([floats(8)], {})],
    "Mul": [([floats(8)], {})],
    "Div": [([np.float32(3.0)], {})],
    "Pow": [([np.float32(2.0)], {})],
    "Mod": [([np.float32(0.3)], dict(fmod=1))],
    "Max": [([floats(8), floats(3, 1, 1)], {})],
    "Min": [([floats(8)], {})],
    "Sum": [([floats(8), floats(3, 1, 1)], {})],
    "Mean": [([floats(2, 3, 8, 8)], {})],
    "Softmax": [([], dict(axis=1)), ([], {})],
    "LogSoftmax": [([], dict(axis=1))],
    "ReduceMean": [([ints(2, 3)], {}), ([ints(-1)], dict(keepdims=0))],
    "ReduceSum": [([ints(1)], {}), ([], dict(noop_with_empty_axes=1))],
    "ReduceMax": [([ints(1)], {})],
    "ReduceMin": [([ints(1)], {})],
    "ReduceL2": [([ints(1)], {})],
    "ReduceSumSquare": [([ints(1)], {})],
    "Pad": [
        ([ints(0, 0, 1, 2, 0, 0, 0, 3), np.float32(0.5)], {}),
        ([ints(0, 0, 1, 2, 0, 0, 3, 1)], dict(mode="reflect")),
        ([ints(1, 2), None, ints(3)], dict(mode="edge")),
    ],
    "Concat": [([floats(2, 4, 8, 8)], dict(axis=1)), ([floats(2, 3, 8, 2)], dict(axis=-1))],
    "Split": [([ints(1, 2)], dict(axis=1)), ([], dict(axis=2, num_outputs=2))],
    "Slice": [
        ([ints(1), ints(np.iinfo(np.int64).max), ints(2), ints(2)], {}),
        ([ints(-1, 0), ints(np.iinfo(np.int64).min, 2), ints(3, 1), ints(-1, 1)], {}),
        ([ints(0, 0), ints(2, -1)], {}),
    ],
    "Reshape": [([ints(0, 3, -1)], {})],
    "Flatten": [([], {}), ([], dict(axis=2))],
    "Transpose": [([], dict(perm=[0, 2, 3, 1])), ([], {})],
    "Squeeze": [],  # below, of what has an axis of length 1
    "Unsqueeze": [([ints(-1, 1)], {})],
    "Expand": [([ints(4, 1, 1, 8, 8)], {})],
    "Tile": [([ints(1, 2, 1, 3)], {})],
    "Gather": [([ints(2, 0)], dict(axis=1)), ([np.int64(1)], dict(axis=3))],
    "Where": [],  # below, of a condition
    "Cast": [([], dict(to=TensorProto.INT32))],
    "CastLike": [([ints(1)], {})],
    "Elu": [([], dict(alpha=0.5))],
    "HardSigmoid": [([], dict(alpha=0.4))],
    "Gelu": [([], {}), ([], dict(approximate="tanh"))],
    "Swish": [],  # opset 24
}
PLAIN = "Relu Selu Celu Sigmoid HardSwish Mish Softplus Softsign Tanh Erf Exp Log Sqrt Reciprocal Abs Neg Sign Sin Cos Floor Ceil Round Identity Dropout"
COMPARED = "Equal Greater GreaterOrEqual Less LessOrEqual"
LOGICAL = "Not And Or"


def test_every_operator_has_a_case():
    assert {*CASES, *f"{PLAIN} {COMPARED} {LOGICAL}".split()} == {*OPERATORS}


def compared(found):
    x = RNG.uniform(0.1, 1.1, (2, 8, 8, 3)).astype(np.float32)
    apply, variables = onnx_file.function(found, "test")
    ours = jax.jit(apply)(variables, x)
    theirs = ReferenceEvaluator(found).run(None, {"x": np.moveaxis(x, 3, 1)})[0]
    assert np.shape(ours) == theirs.shape
    np.testing.assert_allclose(np.float32(ours), np.float32(theirs), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", [k for k in CASES if CASES[k]])
def test_an_operator_computes_what_onnx_does(kind):
    prepared = {
        "Gemm": helper.make_node("Flatten", ["x"], ["first"]),
        "DepthToSpace": helper.make_node("Concat", ["x"] * 4, ["first"], axis=1),
    }
    nodes = [prepared[kind]] if kind in prepared else []
    for others, attributes in CASES[kind]:
        arrays = {f"layer.{i}": a for i, a in enumerate(others) if a is not None}
        inputs = ["first" if nodes else "x", *(f"layer.{i}" if a is not None else "" for i, a in enumerate(others))]
        outputs = ["y", "z"] if kind == "Split" else ["y"]
        compared(model([*nodes, helper.make_node(kind, inputs, outputs, **attributes)], arrays))


@pytest.mark.parametrize("kind", PLAIN.split())
def test_a_function_of_each_number_is_onnxs(kind):
    shifted = [] if kind in ("Log", "Sqrt", "Reciprocal") else [helper.make_node("Sub", ["x", "c"], ["v"])]
    compared(model([*shifted, helper.make_node(kind, ["v" if shifted else "x"], ["y"])], {"c": np.float32(0.6)}))


def test_conditions_and_axes_of_length_1():
    for kind in COMPARED.split():
        nodes = [helper.make_node(kind, ["x", "c"], ["m"]), helper.make_node("Where", ["m", "x", "c"], ["y"])]
        compared(model(nodes, {"c": np.float32(0.6)}))
    for kind in LOGICAL.split():
        nodes = [helper.make_node("Greater", ["x", "c"], ["m"]), helper.make_node("Less", ["x", "d"], ["n"])]
        nodes += [helper.make_node(kind, ["m", "n"][: 1 if kind == "Not" else 2], ["y"])]
        compared(model(nodes, {"c": np.float32(0.4), "d": np.float32(0.8)}))
    pooled = helper.make_node("GlobalAveragePool", ["x"], ["v"])
    compared(model([pooled, helper.make_node("Squeeze", ["v", "axes"], ["y"])], {"axes": ints(2, 3)}))
    norm = helper.make_node("GroupNormalization", ["x", "s", "o"], ["y"], num_groups=3)
    compared(model([norm], {"s": floats(3), "o": floats(3)}, opset=21))
    compared(model([helper.make_node("Swish", ["x"], ["y"], alpha=0.7)], {}, opset=24))


def test_local_response_normalization_is_the_formula_of_its_page():
    found = model([helper.make_node("LRN", ["x"], ["y"], size=3, alpha=0.1, beta=0.5, bias=2.0)], {})
    x = RNG.uniform(0.1, 1.1, (2, 8, 8, 3)).astype(np.float32)
    apply, variables = onnx_file.function(found, "test")
    squares = [sum(x[..., i] ** 2 for i in (c - 1, c, c + 1) if 0 <= i < 3) for c in range(3)]
    expected = [x[..., c] / (2 + 0.1 / 3 * squares[c]) ** 0.5 for c in range(3)]
    np.testing.assert_allclose(apply(variables, x), np.stack(expected, 1), rtol=1e-5)


def test_axes_of_a_reduction_were_attributes():
    compared(model([helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3])], {}, opset=13))


def residual(batch="b", fold=False, side=16):
    """A file like PyTorch's exporter writes: BatchNorm or none, shapes that are computed, a head."""
    arrays, nodes = {}, []

    def conv(path, inside, outside, stride, above):
        scope = (
            f"/{path.split('.')[0]}/{path.rpartition('.')[0]}/{path.rpartition('.')[2]}"
            if path.count(".") == 2
            else f"/{path}"
        )
        own = f"onnx::Conv_{len(arrays)}" if fold else f"{path}.weight"
        arrays[own] = floats(outside, inside, 3, 3) / 3
        out = f"{scope}/Conv_output_0"
        nodes.append(
            helper.make_node("Conv", [above, own], [out], f"{scope}/Conv", strides=[stride, stride], pads=[1, 1, 1, 1])
        )
        if not fold:
            norm = path.replace("conv", "bn")
            for leaf, value in zip(
                ("weight", "bias", "running_mean", "running_var"),
                (1 + 0.1 * floats(outside), floats(outside), floats(outside), 1 + floats(outside) ** 2),
                strict=True,
            ):
                arrays[f"{norm}.{leaf}"] = value.astype(np.float32)
            nodes.append(
                helper.make_node(
                    "BatchNormalization",
                    [out, *(f"{norm}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var"))],
                    [f"{out}_bn"],
                    f"{scope.replace('conv', 'bn')}/BatchNormalization",
                )
            )
            out += "_bn"
        return out

    def relu(above, name):
        nodes.append(helper.make_node("Relu", [above], [f"{name}/Relu_output_0"], f"{name}/Relu"))
        return f"{name}/Relu_output_0"

    x = relu(conv("conv1", 3, 8, 2, "x"), "/relu")
    for number in range(2):
        path, before = f"layer1.{number}", x
        y = relu(conv(f"{path}.conv1", 8, 8, 1, x), f"/layer1/{path}/relu")
        y = conv(f"{path}.conv2", 8, 8, 1, y)
        nodes.append(helper.make_node("Add", [y, before], [f"/layer1/{path}/Add_output_0"], f"/layer1/{path}/Add"))
        x = relu(f"/layer1/{path}/Add_output_0", f"/layer1/{path}/relu_1")
    arrays |= {"head.weight": floats(10, 8), "one": ints(-1), "first": ints(0), "channels": ints(8)}
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["pooled"]))
    if batch == "b":
        nodes.append(helper.make_node("Shape", ["pooled"], ["shape"], end=1))
        nodes.append(helper.make_node("Concat", ["shape", "channels"], ["wanted"], axis=0))
    else:
        arrays["wanted"] = ints(batch, 8)
    nodes.append(helper.make_node("Reshape", ["pooled", "wanted"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "head.weight"], ["y"], "/fc/Gemm", transB=1))
    return model(nodes, arrays, (batch, 3, side, side))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "residual.onnx"
    onnx.save(residual(), path)
    return path


def test_a_file_has_the_split_points_and_the_statistics_of_its_modules(file):
    network = dci_jax.from_onnx(file, mean=(0.5,), std=(0.25,))
    assert split_names(network) == ("conv1", "layer1.0", "layer1.1")
    assert feature_shapes(network) == ((16, 16, 3), (8, 8, 8), (8, 8, 8), (8, 8, 8))
    assert [sorted(statistics) for statistics in running_statistics(network)] == [
        ["bn1"],
        ["layer1.0.bn1", "layer1.0.bn2"],
        ["layer1.1.bn1", "layer1.1.bn2"],
    ]
    x = RNG.uniform(0, 1, (3, 16, 16, 3)).astype(np.float32)
    features, _ = trace(network, x)
    normalized = np.moveaxis((x - 0.5) / 0.25, 3, 1).astype(np.float32)
    theirs = ReferenceEvaluator(onnx.load(file)).run(None, {"x": normalized})[0]
    np.testing.assert_allclose(logits(network, features[-1]), theirs, rtol=1e-4, atol=1e-4)


def test_a_file_for_one_image_takes_many_and_says_that_no_statistics_are_left(tmp_path, caplog):
    one = residual(batch=1, fold=True)
    onnx.save(one, tmp_path / "one.onnx")
    network = dci_jax.from_onnx(tmp_path / "one.onnx")
    assert "has no BatchNorm statistics" in caplog.text
    assert split_names(network) == ("conv1", "layer1.0", "layer1.1")
    x = RNG.uniform(0, 1, (3, 16, 16, 3)).astype(np.float32)
    ours = logits(network, run(network, x))
    evaluator = ReferenceEvaluator(one)
    theirs = [evaluator.run(None, {"x": np.moveaxis(x[i : i + 1], 3, 1)})[0][0] for i in range(3)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.opset_import[0].__setattr__("version", 11), "opset 11; give one of opset 13"),
        (lambda m: m.graph.node[0].__setattr__("op_type", "Loop"), "'Loop'.*add it to"),
        (lambda m: m.graph.node[0].attribute.add(name="then_branch").g.MergeFrom(m.graph), "'Conv' .at /conv1/Conv"),
        (lambda m: m.graph.node[0].__setattr__("op_type", "QLinearConv"), "QLinearConv"),
        (lambda m: m.graph.node[0].__setattr__("domain", "com.microsoft"), "com.microsoft.Conv"),
        (lambda m: m.graph.input.append(helper.make_tensor_value_info("z", 1, [1])), "2 inputs and 1 outputs"),
        (lambda m: m.graph.ClearField("output"), "1 inputs and 0 outputs"),
        (lambda m: m.graph.ClearField("node"), "has no graph"),
        (lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, [1, 16, 16, 3])), "channels first"),
        (lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, [1, 40])), "2 axes"),
        (lambda m: m.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, [1, 4, 16, 16])), "4 channels"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(change, said, tmp_path):
    found = residual()
    change(found)
    onnx.save(found, tmp_path / "wrong.onnx")
    with pytest.raises(InputError, match=said):
        dci_jax.from_onnx(tmp_path / "wrong.onnx")


def test_of_several_features_all_are_sent(tmp_path):
    found = residual()
    found.graph.ClearField("output")
    for name in ("/relu/Relu_output_0", "/layer1/layer1.1/relu_1/Relu_output_0"):
        found.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    onnx.save(found, tmp_path / "two.onnx")
    network = dci_jax.from_onnx(tmp_path / "two.onnx")
    assert split_names(network)[-1] == "outputs"
    assert network.blocks[-1].tensors == ((8, 1), (8, 1))
    x = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype(np.float32)
    theirs = ReferenceEvaluator(onnx.load(tmp_path / "two.onnx")).run(None, {"x": np.moveaxis(x, 3, 1)})
    wanted = np.concatenate([np.moveaxis(answer, 1, 3) for answer in theirs], -1)
    np.testing.assert_allclose(run(network, x), wanted, rtol=1e-4, atol=1e-4)


def test_no_file_and_no_onnx_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match="No file at"):
        dci_jax.from_onnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        dci_jax.from_onnx(tmp_path / "text.onnx")


def test_a_bundle_keeps_the_file_and_what_it_does_not_say(file, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    out = tmp_path / "bundle"
    assert convert.main([str(file), f"--out={out}", "--mean", "0.5", "--std", "0.25"]) == 0
    assert "3 split points: conv1, layer1.0, layer1.1" in capsys.readouterr().out
    network = dci_jax.load_network("bundle", out)
    assert (network.name, network.mean, network.std) == ("residual", (0.5,), (0.25,))
    with (out / "network.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(InputError, match="sha256"):
        dci_jax.load_network("bundle", out)


def test_weights_outside_of_the_files_folder_are_not_read(file, tmp_path):
    (tmp_path / "in").mkdir()
    named = onnx.load(file)
    onnx.save(named, tmp_path / "in" / "m.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert dci_jax.from_onnx(tmp_path / "in" / "m.onnx").name  # beside the file they are
    for where in ("../weights", str(tmp_path / "weights")):
        (tmp_path / "weights").write_bytes((tmp_path / "in" / "weights").read_bytes())
        named = onnx.load(tmp_path / "in" / "m.onnx", load_external_data=False)
        for tensor in named.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = where
        (tmp_path / "in" / "other.onnx").write_bytes(named.SerializeToString())
        with pytest.raises(InputError, match="cannot be read as ONNX"):
            dci_jax.from_onnx(tmp_path / "in" / "other.onnx")


@pytest.mark.parametrize("flag", ["--weights=w.pth", "--random", "--classes=3", "--size=20", "--channels=1"])
def test_options_that_a_file_cannot_follow_are_refused(flag, file, tmp_path, capsys):
    assert convert.main([str(file), f"--out={tmp_path / 'bundle'}", flag]) == 2
    assert "leave it out" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("what", "route"), [("hf:org/net", "timm:hf-hub:org/net"), ("net.torchscript", "torch.export.save")]
)
def test_other_formats_are_told_their_route(what, route, tmp_path, capsys):
    assert convert.main([what, f"--out={tmp_path / 'bundle'}"]) == 2
    assert route in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("keep", [True, False])
def test_a_file_of_pytorchs_exporter_answers_as_pytorch(keep, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    block = lambda: torch.nn.Sequential(torch.nn.Conv2d(8, 8, 3, 1, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU())  # noqa: E731
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Sequential(block(), block()), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 5)
    )  # fmt: skip
    net[1][0][1].running_mean.normal_()
    settings = dict(training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False) if keep else {}
    torch.onnx.export(
        net.eval(), torch.zeros(1, 3, 32, 32), tmp_path / "net.onnx", opset_version=13, dynamo=False, input_names=["x"], **settings
    )  # fmt: skip
    network = dci_jax.from_onnx(tmp_path / "net.onnx")
    x = RNG.uniform(0, 1, (2, 32, 32, 3)).astype(np.float32)
    theirs = net(torch.from_numpy(np.moveaxis(x, 3, 1).copy())).detach().numpy()
    np.testing.assert_allclose(logits(network, run(network, x)), theirs, rtol=1e-4, atol=1e-5)
    assert sum(len(s) for s in running_statistics(network)) == 2 * keep
