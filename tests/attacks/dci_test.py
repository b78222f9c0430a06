import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import blocks
from dci_jax.attacks import dci
from dci_jax.inputs import mixture
from dci_jax.losses import l1
from dci_jax.models.inverter import inverters

SETTINGS = dict(
    width=1.0, rounds=1, depth=2, distance="l1", layer=1.0, image=1.0, cycle=1.0, batch=10,
    learning_rate=3e-3, divide_steps=25, conquer_learning_rate=3e-3, conquer=(("stem", 10), ("layer1.0", 25)),
)  # fmt: skip
INPUTS = mixture(jnp.zeros((0, 32, 32, 3), jnp.uint8), {"dead_leaves": 1.0})


@pytest.fixture
def chain(network):
    """Inverters of the first three blocks with parameters that are not the initial ones."""
    modules = inverters(network, 1.0, 1, 2)[:3]
    params = dci.initialize(modules, network, jax.random.key(0))
    rng = np.random.default_rng(0)
    return modules, jax.tree.map(lambda p: p + rng.normal(0, 0.05, p.shape).astype("f4"), params)


def test_training_reads_images_back_and_every_split_has_its_reader(network, tmp_path):
    splits = ("stem", "layer1.0")
    readers = dci.dci(network, INPUTS, splits, jax.random.key(0), tmp_path, **SETTINGS)
    untrained = dci.dci(
        network, INPUTS, splits, jax.random.key(0), tmp_path / "un",
        **{**SETTINGS, "divide_steps": 0, "conquer": ()},
    )  # fmt: skip
    images = np.asarray(dci.draw(INPUTS, jax.random.key(9), 20))
    for name in splits:
        features = blocks.run(network, images, 0, blocks.split_index(network, name))
        found = np.asarray(readers[name](features))
        assert found.min() >= 0
        assert found.max() <= 1
        error, before = (
            np.mean((np.asarray(r[name](features)) - images) ** 2) for r in (readers, untrained)
        )
        assert error < 0.5 * before, name
        assert error < 0.5 * images.var(), name


def test_the_divide_loss_is_the_sum_of_blocks_that_do_not_touch_each_other(network, chain, images):
    modules, params = chain
    objective = dci.Objective("l1", 1.0, 1.0, 0.5)
    loss = functools.partial(dci.divide_loss, objective, modules)
    features, _ = blocks.trace(network, images, 0, 3)
    expected = 0
    for i, module in enumerate(modules):
        estimate = dci.undo(module, params[i], network, i, features[i + 1])
        expected += l1(estimate, features[i])
        expected += 0.5 * l1(blocks.run(network, estimate, i, i + 1), features[i + 1])
    value, _ = loss(params, network, images)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    gradient = jax.grad(lambda p: loss(p, network, images)[0])
    changed = (params[0], jax.tree.map(lambda p: 2 * p, params[1]), params[2])
    chex.assert_trees_all_close(gradient(changed)[0], gradient(params)[0], rtol=1e-3, atol=1e-4)


def test_the_conquer_loss_is_that_of_each_group_read_back_alone(network, chain):
    modules, params = chain
    images = np.random.default_rng(2).uniform(size=(6, 32, 32, 3)).astype(np.float32)
    _, terms = dci.conquer_loss(dci.Objective("l1", 0, 1, 1), modules, params, network, images)
    expected, cycles = [], [[], [], []]
    for depth, group in ((3, images[:2]), (2, images[2:4]), (1, images[4:])):
        true, _ = blocks.trace(network, group, 0, depth)
        x = true[-1]
        for i in reversed(range(depth)):
            x = dci.undo(modules[i], params[i], network, i, x)
        expected.append(float(l1(x, group)))
        again, _ = blocks.trace(network, x, 0, depth)
        for i in range(depth):
            cycles[i].append((again[i + 1], true[i + 1]))
    assert float(terms["image"]) == pytest.approx(np.mean(expected), rel=1e-4)
    assert float(terms["deepest"]) == pytest.approx(expected[0], rel=1e-4)
    cycle = np.mean(
        [float(l1(*map(jnp.concatenate, zip(*pairs, strict=True)))) for pairs in cycles]
    )
    assert float(terms["cycle"]) == pytest.approx(cycle, rel=1e-4)


def test_the_weights_of_the_terms_count(network, chain):
    modules, params = chain
    images = np.random.default_rng(2).uniform(size=(3, 32, 32, 3)).astype(np.float32)
    for name in ("layer", "image", "cycle"):
        weights = {"layer": 0.0, "image": 0.0, "cycle": 0.0, name: 2.0}
        objective = dci.Objective("l1", **weights)
        loss, terms = dci.conquer_loss(objective, modules, params, network, images)
        assert float(loss) == pytest.approx(2 * float(terms[name]), rel=1e-5)
