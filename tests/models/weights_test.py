import chex
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dci_jax import models
from dci_jax.errors import InputError
from dci_jax.models import weights
from dci_jax.models.cifar_resnet import torch_prefix


@pytest.fixture
def saved(network, tmp_path):
    path = tmp_path / "network.safetensors"
    weights.save(network, path, torch_prefix, {"model": "cifar_resnet20"})
    return path


def test_what_is_saved_is_loaded(network, saved):
    chex.assert_trees_all_equal(weights.load(network, saved, torch_prefix), network)


def test_names_and_layouts_are_torchs(saved):
    tensors = load_file(saved)
    assert tensors["layer2.0.conv1.weight"].shape == (32, 16, 3, 3)
    assert tensors["linear.weight"].shape == (10, 64)
    assert "layer1.0.bn2.running_var" in tensors


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("layer1.0.bn1.running_mean"), "'layer1.0.bn1.running_mean'"),
        (lambda t: t.update(extra=np.zeros(1, np.float32)), "'extra'"),
        (lambda t: t.update({"conv1.weight": np.zeros((16, 3, 5, 5), np.float32)}), "'conv1.weight'"),
        (lambda t: t["linear.bias"].fill(np.nan), "'linear.bias'"),
    ],
    ids=["missing", "left over", "shape", "nan"],
)  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_an_error_that_names_the_key(
    network, saved, change, named
):
    tensors = load_file(saved)
    change(tensors)
    save_file(tensors, saved)
    with pytest.raises(InputError, match=named):
        weights.load(network, saved, torch_prefix)


def test_step_counters_and_the_prefix_of_data_parallel_are_passed_over(network, saved):
    tensors = {f"module.{name}": value for name, value in load_file(saved).items()}
    tensors["module.bn1.num_batches_tracked"] = np.zeros((), np.int64)
    save_file(tensors, saved)
    chex.assert_trees_all_equal(weights.load(network, saved, torch_prefix), network)


@pytest.mark.parametrize("suffix", [".safetensors", ".th"])
def test_a_file_cut_short_is_damaged(network, saved, tmp_path, suffix):
    if suffix == ".th":
        torch = pytest.importorskip("torch", reason="reads a .th file: pip install torch")
        path = tmp_path / "network.th"
        torch.save({"state_dict": {k: torch.tensor(v) for k, v in load_file(saved).items()}}, path)
        chex.assert_trees_all_equal(weights.load(network, path, torch_prefix), network)
        saved = path
    saved.write_bytes(saved.read_bytes()[:-100_000])
    with pytest.raises(InputError, match="damaged"):
        weights.load(network, saved, torch_prefix)


def test_a_missing_file_and_an_unknown_kind_are_errors(network, tmp_path):
    with pytest.raises(InputError, match="No checkpoint"):
        weights.load(network, tmp_path / "absent.safetensors", torch_prefix)
    (tmp_path / "weights.h5").touch()
    with pytest.raises(InputError, match=r"give a \.safetensors"):
        weights.load(network, tmp_path / "weights.h5", torch_prefix)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, network):
    torch = pytest.importorskip("torch", reason="reads a .pth file: pip install torch")
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": print}, path)
    with pytest.raises(InputError, match="more than weights"):
        weights.load(network, path, torch_prefix)


def test_an_unknown_network_lists_the_known(network):
    with pytest.raises(InputError, match=r"'resnet7'.*cifar_resnet20"):
        models.load("resnet7")
    with pytest.raises(InputError, match="weights=PATH"):
        models.load("cifar_resnet110")


@pytest.mark.parametrize(
    ("depth", "file"), [(20, "resnet20-12fca82f.th"), (32, "resnet32-d509ac18.th")]
)
def test_published_checkpoints_classify_their_training_images(shared, depth, file):
    pytest.importorskip("torch", reason="reads a .th file: pip install torch")
    from dci_jax import blocks

    network = models.load(f"cifar_resnet{depth}", shared / "cifar10" / "weights" / file)
    cifar = np.load(shared / "cifar10" / "lossless_3000.npz")
    images = cifar["images"][:200] / np.float32(255)
    labels = np.argmax(blocks.logits(network, blocks.run(network, images)), 1)
    assert np.mean(labels == cifar["labels"][:200]) > 0.99


def test_the_embedded_network_is_small_and_says_how_good_it_is():
    from importlib import resources

    from safetensors import safe_open

    path = resources.files("dci_jax.models") / models.EMBEDDED["cifar_resnet20"]
    assert path.stat().st_size < 1.5e6
    with safe_open(path, "numpy") as file:
        assert float(file.metadata()["accuracy"].split()[0]) > 0.8
    assert models.load("cifar_resnet20").name == "cifar_resnet20"
