import hashlib
import re
import zipfile

import chex
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dci_jax import models
from dci_jax.checkpoints import assign, read
from dci_jax.errors import InputError
from dci_jax.models.cifar_resnet import torch_prefix


@pytest.fixture
def saved(network, tmp_path):
    path = tmp_path / "network.safetensors"
    assign.save(network, path, torch_prefix, {"model": "cifar_resnet20"})
    return path


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="reads a .pth file: pip install torch")


def as_torch(torch, path):
    return {name: torch.tensor(value) for name, value in load_file(path).items()}


def test_what_is_saved_is_loaded(network, saved):
    chex.assert_trees_all_equal(assign.load(network, saved, torch_prefix), network)


def test_names_and_layouts_are_torchs(saved):
    tensors = load_file(saved)
    assert tensors["layer2.0.conv1.weight"].shape == (32, 16, 3, 3)
    assert tensors["linear.weight"].shape == (10, 64)
    assert "layer1.0.bn2.running_var" in tensors


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: t.pop("layer1.0.bn1.running_mean"), "1 missing, such as 'layer1.0.bn1.running_mean'"),
        (lambda t: t.update(extra=np.zeros(1, np.float32)), "1 left over, such as 'extra'"),
        (lambda t: t.update({"conv1.weight": np.zeros((16, 3, 5, 5), np.float32)}), "'conv1.weight'"),
        (lambda t: t["linear.bias"].fill(np.nan), "'linear.bias' holds NaN"),
        (lambda t: t.update({"bn1.bias": np.full(16, 1e300)}), "'bn1.bias' holds NaN or infinity"),
        (lambda t: t["bn1.running_var"].fill(-0.5), "'bn1.running_var' holds -0.5"),
        (lambda t: t["bn1.running_var"].fill(0), "'bn1.running_var' is 0 everywhere"),
        (lambda t: t["conv1.weight"].fill(0), "'conv1.weight' is 0 everywhere"),
        (
            lambda t: t["conv1.weight"].__setitem__((0, 0, 0, 0), 1e18),
            "'conv1.weight' holds 1e.18, and nothing trained",
        ),
        (lambda t: t.update({"bn1.bias": np.zeros(16, np.int8)}), "'bn1.bias' holds I8"),
        (lambda t: t.update({"module.bn1.bias": t["bn1.bias"]}), "'bn1.bias' twice, as .*'module.bn1.bias'"),
    ],
    ids=["missing", "left over", "shape", "nan", "overflow", "variance", "dead", "empty", "bit", "integers", "twice"],
)
def test_a_checkpoint_that_does_not_fit_is_an_error_that_names_the_key(network, saved, change, named):
    tensors = load_file(saved)
    change(tensors)
    save_file(tensors, saved)
    with pytest.raises(InputError, match=named):
        assign.load(network, saved, torch_prefix)


def test_no_more_than_three_missing_names_are_listed(network, saved):
    tensors = {name: value for name, value in load_file(saved).items() if "bn1" not in name}
    save_file(tensors, saved)
    with pytest.raises(InputError, match=r"16 missing, such as '[^']*', '[^']*', '[^']*', \.\.\.;"):
        assign.load(network, saved, torch_prefix)


def test_step_counters_and_the_prefix_of_data_parallel_are_passed_over(network, saved):
    tensors = {f"module.{name}": value for name, value in load_file(saved).items()}
    tensors["module.bn1.num_batches_tracked"] = np.zeros((), np.int64)
    save_file(tensors, saved)
    chex.assert_trees_all_equal(assign.load(network, saved, torch_prefix), network)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_floats_of_every_size_become_float32(network, saved, dtype):
    dtype = jax.numpy.dtype(dtype)
    tensors = {name: value.astype(dtype) for name, value in load_file(saved).items()}
    save_file(tensors, saved)
    loaded = assign.load(network, saved, torch_prefix)
    rounded = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype).astype(np.float32), network)
    chex.assert_trees_all_equal(loaded, rounded)
    chex.assert_trees_all_equal_dtypes(loaded, network)


@pytest.mark.parametrize("suffix", [".safetensors", ".th"])
@pytest.mark.parametrize("left", [0.9, 0.001])
def test_a_file_cut_short_is_damaged(network, saved, tmp_path, request, suffix, left):
    if suffix == ".th":
        torch = request.getfixturevalue("torch")
        path = tmp_path / "network.th"
        torch.save({"state_dict": as_torch(torch, saved)}, path)
        chex.assert_trees_all_equal(assign.load(network, path, torch_prefix), network)
        saved = path
    content = saved.read_bytes()
    saved.write_bytes(content[: int(left * len(content))])
    with pytest.raises(InputError, match="damaged"):
        assign.load(network, saved, torch_prefix)


def test_a_flipped_bit_in_the_header_never_changes_a_weight(network, saved):
    content = saved.read_bytes()
    header = int.from_bytes(content[:8], "little")
    bits = np.random.default_rng(0).integers(0, 8 * (8 + header), 40)
    refused = 0
    for bit in [0, 16, 63, *bits]:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        saved.write_bytes(flipped)
        try:
            chex.assert_trees_all_equal(assign.load(network, saved, torch_prefix), network)
        except InputError:
            refused += 1
    assert refused > 30  # the others lie in metadata and spaces


def test_a_flipped_bit_anywhere_is_found_by_the_sha256(network, saved):
    digest = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert read.sha256(saved) == digest
    for expected in (digest, digest.upper(), digest[:8], digest[:20]):
        chex.assert_trees_all_equal(assign.load(network, saved, torch_prefix, expected), network)
    content = bytearray(saved.read_bytes())
    content[-1000] ^= 1
    saved.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(InputError, match=f"damaged.*{found}.*{digest} is expected; fetch it again"):
        assign.load(network, saved, torch_prefix, digest)


@pytest.mark.parametrize("expected", ["12fca82", "12fca82g", "sha256", 65 * "a", "12fca82f 0"])
def test_what_is_no_sha256_is_refused(saved, expected):
    with pytest.raises(InputError, match=f"'{expected}' is no sha256; give its 64 hex digits"):
        read.check_sha256(saved, expected)


def test_a_sha256_of_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"No checkpoint at .*absent\.th"):
        read.check_sha256(tmp_path / "absent.th", 64 * "0")


def test_a_file_is_held_to_the_digits_in_its_name(network, saved):
    digits = read.sha256(saved)[:8]
    right = saved.rename(saved.with_name(f"network-{digits}.safetensors"))
    chex.assert_trees_all_equal(assign.load(network, right, torch_prefix), network)
    wrong = right.rename(saved.with_name("network-0676ba61.safetensors"))
    with pytest.raises(InputError, match=rf"sha256 is {digits}.*0676ba61\.\.\. is expected.*rename"):
        assign.load(network, wrong, torch_prefix)
    dated = wrong.rename(saved.with_name("network-20261123.safetensors"))
    chex.assert_trees_all_equal(assign.load(network, dated, torch_prefix), network)


def test_published_files_keep_what_their_names_promise(shared, tmp_path):
    for name in ("resnet20-12fca82f.th", "resnet32-d509ac18.th"):
        path = shared / "cifar10" / "weights" / name
        assert read.sha256(path).startswith(re.search(r"-(\w+)\.", name)[1])
        damaged = bytearray(path.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            read.read(tmp_path / name)


def test_a_missing_file_and_an_unknown_kind_are_errors(network, tmp_path):
    with pytest.raises(InputError, match="No checkpoint"):
        assign.load(network, tmp_path / "absent.safetensors", torch_prefix)
    (tmp_path / "weights.h5").touch()
    with pytest.raises(InputError, match=r"give a \.safetensors"):
        assign.load(network, tmp_path / "weights.h5", torch_prefix)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(InputError, match=r"folder\.pth is a folder"):
        assign.load(network, tmp_path / "folder.pth", torch_prefix)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty; fetch it again"),
        ("\n<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page"),
        ('\ufeff<html lang="en">', "is a web page"),
        ('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * 'a'}\nsize 46807446\n",
            "is a git-LFS pointer, .* fetch the file itself",
        ),
    ],
    ids=["empty", "page", "page with a mark", "refusal", "pointer"],
)
def test_what_a_server_gave_instead_of_weights_is_named(network, tmp_path, suffix, content, said):
    path = tmp_path / f"model{suffix}"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        assign.load(network, path, torch_prefix)


@pytest.mark.parametrize("nested", ["", "state_dict", "model_state_dict", "model"])
def test_torch_files_may_keep_the_weights_one_level_down(network, saved, tmp_path, torch, nested):
    tensors = as_torch(torch, saved)
    tensors["bn1.num_batches_tracked"] = torch.tensor(7)
    content = {nested: tensors, "epoch": 3, "loss": torch.tensor(1.0)} if nested else tensors
    torch.save(content, tmp_path / "network.pth")
    loaded = assign.load(network, tmp_path / "network.pth", torch_prefix)
    chex.assert_trees_all_equal(loaded, network)


def test_torch_files_may_hold_half_floats_but_no_integers(network, saved, tmp_path, torch):
    tensors = {name: value.bfloat16() for name, value in as_torch(torch, saved).items()}
    torch.save(tensors, tmp_path / "network.pth")
    loaded = assign.load(network, tmp_path / "network.pth", torch_prefix)
    chex.assert_trees_all_equal_dtypes(loaded, network)
    chex.assert_trees_all_close(loaded, network, rtol=1e-2)
    torch.save(tensors | {"bn1.bias": torch.zeros(16, dtype=torch.int8)}, tmp_path / "network.pth")
    with pytest.raises(InputError, match=r"'bn1\.bias' holds int8"):
        assign.load(network, tmp_path / "network.pth", torch_prefix)


def test_a_torch_file_without_names_is_an_error(network, tmp_path, torch):
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    with pytest.raises(InputError, match=r"no tensors by name; save the model's state_dict"):
        assign.load(network, tmp_path / "list.pth", torch_prefix)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, network, torch):
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": print}, path)
    with pytest.raises(InputError, match="more than weights"):
        assign.load(network, path, torch_prefix)


def test_an_unknown_network_lists_the_known(network):
    with pytest.raises(InputError, match=r"'resnet7'.*cifar_resnet20"):
        models.load("resnet7")
    with pytest.raises(InputError, match="give the path of a checkpoint as weights"):
        models.load("cifar_resnet110")


@pytest.mark.parametrize(("depth", "file"), [(20, "resnet20-12fca82f.th"), (32, "resnet32-d509ac18.th")])
def test_published_checkpoints_classify_their_training_images(shared, torch, depth, file):
    from dci_jax import network as networks

    network = models.load(f"cifar_resnet{depth}", shared / "cifar10" / "weights" / file)
    cifar = np.load(shared / "cifar10" / "lossless_3000.npz")
    images = cifar["images"][:200] / np.float32(255)
    labels = np.argmax(networks.logits(network, networks.run(network, images)), 1)
    assert np.mean(labels == cifar["labels"][:200]) > 0.99


@pytest.mark.parametrize(("name", "least"), [("cifar_resnet20", 0.8), ("repvgg_cifar", 0.75)])
def test_an_embedded_network_is_small_and_says_how_good_it_is(name, least):
    from importlib import resources

    from safetensors import safe_open

    path = resources.files("dci_jax.models") / models.MODELS[name].embedded
    assert path.stat().st_size < 4e6
    with safe_open(path, "numpy") as file:
        assert file.metadata()["model"] == name
        assert float(file.metadata()["accuracy"].split()[0]) > least
    assert models.load(name).name == name


def test_one_flipped_bit_in_a_pth_file_is_found_by_its_checksum(network, torch, saved, tmp_path):
    path = tmp_path / "network.pth"
    torch.save(as_torch(torch, saved), path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    content[largest.header_offset + 200 + largest.file_size // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="does not have its checksum"):
        assign.load(network, path, torch_prefix)


def test_a_key_of_weights_where_there_is_none_is_refused(network, saved):
    with pytest.raises(InputError, match=r"weights_key is 'ema', but .* holds nothing but weights; leave it out"):
        assign.load(network, saved, torch_prefix, weights_key="ema")


def test_a_prefix_that_all_names_share_is_dropped(network, saved):
    save_file({f"backbone.{name}": value for name, value in load_file(saved).items()}, saved)
    chex.assert_trees_all_equal(assign.load(network, saved, torch_prefix), network)
