"""A bundle written by hand is read back without PyTorch, and every damage to it is one sentence."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from configs import default
from dci_jax import models
from dci_jax.check import check
from dci_jax.checkpoints import read
from dci_jax.dci.blocks import split_stages
from dci_jax.errors import InputError
from dci_jax.importers import bundle
from dci_jax.importers.place import Place, from_grid, to_grid
from dci_jax.importers.program import INPUT, MAX_POOL, Node, blocks
from dci_jax.network import Network, feature_shapes, logits, run, running_statistics, split_names, trace, with_dtype
from tests.command_line import ROOT, call

BN = "_native_batch_norm_legit_no_training"


def value(name):
    return {"value": name}


def weight(key):
    return {"weight": key}


def write(folder, **changes):
    """conv 3x3/2, BatchNorm, ReLU | a residual 1x1 convolution | pooling and a dense layer, for 8 px."""
    rng = np.random.default_rng(0)
    tensors = {
        "conv.weight": rng.normal(size=(4, 3, 3, 3)),
        "bn.weight": rng.uniform(0.5, 2, 4),
        "bn.bias": rng.normal(size=4),
        "bn.running_mean": rng.normal(size=4),
        "bn.running_var": rng.uniform(0.5, 2, 4),
        "block.weight": rng.normal(size=(4, 4, 1, 1)),
        "fc.weight.permute": rng.normal(size=(4, 5)),
        "fc.bias": rng.normal(size=5),
    }
    tensors = {key: np.float32(array) for key, array in tensors.items()}
    one, none = [1, 1], [0, 0]
    nodes = [
        ["c", "convolution", [value("input"), weight("conv.weight"), None, [2, 2], one, one, False, none, 1], {}],
        [
            "b",
            BN,
            [value("c"), *(weight(f"bn.{k}") for k in ("weight", "bias", "running_mean", "running_var")), 0.1, 1e-3],
            {},
        ],
        ["b0", "getitem", [value("b"), 0], {}],
        ["r", "relu", [value("b0")], {}],
        ["d", "convolution", [value("r"), weight("block.weight"), None, one, none, one, False, none, 1], {}],
        ["s", "add", [value("r"), value("d")], {}],
        ["m", "mean", [value("s"), [-1, -2], True], {}],
        ["v", "view", [value("m"), [{"batch": 1}, 4]], {}],
        ["y", "addmm", [weight("fc.bias"), value("v"), weight("fc.weight.permute")], {}],
    ]
    places = [
        {"name": name, "value": v, "layout": "image", "grid": [0, 0], "before": 0, "channels": 0, "default": default}
        for name, v, default in (("conv", "c", False), ("act", "r", True), ("block", "s", True))
    ]
    manifest = {
        "format": bundle.FORMAT,
        "name": "by_hand",
        "shape": [8, 8, 3],
        "mean": [0.5],
        "std": [0.25],
        "crop": 1.0,
    }
    manifest |= {"classes": 5, "places": places, "nodes": nodes, "output": "y"}
    folder.mkdir()
    safetensors.numpy.save_file(
        {k: v for k, v in tensors.items() if k != changes.get("lacks")}, folder / bundle.WEIGHTS
    )
    manifest["weights"] = read.sha256(folder / bundle.WEIGHTS)
    manifest |= {k: v for k, v in changes.items() if k != "lacks"}
    for name in [name for name, content in manifest.items() if content is None]:
        del manifest[name]
    manifest["sha256"] = bundle.digest(manifest)
    (folder / bundle.MANIFEST).write_text(json.dumps(manifest))
    return folder, tensors


def several(**changes):
    """Places of which one is of two tensors, as a manifest has them; `changes` to its second part."""
    parts = [{"name": "", "value": v, "layout": "image", "grid": [4, 4], "channels": 4} for v in "rd"]
    parts[1] |= changes
    inside = {"name": "inside", "value": "d", "layout": "several", "grid": [4, 4], "parts": parts}
    return [inside, {"name": "block", "value": "s", "layout": "image"}]


def test_a_place_of_several_tensors_sends_all_of_them(tmp_path):
    folder, t = write(tmp_path / "b", places=several())
    network = bundle.load(folder)
    assert [block.tensors for block in network.blocks] == [((4, 1), (4, 1)), ()]
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    (_, sent, s), _ = trace(network, x)
    np.testing.assert_allclose(sent[..., 4:], sent[..., :4] @ t["block.weight"][:, :, 0, 0].T, atol=1e-4)
    np.testing.assert_allclose(s, sent[..., :4] + sent[..., 4:], atol=1e-5)


def test_it_computes_what_its_graph_says(tmp_path):
    folder, t = write(tmp_path / "b")
    network = bundle.load(folder)
    assert split_names(network) == ("act", "block")
    assert feature_shapes(network) == ((8, 8, 3), (4, 4, 4), (4, 4, 4))
    assert [block.nonnegative for block in network.blocks] == [False, True]
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    (_, r, s), (statistics, _) = trace(network, x)
    image = (x - 0.5) / 0.25
    c = jax.lax.conv_general_dilated(
        image,
        t["conv.weight"].transpose(2, 3, 1, 0),
        (2, 2),
        ((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    b = (c - t["bn.running_mean"]) / np.sqrt(t["bn.running_var"] + 1e-3) * t["bn.weight"] + t["bn.bias"]
    np.testing.assert_allclose(r, np.maximum(b, 0), atol=1e-4)
    np.testing.assert_allclose(s, r + r @ t["block.weight"][:, :, 0, 0].T, atol=1e-4)
    np.testing.assert_allclose(logits(network, s), s.mean((1, 2)) @ t["fc.weight.permute"] + t["fc.bias"], atol=1e-4)
    tapped = statistics["bn.running_mean"]
    np.testing.assert_allclose(tapped["mean"], c.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(tapped["var"], c.var((0, 1, 2)), rtol=1e-4)
    assert jax.tree.structure(running_statistics(network)) == jax.tree.structure((statistics, {}))


def test_more_places_are_split_points_when_asked_for_and_the_answer_stays(tmp_path):
    folder, _ = write(tmp_path / "b")
    few, more = (models.load("bundle", str(folder), splits=splits) for splits in ((), ("conv",)))
    assert split_names(more) == ("conv", "act", "block")
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    np.testing.assert_allclose(run(few, x), run(more, x), atol=1e-6)
    with pytest.raises(InputError, match=r"no split point 'conv2'; choose from: act, block, or from all 3"):
        bundle.load(folder, ("conv2",))


def test_it_computes_in_sixteen_bits(tmp_path):
    network = bundle.load(write(tmp_path / "b")[0])
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    found, wanted = run(with_dtype(network, "bfloat16"), x), run(network, x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(found), wanted, atol=0.03 * float(jnp.abs(wanted).max()))


def test_convolutional_pieces_take_images_of_other_sizes(tmp_path):
    folder, _ = write(tmp_path / "b")
    assert run(bundle.load(folder), jnp.zeros((1, 12, 12, 3))).shape == (1, 6, 6, 4)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 2}, "has format 2, and this version of dci_jax reads 1"),
        ({"lacks": "block.weight"}, "lacks 'block.weight' \\(1 in all\\)"),
        ({"places": None}, "no manifest of format 1: it: 'places' is a required property"),
        ({"shape": [8, 8]}, r"no manifest of format 1: \['shape'\]: \[8, 8\] is too short"),
        ({"std": [0]}, r"\['std'\]\[0\]: 0 is less than or equal to the minimum of 0"),
        ({"crop": True}, r"\['crop'\]: True is not of type 'number'"),
        ({"classes": "five"}, r"\['classes'\]: 'five' is not of type"),
        ({"places": [{"name": "act", "value": "r", "layout": "NCHW"}]}, r"\['layout'\]: 'NCHW' is not one of"),
        ({"nodes": [["c", "relu", [{"values": "input"}], {}]]}, r"\['nodes'\]\[0\]\[2\]\[0\]"),
        ({"nodes": [["y", "relu", [value("z")], {}]]}, "the node 'y' takes 'z' before it is made"),
        ({"nodes": [["y", "relu", [value("input")], {}]] * 2}, "the node 'y' is there twice"),
        ({"output": "nowhere"}, "its output 'nowhere', are no nodes of the graph"),
        ({"places": [{"name": "a", "value": v, "layout": "image"} for v in "sr"]}, "each once and in its order"),
        ({"places": several(grid=[0, 0])}, r"\['grid'\]\[[01]\]: 0 is less than the minimum of 1"),
        ({"places": several(layout="several")}, r"\['layout'\]: 'several' is not one of"),
        (
            {"places": several(grid=[8, 8])},
            "the tensors of a split point are not as they say .The features have 8 channels",
        ),
        ({"places": several(value="nothing")}, "the tensors of a split point are not as they say"),
        (
            {"places": several(channels=5)},
            "the tensors of a split point are not as they say .The features have 8 channels",
        ),
        ({"nodes": [["c", "system", ["rm"], {}]]}, "operators that this version does not \\(system\\)"),
        ({"weights": "0" * 64}, "weights.safetensors is damaged or not the file"),
    ],
)
def test_what_is_missing_or_of_another_version_is_one_sentence(tmp_path, changes, sentence):
    folder, _ = write(tmp_path / "b", **changes)
    with pytest.raises(InputError, match=sentence) as caught:
        bundle.load(folder)
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_anywhere_is_one_sentence(tmp_path):
    folder, _ = write(tmp_path / "b")
    rng = np.random.default_rng(0)
    for file in (bundle.MANIFEST, bundle.WEIGHTS):
        whole = (folder / file).read_bytes()
        for place in rng.choice(len(whole), 40, replace=False):
            broken = bytearray(whole)
            broken[place] ^= 1 << rng.integers(8)
            (folder / file).write_bytes(broken)
            with pytest.raises(InputError, match="convert the network again"):
                bundle.load(folder)
        (folder / file).write_bytes(whole)
    bundle.load(folder)


def test_no_folder_no_file_and_no_name_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"A bundle is a folder; give its path as the weights"):
        models.load("bundle")
    with pytest.raises(InputError, match=r"is not a bundle \(it has no bundle.json\)"):
        models.load("bundle", str(tmp_path))
    folder, _ = write(tmp_path / "b")
    (folder / bundle.WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"it has no weights.safetensors"):
        bundle.load(folder)
    with pytest.raises(InputError, match="its sha256 is"):
        bundle.load(write(tmp_path / "c")[0], (), "0" * 8)


@pytest.mark.parametrize("name", ["../../out", "a/b", "<script>alert(1)</script>", "", "two words"])
def test_a_split_point_whose_name_leads_out_of_the_workdir_is_refused(tmp_path, name):
    places = [{"name": name, "value": "r", "layout": "image"}]
    config = default.get_config()
    config.target.name, config.target.weights = "bundle", str(write(tmp_path / "b", places=places)[0])
    with pytest.raises(InputError, match=f"split point called {re.escape(repr(name))}"):
        check(config)


@pytest.mark.parametrize("before", [0, 1, 5])
def test_tokens_on_their_grid_lose_nothing(before):
    place = Place("blocks.0", "t", "tokens", (4, 4), before, 12)
    tokens = jax.random.normal(jax.random.key(0), (3, before + 16, 12))
    grid = to_grid(place, tokens)
    assert grid.shape == (3, 4, 4, 12 + -(-before * 12 // 16))
    np.testing.assert_array_equal(grid[:, 1, 2, :12], tokens[:, before + 6])
    np.testing.assert_array_equal(from_grid(place, grid), tokens)


@pytest.mark.slow
def test_a_vit_is_read_back_without_pytorch(tmp_path):
    """The one that is committed: procedural images alone undo its patches and positions almost exactly."""
    vit = ROOT / "benchmarks" / "results" / "networks_vit" / "bundle"
    settings = (
        "target.name=bundle",
        "target.weights=" + str(vit),
        "data.images=",
        "splits=('pos_drop',)",
        "dci.num_images=128",
        "dci.num_validation=32",
        "dci.batch=32",
    )
    done = call(tmp_path, tmp_path / "run", *(f"--config.{s}" for s in settings), config="configs/bundle.py")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert np.mean([row["psnr"] for row in rows if row["attack"] == "dci"]) > 50
    assert "no BatchNorm layer" in (tmp_path / "run" / "report" / "index.html").read_text()


def test_a_block_has_parts_where_windows_that_overlap_pool_what_a_relu_gave():
    one, none = [1, 1], [0, 0]

    def node(name, operator, *arguments):
        return Node(name, operator, arguments, {})

    def graph(activation, size=3):
        return (
            node("c", "convolution", value(INPUT), weight("w"), None, one, one, one, False, none, 1),
            node("r", activation, value("c")),
            node("p", MAX_POOL, value("r"), [size, size], [2, 2], [size // 2, size // 2] if size > 2 else none),
            node("q", "getitem", value("p"), 0),
            node("d", "convolution", value("q"), weight("v"), None, one, none, one, False, none, 1),
            node("s", "relu", value("d")),
        )

    rng = np.random.default_rng(0)
    weights = {"w": jnp.float32(rng.normal(size=(4, 3, 3, 3))), "v": jnp.float32(rng.normal(size=(5, 4, 1, 1)))}
    places = [Place("", INPUT, "image"), Place("block", "s", "image")]
    inner = [Place(name, name, "image") for name in "crqd"]
    (block,) = blocks(graph("relu"), places, weights, inner)
    network = Network((block,), None, "by_hand", (8, 8, 3))
    found = split_stages(network)
    assert split_names(found) == ("block, stage 1", "block")
    assert feature_shapes(found) == ((8, 8, 3), (8, 8, 4), (4, 4, 5))
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    np.testing.assert_allclose(run(found, x), run(network, x), rtol=1e-5, atol=1e-5)
    assert blocks(graph("silu"), places, weights, inner)[0].stages == ()
    assert blocks(graph("relu", 2), places, weights, inner)[0].stages == ()  # nothing is gained there
