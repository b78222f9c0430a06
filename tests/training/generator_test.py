import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open

from dci_jax import models
from dci_jax import network as networks
from tests.command_line import ROOT, environment
from training import generator as train_generator


def call(folder, *more):
    command = [
        sys.executable,
        "-m",
        "training.generator",
        f"--train_images={folder / 'x.npz'}",
        f"--test_images={folder / 'x.npz'}",
        f"--workdir={folder / 'run'}",
        "--batch=4",
        "--n_dis=2",
        "--ngf=32",
        "--ndf=8",
        "--statistics_batches=2",
        "--samples=100",
        *more,
    ]
    return subprocess.run(command, cwd=ROOT, env=environment(folder), capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan")
    images = np.random.default_rng(0).integers(0, 255, (40, 32, 32, 3), np.uint8)
    np.savez(folder / "x.npz", images=images, labels=np.arange(40) % 10)
    return folder


@pytest.mark.slow
def test_training_leaves_a_generator_that_can_be_read_back(folder):
    done = call(folder, "--steps=2")
    assert done.returncode == 0, done.stderr
    file = folder / "run" / "generator.safetensors"
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata()
    assert float(metadata["frechet"].split()[0]) > 0
    assert metadata["trained_on"] == "40 images of x.npz"
    assert (folder / "run" / "samples.png").stat().st_size > 1000
    curve = [json.loads(line) for line in (folder / "run" / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == [2]
    network = models.load("sngan_narrow", file)
    latents = np.random.default_rng(1).normal(size=(64, 128)).astype(np.float32)
    running = networks.running_statistics(network)[1]["b2"]["var"]
    found = networks.trace(network, latents)[1][1]["b2"]["var"]
    # The statistics are those of the weights that were kept, over latents of the prior.
    assert np.median(np.abs(np.log(running / found))) < 0.3
    assert not np.allclose(running, 1, atol=0.01)


def test_images_that_are_not_there_are_told_before_any_work(folder):
    done = call(folder, "--train_images=absent.npz")
    assert done.returncode == 2
    assert "absent.npz" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_frechet_distance_of_two_gaussians():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(20000, 2)) * [1, 2]
    b = rng.normal(size=(20000, 2)) * [3, 2] + [0, 5]
    # |m|^2 + sum (s_a - s_b)^2 where the covariances commute
    assert train_generator.frechet(a, b) == pytest.approx(25 + 4, rel=0.03)
    assert train_generator.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_a_count_below_one_is_told_with_its_value(folder):
    done = call(folder, "--steps=0")
    assert done.returncode == 2
    assert "--steps: it is '0'; give a whole number of 1 to" in done.stderr
