import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.dci.chain import Chain
from dci_jax.dci.trained import train_chain
from dci_jax.dci.trained.inverter_network import inverters
from dci_jax.dci.trained.objective import Objective, conquer_loss, deepest_loss, divide_loss, undo
from dci_jax.dci.trained.trained_inverter import TrainedInverter
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.losses import l1
from dci_jax.metrics import latent_cosine

SETTINGS = dict(
    width=1.0,
    cap=256,
    num_corrections=1,
    depth=2,
    distance="l1",
    layer=1.0,
    image=1.0,
    cycle=1.0,
    batch=10,
    remat=False,
    precision="float32",
    learning_rate=3e-3,
    divide_steps=50,
    conquer_learning_rate=1e-3,
    conquer_warmup=6,
    conquer_clip=float("inf"),
    deepest_steps=0,
    conquer=(("stem", 8), ("layer1.0", 16)),
)
INPUTS = Prior((), (("dead_leaves", 1.0),), (32, 32, 3))


@pytest.fixture
def chain(network):
    """Inverters of the first three blocks with parameters that are not the initial ones."""
    modules = inverters(network, 3, 1.0, 256, 1, 2)
    params = train_chain.initialize(modules, network, jax.random.key(0))
    rng = np.random.default_rng(0)
    return modules, jax.tree.map(lambda p: p + rng.normal(0, 0.05, p.shape).astype("f4"), params)


@pytest.mark.slow
def test_training_reads_images_back_and_every_split_has_its_reader(network, tmp_path):
    splits = ("stem", "layer1.0")
    readers = train_chain.dci_trained(network, INPUTS, splits, jax.random.key(0), tmp_path, **SETTINGS)
    images = np.asarray(batches(INPUTS, jax.random.key(9), 20)(0))
    for name in splits:
        features = networks.run(network, images, 0, networks.split_index(network, name))
        found = np.asarray(readers[name](features))
        assert found.min() >= 0
        assert found.max() <= 1
        assert np.mean((found - images) ** 2) < 0.5 * images.var(), name


@pytest.mark.slow
def test_the_divide_loss_is_the_sum_of_blocks_that_do_not_touch_each_other(network, chain, images):
    modules, params = chain
    objective = Objective("l1", 1.0, 1.0, 0.5)
    loss = functools.partial(divide_loss, objective, modules)

    @jax.jit
    def expected():
        features, _ = networks.trace(network, images, 0, 3)
        total = 0
        for i, module in enumerate(modules):
            estimate = undo(module, params[i], network, i, features[i + 1])
            total += l1(estimate, features[i])
            total += 0.5 * l1(networks.run(network, estimate, i, i + 1), features[i + 1])
        return total

    gradient = jax.jit(jax.grad(lambda p: loss(p, network, images)[0]))
    value, _ = jax.jit(loss)(params, network, images)
    assert float(value) == pytest.approx(float(expected()), rel=1e-5)
    changed = (params[0], jax.tree.map(lambda p: 2 * p, params[1]), params[2])
    chex.assert_trees_all_close(gradient(changed)[0], gradient(params)[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_deepest_loss_is_that_of_the_chain_read_back(network, chain):
    modules, params = chain
    images = jax.random.uniform(jax.random.key(3), (3, 32, 32, 3))
    features = networks.trace(network, images, 0, len(modules))[0]
    estimates = [features[-1]]
    for i in reversed(range(len(modules))):
        estimates.insert(0, undo(modules[i], params[i], network, i, estimates[0]))
    again = networks.trace(network, estimates[0], 0, len(modules))[0]

    loss, terms = deepest_loss(Objective("l1", 1, 2, 3), modules, params, network, images)
    assert terms["image"] == pytest.approx(float(l1(estimates[0], images)), rel=1e-3)
    cycle = [float(l1(a, f)) for a, f in zip(again[1:], features[1:], strict=True)]
    assert terms["cycle"] == pytest.approx(np.mean(cycle), rel=1e-3)
    layer = [float(l1(a, f)) for a, f in zip(estimates, features, strict=True)][:-1]
    assert terms["layer"] == pytest.approx(np.mean(layer), rel=1e-3)
    assert loss == pytest.approx(float(terms["layer"] + 2 * terms["image"] + 3 * terms["cycle"]))


@pytest.mark.slow
def test_the_conquer_loss_is_that_of_each_group_read_back_alone(network, chain):
    modules, params = chain
    images = np.random.default_rng(2).uniform(size=(6, 32, 32, 3)).astype(np.float32)
    _, terms = conquer_loss(Objective("l1", 0, 1, 1), modules, params, network, images)
    expected, cycles = [], [[], [], []]
    for depth, group in ((3, images[0::3]), (2, images[1::3]), (1, images[2::3])):
        true, _ = networks.trace(network, group, 0, depth)
        x = true[-1]
        for i in reversed(range(depth)):
            x = undo(modules[i], params[i], network, i, x)
        expected.append(float(l1(x, group)))
        again, _ = networks.trace(network, x, 0, depth)
        for i in range(depth):
            cycles[i].append((again[i + 1], true[i + 1]))
    assert float(terms["image"]) == pytest.approx(np.mean(expected), rel=1e-4)
    assert float(terms["deepest"]) == pytest.approx(expected[0], rel=1e-4)
    cycle = np.mean([float(l1(*map(jnp.concatenate, zip(*pairs, strict=True)))) for pairs in cycles])
    assert float(terms["cycle"]) == pytest.approx(cycle, rel=1e-4)


@pytest.mark.slow
def test_the_weights_of_the_terms_count(network, chain):
    modules, params = chain
    images = np.random.default_rng(2).uniform(size=(3, 32, 32, 3)).astype(np.float32)
    for name in ("layer", "image", "cycle"):
        weights = {"layer": 0.0, "image": 0.0, "cycle": 0.0, name: 2.0}
        objective = Objective("l1", **weights)
        loss, terms = conquer_loss(objective, modules, params, network, images)
        assert float(loss) == pytest.approx(2 * float(terms[name]), rel=1e-5)


@pytest.mark.slow
def test_rematerialisation_does_not_change_the_gradient(network, chain):
    modules, params = chain
    images = np.random.default_rng(2).uniform(size=(3, 32, 32, 3)).astype(np.float32)
    gradients = []
    for remat in (False, True):
        objective = Objective("l1", 1.0, 1.0, 1.0, remat)
        loss = functools.partial(conquer_loss, objective, modules)
        gradient = jax.jit(jax.grad(loss, has_aux=True))
        gradients.append(gradient(params, network, images)[0])
    chex.assert_trees_all_close(*gradients, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_inverters_trained_on_small_images_in_bfloat16_read_large_ones_back_in_float32(network, tmp_path):
    small, settings = Prior((), INPUTS.weights, (16, 16, 3)), {**SETTINGS, "precision": "bfloat16"}
    read = train_chain.dci_trained(network, small, ("stem",), jax.random.key(0), tmp_path, **settings)["stem"]
    images = np.asarray(batches(INPUTS, jax.random.key(9), 4)(0))
    found = read(networks.run(network, images, 0, 1))
    assert found.shape == images.shape
    assert found.dtype == jnp.float32
    assert np.mean((np.asarray(found) - images) ** 2) < 0.5 * images.var()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(read.inverters))


@pytest.mark.slow
def test_latents_of_a_generator_are_read_back_by_the_same_training(generator, tmp_path):
    inputs = Prior((), ((generator.latent, 1.0),), generator.input_shape)
    settings = {**SETTINGS, "divide_steps": 60, "conquer": (("image", 30),), "width": 0.5}
    latents = batches(inputs, jax.random.key(9), 20)(0)
    readers = train_chain.dci_trained(generator, inputs, ("block2", "image"), jax.random.key(0), tmp_path, **settings)
    found = readers["block2"](networks.run(generator, latents, 0, 2))
    assert readers["image"](networks.run(generator, latents)).shape == latents.shape
    assert float(latent_cosine(found, latents).mean()) > 0.3


@pytest.mark.slow
def test_estimates_on_the_way_end_in_what_invert_gives(generator):
    modules = inverters(generator, 5, 1.0, 64, 1, 2)
    params = train_chain.initialize(modules, generator, jax.random.key(0))
    latents = jax.random.normal(jax.random.key(1), (2, 128))
    image = networks.run(generator, latents)
    inverters_of = [TrainedInverter(params[i], modules[i], i) for i in reversed(range(5))]
    chain = Chain.of(inverters_of, generator, "image")
    found = chain.estimates(image)
    shapes = networks.feature_shapes(generator)
    assert [f.shape[1:] for f in found] == list(shapes)
    np.testing.assert_array_equal(found[-1], image)
    np.testing.assert_array_equal(found[0], chain(image))


@pytest.mark.slow
def test_steps_on_the_deepest_split_alone_leave_the_others_as_they_were(network, tmp_path):
    settings = {**SETTINGS, "divide_steps": 2, "conquer": (("layer1.0", 2),)}
    images = np.asarray(batches(INPUTS, jax.random.key(9), 2)(0))
    found = []
    for steps in (0, 2):
        readers = train_chain.dci_trained(
            network,
            INPUTS,
            ("stem", "layer1.0"),
            jax.random.key(0),
            tmp_path / str(steps),
            **{**settings, "deepest_steps": steps},
        )
        found.append({n: r(networks.run(network, images, 0, i)) for i, (n, r) in enumerate(readers.items(), 1)})
    without, after = found
    np.testing.assert_array_equal(after["stem"], without["stem"])
    assert np.abs(after["layer1.0"] - without["layer1.0"]).max() > 1e-4


@pytest.mark.parametrize(("clip", "goes_on"), [(1.0, True), (float("inf"), False)])
def test_a_clip_keeps_one_wild_batch_from_stopping_adam(clip, goes_on):
    optimizer = train_chain.adam(train_chain.Phase("conquer", lambda: None, 1000, 0.1, 2, clip))
    value = jnp.zeros(())
    state = optimizer.init(value)
    for gradient in (1.0, 1.0, 1.0, 1e6, 1.0, 1.0):
        before = value
        update, state = optimizer.update(jnp.array(gradient), state, value)
        value += update
    # Adam divides by the root mean square of past gradients, which a spike of 1e6 fills for a thousand steps.
    assert (abs(float(value - before)) > 0.09) == goes_on
