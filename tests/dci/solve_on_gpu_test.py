"""A chain whose normal equations are added up, assembled and factored where they lie is that of the host."""

import jax
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.dci import solve_chain, solve_inverter
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.metrics import psnr

SETTINGS = dict(
    num_images=32,
    num_validation=16,
    batch=16,
    num_corrections=1,
    kernel_size=3,
    max_unknowns=(10000, 10000),
    samples_per_unknown=10000,
)
INPUTS = Prior((), (("dead_leaves", 1.0),), (32, 32, 3))


@pytest.mark.slow
def test_a_gpu_that_solves_for_itself_finds_the_same_chain(network, tmp_path, monkeypatch):
    here = solve_chain.dci(network, INPUTS, ("layer1.0",), jax.random.key(0), tmp_path / "here", **SETTINGS)["layer1.0"]
    monkeypatch.setattr(solve_inverter, "on_gpu", lambda unknowns: True)
    fetch = solve_inverter.sharding.fetch
    # Of the errors' covariance one matrix of channels is fetched, of the normal equations nothing.
    monkeypatch.setattr(solve_inverter.sharding, "fetch", lambda a: fetch(a) if isinstance(a, jax.Array) else None)
    there = solve_chain.dci(network, INPUTS, ("layer1.0",), jax.random.key(0), tmp_path / "there", **SETTINGS)[
        "layer1.0"
    ]
    for found, expected in zip(there.inverters[0].kernels, here.inverters[0].kernels, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    # The next inverter's ridge is so small that a last digit of the deeper one's changes the fourth of its own.
    images = batches(INPUTS, jax.random.key(9), 8)(0)
    features = networks.features_at(network, 2, images)
    np.testing.assert_allclose(psnr(there(features), images), psnr(here(features), images), atol=1e-2)
