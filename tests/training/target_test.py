import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors import safe_open

from dci_jax import models
from dci_jax import network as networks
from dci_jax.errors import InputError
from tests.command_line import ROOT, environment
from training import target as train_target


def test_augmentation_shifts_flips_and_scales():
    pixels = np.zeros((512, 32, 32, 3), np.uint8)
    pixels[:, 16, 10] = 255
    images = np.asarray(train_target.augment(jax.random.key(0), pixels))
    assert images.max() == 1
    rows, columns = np.nonzero(images.sum((0, 3)))
    assert set(rows) == set(range(12, 21))
    assert set(columns) == {*range(6, 15), *range(17, 26)}  # shifted, and mirrored at 31 - x


def test_a_folder_that_is_not_there_is_told_before_any_work(tmp_path):
    arguments = [f"--{name}={tmp_path / 'x.npz'}" for name in ("train_images", "test_images")]
    with pytest.raises(InputError, match=r"the folder .*absent is not there"):
        train_target.main([*arguments, f"--out={tmp_path / 'absent' / 'net.safetensors'}"])


@pytest.mark.slow
def test_training_writes_a_checkpoint_with_measured_statistics(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 10
    images = (25 * labels[:, None, None, None] + rng.integers(0, 20, (40, 32, 32, 3))).astype("u1")
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    out = tmp_path / "net.safetensors"
    command = [
        sys.executable,
        "-m",
        "training.target",
        f"--train_images={tmp_path / 'x.npz'}",
        f"--test_images={tmp_path / 'x.npz'}",
        f"--out={out}",
        "--epochs=1",
        "--batch=20",
        "--statistics_batches=2",
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with safe_open(out, "numpy") as file:
        metadata = file.metadata()
    assert metadata["trained_on"] == "40 images of x.npz"
    assert 0 <= float(metadata["accuracy"].split()[0]) <= 1
    network = models.load("cifar_resnet20", out)
    _, found = networks.trace(network, images / np.float32(255))
    running = networks.running_statistics(network)
    # Measured on these images, shifted (so with black borders) and flipped: near what they give.
    first, expected = running[0]["bn1"]["var"], found[0]["bn1"]["var"]
    assert np.median(np.abs(np.log(first / expected))) < 0.5
    assert not np.allclose(first, 1, atol=0.2)
