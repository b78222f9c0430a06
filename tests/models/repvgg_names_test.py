import chex
import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from dci_jax import models
from dci_jax.checkpoints import assign, read
from dci_jax.models import repvgg


def original_repvgg(name):
    """What the original RepVGG repository calls timm's `name`, one piece at a time."""
    parts = name.split(".")
    if parts[0] == "head":
        return f"linear.{parts[2]}"
    place, rest = (["stage0"], parts[1:]) if parts[0] == "stem" else ([], parts[3:])
    place = place or [f"stage{int(parts[1]) + 1}", parts[2]]
    branch = {"conv_kxk": "rbr_dense", "conv_1x1": "rbr_1x1", "identity": "rbr_identity"}[rest[0]]
    return ".".join([*place, branch, *rest[1:]])


def test_the_original_repvggs_names_are_understood(tmp_path):
    shapes = jax.eval_shape(models.MODELS["repvgg_cifar"].build, jax.random.key(0))
    rng = np.random.default_rng(0)
    network = jax.tree.map(lambda leaf: rng.uniform(size=leaf.shape).astype(np.float32), shapes)
    path = tmp_path / "timm.safetensors"
    assign.save(network, path, repvgg.torch_prefix, {})
    timm = load_file(path)
    original = {f"module.{original_repvgg(name)}": value for name, value in timm.items()}
    assert {
        "module.stage0.rbr_dense.conv.weight",
        "module.stage1.0.rbr_1x1.bn.running_var",
        "module.stage3.13.rbr_identity.weight",
        "module.linear.bias",
    } <= original.keys()
    save_file(original, path)
    chex.assert_trees_all_equal(assign.load(shapes, path, repvgg.torch_prefix), network)


def test_only_names_of_the_original_repvgg_are_changed():
    timm = ["stem.conv_kxk.conv.weight", "stages.0.0.conv_1x1.bn.weight", "head.fc.weight"]
    resnet = ["conv1.weight", "layer1.0.bn1.bias", "linear.weight", "stage0.weight"]
    assert read.timm_names(timm) == timm
    assert read.timm_names(resnet) == resnet
    names = ["stage0.rbr_dense.conv.weight", "stage1.0.rbr_1x1.bn.weight", "linear.weight"]
    assert read.timm_names(iter(names)) == timm
    assert read.timm_names(["stage1.0.rbr_identity.weight"]) == ["stages.0.0.identity.weight"]
