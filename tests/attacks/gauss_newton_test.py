import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.attacks.factorised import damped
from dci_jax.attacks.feature_matching import held_out
from dci_jax.attacks.gauss_newton import check, gauss_newton, taken
from dci_jax.attacks.gauss_newton import losses as losses_of
from dci_jax.dci import solve_chain
from dci_jax.defenses.channel import NONE, Channel, sent
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.metrics import psnr
from dci_jax.network import Block, Network
from dci_jax.runtime import distributed

INPUTS = Prior((), (("dead_leaves", 1.0),), (32, 32, 3))
SETTINGS = dict(steps=4, inner=6, damping=1e-2, total_variation=(0.0,), num_validation=1)


def attack(network, split, features, folder=None, **more):
    read = gauss_newton(network, INPUTS, (split,), jax.random.key(0), folder, **{**SETTINGS, **more})
    return np.asarray(read[split](features))


def test_a_damped_step_is_that_of_the_normal_equations():
    rng = np.random.default_rng(0)
    jacobian, residual = rng.normal(size=(30, 4)), rng.normal(size=30)
    weight = 0.3
    gram = jacobian.T @ jacobian
    wanted = np.linalg.solve(gram + weight * np.trace(gram) / 4 * np.eye(4), jacobian.T @ residual)
    found = damped(jnp.float32(jacobian), jnp.float32(residual), weight)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


@pytest.mark.slow
def test_it_finds_the_latents_behind_features_each_alone(generator):
    latents = jax.random.normal(jax.random.key(0), (2, 128))
    features = networks.run(generator, latents, 0, 2)
    near = latents + 0.1 * jax.random.normal(jax.random.key(1), latents.shape)
    settings = dict(damping=1e-4, steps=8)
    found = attack(generator, "block2", features, start={"block2": lambda _: near}, **settings)
    assert np.linalg.norm(found - latents) < 0.1 * np.linalg.norm(near - latents)
    alone = attack(generator, "block2", features[1:], start={"block2": lambda _: near[1:]}, **settings)
    np.testing.assert_allclose(found[1:], alone, atol=1e-3)


def test_what_the_features_do_not_show_stays_and_latents_stay_in_range():
    matrix = jnp.array([[2.0, 0.0], [1.0, 0.0]])
    block = Block(matrix, "image", lambda m, z: (z @ m.T, {}))
    network = Network((block,), None, "linear", (2,), latent="uniform")
    start = {"image": lambda _: jnp.array([[0.0, 0.7]])}
    found = attack(network, "image", jnp.array([[1.0, 0.5]]), start=start, steps=8)
    np.testing.assert_allclose(found, [[0.5, 0.7]], atol=1e-4)
    outside = attack(network, "image", jnp.array([[9.0, 4.5]]), start=start, steps=8)
    np.testing.assert_allclose(outside, [[1.0, 0.7]], atol=1e-4)


def test_a_run_that_is_asked_to_stop_does_not_finish_its_latents_first(monkeypatch):
    """A batch of 500 latents takes ten minutes."""
    block = Block(jnp.eye(2), "image", lambda m, z: (z @ m.T, {}))
    network = Network((block,), None, "linear", (2,), latent="uniform")
    monkeypatch.setattr(distributed, "preempted", lambda: True)
    with pytest.raises(distributed.Preempted):
        attack(network, "image", jnp.zeros((1, 2)), start={"image": lambda _: jnp.zeros((1, 2))})


def image_problem(network, count=2):
    """(private images, their features after the stem, a start near them)."""
    images = batches(INPUTS, jax.random.key(5), count)(0)
    noise = 0.05 * jax.random.normal(jax.random.key(6), images.shape)
    return images, networks.run(network, images, 0, 1), jnp.clip(images + noise, 0, 1)


@pytest.mark.slow
def test_an_image_comes_nearer_and_is_found_alone(network, tmp_path):
    images, features, near = image_problem(network)
    found = attack(network, "stem", features, tmp_path, start={"stem": lambda f: near[: len(f)]})
    assert (psnr(found, images) > psnr(near, images) + 8).all()
    alone = attack(network, "stem", features[:1], tmp_path, start={"stem": lambda f: near[: len(f)]})
    np.testing.assert_allclose(found[:1], alone, atol=2e-3)


@pytest.mark.slow
def test_the_loss_never_rises_even_from_the_worst_start(network, tmp_path):
    _, features, near = image_problem(network)
    start = jnp.where(near > 0.5, 0.0, 1.0)
    found = attack(network, "stem", features, tmp_path, start={"stem": lambda f: start[: len(f)]}, damping=1e-9)
    channel = replace(NONE, received=features)
    loss = [losses_of(channel, jnp.float32(0), networks.run(network, x, 0, 1), x) for x in (start, jnp.array(found))]
    assert (loss[1] <= loss[0]).all()
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.slow
def test_pixels_that_the_features_do_not_show_stay(tmp_path):
    # Even columns alone are sent on.
    block = Block(jnp.float32(2), "half", lambda w, x: (w * x[:, :, ::2], {}))
    network = Network((block,), None, "half", (4, 4, 1))
    images = jax.random.uniform(jax.random.key(0), (1, 4, 4, 1))
    start = {"half": lambda _: jnp.full((1, 4, 4, 1), 0.3)}
    found = attack(network, "half", 2 * images[:, :, ::2], tmp_path, start=start)
    np.testing.assert_allclose(found[:, :, ::2], images[:, :, ::2], atol=1e-3)
    np.testing.assert_allclose(found[:, :, 1::2], 0.3, atol=1e-5)


def test_procedural_images_choose_the_weight_of_tv_once(network, tmp_path):
    _, features, near = image_problem(network)
    more = dict(start={"stem": lambda f: near[: len(f)]}, steps=2)
    found = attack(network, "stem", features, tmp_path, total_variation=(0.0, 1e3), **more)
    kept = json.loads((tmp_path / "stem.json").read_text())
    assert kept["total_variation"] == 0.0
    (tmp_path / "stem.json").write_text(json.dumps(kept | {"total_variation": 1e3}))
    smooth = attack(network, "stem", features, tmp_path, total_variation=(0.0, 1e3), **more)
    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.8 * np.abs(np.diff(found, axis=1)).mean()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"inner": 0}, "inner is 0"),
        ({"num_validation": 0}, "num_validation is 0"),
        ({"damping": 0.0}, r"damping is 0.0; give more than 0"),
        ({"damping": float("nan")}, "damping is nan"),
        ({"total_variation": ()}, r"total_variation is \(\)"),
        ({"total_variation": (-1.0,)}, "total_variation is"),
        ({"total_variation": (float("inf"),)}, "total_variation is"),
    ],
)
def test_what_would_cripple_it_is_refused(network, change, named):
    with pytest.raises(InputError, match=named):
        check(network, ("stem",), network.input_shape, **{**SETTINGS, **change})


def test_a_step_that_makes_the_loss_larger_is_not_taken_and_raises_the_damping(network):
    images, features, near = image_problem(network)
    new = jnp.stack([images[0], jnp.where(images[1] > 0.5, 0.0, 1.0)])  # right, and as wrong as can be
    channel = replace(NONE, received=features)
    old_loss, new_loss = (losses_of(channel, jnp.float32(0), networks.run(network, x, 0, 1), x) for x in (near, new))
    found, dampings = taken(near, new, old_loss, new_loss, jnp.float32([1.0, 1.0]))
    np.testing.assert_allclose(found, jnp.stack([images[0], near[1]]), atol=1e-6)
    np.testing.assert_allclose(dampings, [0.2, 5.0], rtol=1e-6)


def test_images_that_choose_are_none_that_inverters_are_solved_on(network):
    key, settings = jax.random.key(0), dict(batch=8, num_images=8, num_validation=8)
    ((solved,), (apart,)), chosen = solve_chain._inputs(INPUTS, key, settings), held_out(network, INPUTS, key, 8)
    for one, other in ((solved, apart), (solved, chosen), (apart, chosen)):
        distances = jnp.mean(jnp.abs(one[:, None] - other), (2, 3, 4))
        assert float(distances.min()) > 1e-3


@pytest.mark.slow
def test_behind_noise_that_says_nothing_the_start_is_kept(network, tmp_path):
    channel, start = Channel("gaussian", 100.0), {"stem": lambda f: jnp.full((len(f), 32, 32, 3), 0.5)}
    features = sent(network, 1, channel, jax.random.key(2), batches(INPUTS, jax.random.key(5), 2)(0))
    found = attack(network, "stem", features, tmp_path, start=start, channel=channel)
    assert np.abs(found - 0.5).mean() < 0.02
    assert json.loads((tmp_path / "stem.json").read_text())["share"] < 0.1
