import os
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dci_jax import network as networks
from dci_jax.cpu_kernels.max_pool import max_pool
from dci_jax.dci import inverter, solve_chain, solve_inverter, solved_maps
from dci_jax.errors import InputError
from dci_jax.inputs.mixture import Prior, batches
from dci_jax.metrics import latent_cosine, psnr
from dci_jax.pieces import sequential
from dci_jax.runtime import distributed

SETTINGS = dict(
    num_images=48,
    num_validation=16,
    batch=16,
    num_corrections=2,
    kernel_size=3,
    max_unknowns=(10000, 10000),
    samples_per_unknown=10000,
)
INPUTS = Prior((), (("dead_leaves", 1.0),), (32, 32, 3))
KEY = jax.random.key(0)


def new_images(count=8):
    return batches(INPUTS, jax.random.key(9), count)(0)


def read(network, name, readers):
    features = networks.run(network, new_images(), 0, networks.split_index(network, name))
    return readers[name](features)


@pytest.fixture(scope="module")
def solved(network, tmp_path_factory):
    """(readers, folder) of two splits."""
    folder = tmp_path_factory.mktemp("solved")
    return solve_chain.dci(network, INPUTS, ("stem", "layer1.0"), KEY, folder, **SETTINGS), folder


def test_images_are_read_back_from_every_split(network, solved):
    for name, least in (("stem", 30), ("layer1.0", 23)):
        found = read(network, name, solved[0])
        assert found.min() >= 0
        assert found.max() <= 1
        assert float(psnr(found, new_images()).mean()) > least, name


def test_corrections_by_the_blocks_own_answer_help(network, solved, tmp_path):
    readers = solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path, **{**SETTINGS, "num_corrections": 0})
    alone, corrected = (psnr(read(network, "stem", r), new_images()) for r in (readers, solved[0]))
    assert float(jnp.mean(corrected - alone)) > 3


def test_the_next_inverter_is_solved_on_what_the_deeper_one_made(network, solved):
    # The stem's maps in the chain of layer1.0 are not those of the stem's own chain, which saw true features.
    own, other = (solved[0][name].inverters[-1].kernels[0] for name in ("stem", "layer1.0"))
    assert own.shape == other.shape
    assert float(jnp.abs(own - other).max()) > 1e-3


@pytest.mark.slow
def test_one_chain_serves_all_splits_and_its_deepest_inverter_is_that_of_an_own_chain(network, solved, tmp_path):
    readers = solve_chain.dci_shared(network, INPUTS, ("stem", "layer1.0"), KEY, tmp_path, **SETTINGS)
    for name, least in (("stem", 30), ("layer1.0", 22)):
        assert float(psnr(read(network, name, readers), new_images()).mean()) > least, name
    assert [len(readers[name].inverters) for name in ("stem", "layer1.0")] == [1, 2]
    own, shared = ([i.kernels for i in r["layer1.0"].inverters] for r in (solved[0], readers))
    np.testing.assert_array_equal(own[0][0], shared[0][0])
    # The stem's inverter is one for both splits: solved on true features and estimates, it is neither own one.
    assert readers["stem"].inverters[0].kernels[0] is shared[1][0]
    for other in (own[1][0], solved[0]["stem"].inverters[0].kernels[0]):
        assert float(jnp.abs(shared[1][0] - other).max()) > 1e-4


def test_a_shared_chain_needs_an_input_for_each_split(network, tmp_path):
    with pytest.raises(InputError, match="batch is 1, but each of the 2 split points"):
        solve_chain.dci_shared(network, INPUTS, ("stem", "layer1.0"), KEY, tmp_path, **{**SETTINGS, "batch": 1})
    assert not any(tmp_path.iterdir())


def test_a_correction_follows_its_equation(network):
    g = inverter.inverter_spec(network, 0)
    x = new_images(2)
    f = networks.run(network, x, 0, 1)
    estimate = jnp.clip(x + 0.05, 0, 1)
    residual = f - networks.run(network, estimate, 0, 1)
    _, pull = jax.vjp(lambda x: networks.run(network, x, 0, 1), estimate)
    kernel = jnp.zeros((1, 1, g.channels, 3)).at[0, 0, 3 + 16 : 3 + 16 + 3].set(0.01 * jnp.eye(3))
    found = inverter.corrected(g, kernel, network, f, f, estimate)
    expected = jnp.clip(estimate + 0.01 * pull(residual)[0], 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_correction_in_a_chain_of_its_own_follows_what_was_sent_as_well(network):
    g = inverter.inverter_spec(network, 0, 3)
    assert g.channels == inverter.inverter_spec(network, 0).channels + 3
    x = new_images(2)
    sent = networks.run(network, x, 0, 3)
    estimate = jnp.clip(x + 0.05, 0, 1)
    answer, pull = jax.vjp(lambda x: networks.run(network, x, 0, 3), estimate)
    kernel = jnp.zeros((1, 1, g.channels, 3)).at[0, 0, 22:25].set(1e-4 * jnp.eye(3))
    f = jnp.zeros((2, 32, 32, 16))  # whatever the deeper inverters made
    found = inverter.corrected(g, kernel, network, sent, f, estimate)
    expected = jnp.clip(estimate + 1e-4 * pull(sent - answer)[0], 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_batches_that_do_not_count_add_nothing_to_the_sums(network):
    g, x = inverter.inverter_spec(network, 0), new_images(4)
    f = networks.run(network, x, 0, 1)
    alone = inverter.first_moments(3, g, [f], [x], 1)
    among = inverter.first_moments(3, g, [f, f * jnp.nan], [x, x], 1)
    for name, value in alone.items():
        np.testing.assert_allclose(among[name], value, rtol=1e-5, atol=1e-3)


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_maps(network, solved, tmp_path, monkeypatch):
    polls = iter([False] * 5 + [True])
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "preempted", lambda: next(polls))
        with pytest.raises(distributed.Preempted):
            solve_chain.dci(network, INPUTS, ("stem", "layer1.0"), KEY, tmp_path, **SETTINGS)
    # six polls: four batches of inputs, then one sum for each map
    assert {file.name for file in tmp_path.rglob("*.npz")} == {"0.npz", "precisions.npz"}
    readers = solve_chain.dci(network, INPUTS, ("stem", "layer1.0"), KEY, tmp_path, **SETTINGS)
    for name in readers:
        np.testing.assert_array_equal(read(network, name, readers), read(network, name, solved[0]))


def test_a_finished_chain_is_read_from_its_files_and_no_input_is_made(network, solved, tmp_path, monkeypatch):
    readers, folder = solved
    shutil.copytree(folder, tmp_path / "same")
    with monkeypatch.context() as patch:
        patch.setattr(solve_chain, "batches", None)
        again = solve_chain.dci(network, INPUTS, ("stem", "layer1.0"), KEY, tmp_path / "same", **SETTINGS)
    for name in readers:
        np.testing.assert_array_equal(read(network, name, again), read(network, name, readers))
    taken = tmp_path / "same" / "stem" / "000" / solved_maps.TAKEN
    for content in (0, -1, 1.5, [1, 2], "two", float("nan")):
        np.savez(taken, maps=content)
        with pytest.raises(InputError, match=r"taken\.npz is damaged .*delete it"):
            solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path / "same", **SETTINGS)
    np.savez(taken, maps=10**15)  # files that are not there: not to its end
    assert solved_maps.finished(taken.parent) == 0
    taken.unlink()
    again = solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path / "same", **SETTINGS)
    np.testing.assert_array_equal(read(network, "stem", again), read(network, "stem", readers))
    assert taken.exists()


def test_features_that_are_not_finite_are_refused_and_nothing_is_taken(network, tmp_path):
    spoiled = jax.tree.map(lambda w: w, network)
    stem = spoiled.blocks[0].replace(params=jax.tree.map(lambda w: w * jnp.nan, spoiled.blocks[0].params))
    spoiled = spoiled.replace(blocks=(stem, *spoiled.blocks[1:]))
    with pytest.raises(InputError, match="stem: the features are non-finite"):
        solve_chain.dci(spoiled, INPUTS, ("stem",), KEY, tmp_path, **SETTINGS)
    assert not list(tmp_path.rglob("*.npz"))  # so that the same line works once the checkpoint is put right


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_images": 0}, "images is 0"),
        ({"num_validation": 0}, "num_validation is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"num_corrections": -1}, "num_corrections is -1"),
        ({"kernel_size": 2}, "size is 2; give 1, 3, 5 or 7"),
        ({"max_unknowns": (100,)}, r"unknowns is \(100,\); give two numbers"),
        ({"max_unknowns": (100, 0)}, "unknowns is"),
        ({"samples_per_unknown": 0}, "samples_per_unknown is 0"),
    ],
)
def test_what_would_cripple_it_is_refused(network, tmp_path, change, named):
    with pytest.raises(InputError, match=named):
        solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path, **{**SETTINGS, **change})
    assert not any(tmp_path.iterdir())


def test_that_no_correction_helps_is_kept_and_that_no_first_map_does_is_not(tmp_path):
    calls = []

    def make():
        calls.append(None)
        return None, 0.0

    for lasting, solves in ((True, 1), (False, 3)):  # once, and twice more
        for _ in range(2):
            assert solved_maps.once(tmp_path / f"{lasting}.npz", (27, 3), make, lasting)[0] is None
        assert len(calls) == solves


@pytest.mark.parametrize(
    "content",
    [
        {"solution": np.zeros((9, 3)), "ridge": 1.0},
        {"solution": np.zeros((27, 3))},
        {"solution": np.zeros((153, 3)), "ridge": np.zeros(2)},
    ],
)
def test_a_map_of_another_shape_is_refused_with_the_folder_to_delete(network, tmp_path, content):
    file = tmp_path / "stem" / "000" / "0.npz"
    file.parent.mkdir(parents=True)
    np.savez(file, **content)
    with pytest.raises(InputError, match=rf"holds no map of 153 regressors and 3 .*delete {file.parents[1]} "):
        solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path, **SETTINGS)


def test_wide_blocks_look_at_fewer_pixels_and_the_first_map_at_more_than_corrections(network):
    g = inverter.inverter_spec(network, 1)  # 16 channels before and behind it
    assert g.channels == 4 * 16 + 1
    assert inverter.kernel_sizes(g, 5, (25 * 17, 25 * 65)) == (5, 5)
    assert inverter.kernel_sizes(g, 5, (25 * 17, 25 * 65 - 1)) == (5, 3)
    assert inverter.kernel_sizes(g, 5, (25 * 17 - 1, 1)) == (3, 1)
    assert inverter.largest(g, (5, 1)) == 25 * 17


def test_a_solve_that_does_not_fit_the_machine_is_refused(network, tmp_path, monkeypatch):
    settings = {**SETTINGS, "num_images": 16, "num_validation": 8}
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 470}.get)
    with pytest.raises(InputError, match=r"inverter of stem has 351: its solve .*at most 346"):
        solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path, **settings)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1040}.get)
    # 2 matrices of 351^2 numbers, 8 bytes each, fit, and so do inputs and features: not both.
    with pytest.raises(InputError, match=r"to solve the inverter of stem, .*; give at most 6 in all") as told:
        solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path, **settings)
    most = int(re.search(r"at most (\d+)", str(told.value)).group(1))
    solve_chain.check(network, ("stem",), INPUTS.shape, **{**settings, "num_images": most - 3, "num_validation": 3})
    # More held out than solved on: these are counted once.
    with pytest.raises(InputError, match=r"to solve the inverter of stem, .*; give at most 6 in all"):
        solve_chain.check(network, ("stem",), INPUTS.shape, **{**settings, "num_images": 1, "num_validation": 23})
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 100}.get)
    # 3072 numbers of an image and 16384 behind the stem, 4 bytes each
    with pytest.raises(
        InputError, match=r"images is 16, dci.num_validation 8: .* only 0.0 are available; give fewer than 5 in all"
    ):
        solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path, **settings)
    assert not any(tmp_path.iterdir())


def test_a_few_images_do_where_their_pixels_are_enough(network20):
    inverter_specs = [inverter.inverter_spec(network20, index) for index in range(7)]
    few = inverter.enough(inverter_specs, [(3, 3)] * 7, num_images=1000, least=16, samples_per_unknown=10)
    assert few[0] == 16  # 351 unknowns, 1024 pixels in an image
    assert few[4] == 68  # 9 * 193 channels * 10 / 256, of layer2.0, the widest
    assert few[6] == 46  # 9 * 129 channels
    capped = inverter.enough(inverter_specs, [(3, 3)] * 7, num_images=50, least=16, samples_per_unknown=10)
    assert capped[4] == 50


@pytest.mark.slow
def test_a_deeper_inverter_reads_back_all_that_a_shallower_one_is_solved_on(generator, tmp_path, monkeypatch):
    solved, whole = [], solve_chain.solve_inverter

    def seen(g, network, sent, found, true, **rest):
        solved.append([len(part) for part in found])
        return whole(g, network, sent, found, true, **rest)

    monkeypatch.setattr(solve_chain, "solve_inverter", seen)
    inputs = Prior((), ((generator.latent, 1.0),), generator.input_shape)
    settings = {**SETTINGS, "num_images": 64, "num_corrections": 0, "samples_per_unknown": 1, "kernel_size": 1}
    reader = solve_chain.dci(generator, inputs, ("block2",), KEY, tmp_path, **settings)["block2"]
    # 16 pixels of each latent are enough for block2 with 16 latents; the latent itself is one pixel and needs all that there are.
    assert solved == [[1, 1], [4, 1]]
    latents = batches(inputs, jax.random.key(9), 5)(0)
    assert reader(networks.run(generator, latents, 0, 2)).shape == latents.shape


@pytest.mark.slow
def test_latents_of_a_generator_are_read_back(generator, tmp_path):
    inputs = Prior((), ((generator.latent, 1.0),), generator.input_shape)
    settings = {**SETTINGS, "num_images": 256, "batch": 64, "max_unknowns": (40000, 40000)}
    readers = solve_chain.dci(generator, inputs, ("block2",), KEY, tmp_path, **settings)
    latents = batches(inputs, jax.random.key(9), 20)(0)
    found = readers["block2"](networks.run(generator, latents, 0, 2))
    assert found.shape == latents.shape
    assert float(latent_cosine(found, latents).mean()) > 0.5


@pytest.mark.slow
def test_the_parts_of_a_block_are_undone_one_after_the_other_which_reads_more(tmp_path):
    def convolved(kernel, x):
        y = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((3, 3), (3, 3)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(y), {}

    def pooled(_, x):
        return max_pool(x, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))), {}

    kernel = jax.random.normal(jax.random.key(3), (7, 7, 3, 24)) / 7
    pieces = [("stem", lambda kernel, x: pooled(kernel, convolved(kernel, x)[0]), kernel)]
    whole = sequential("pooling", (32, 32, 3), pieces, mean=(0.5,), std=(0.3,))
    apart = whole.replace(blocks=(whole.blocks[0].replace(stages=(convolved, pooled)),))
    found = {}
    for name, network in (("whole", whole), ("apart", apart)):
        readers = solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path / name, **SETTINGS)
        found[name] = float(psnr(read(network, "stem", readers), new_images()).mean())
    assert [len(list((tmp_path / name / "stem").iterdir())) for name in ("whole", "apart")] == [1, 2]
    assert found["apart"] > found["whole"] + 0.2


def test_a_correction_that_is_worse_on_held_out_images_is_not_taken(network, solved, tmp_path):
    """Here the second map lies in the folder, as of a run that was killed, and drives every pixel away."""
    folder = tmp_path / "stem" / "000"
    shutil.copytree(solved[1] / "stem" / "000", folder)
    (folder / solved_maps.TAKEN).unlink()
    saved = np.load(folder / "1.npz")
    np.savez(folder / "1.npz", solution=-30 * saved["solution"], ridge=saved["ridge"])
    readers = solve_chain.dci(network, INPUTS, ("stem",), KEY, tmp_path, **SETTINGS)
    assert solved_maps.finished(folder) == 1
    assert len(readers["stem"].inverters[0].kernels) == 1
    assert float(psnr(read(network, "stem", readers), new_images()).mean()) > 20


@pytest.mark.parametrize(
    ("size", "count", "batch", "pixels", "channels", "expected"),
    [
        (1, 92, 16, 16 * 49, 100, 11),  # small grids: 8192 pixels at a time, 9 groups
        (1, 92, 16, 16 * 49, 16387, 5),  # as many as have room
        (1, 9, 128, 128 * 1024, 300, 1),  # one batch is enough
        (3, 9, 64, 64 * 256, 500, 5),  # 512 images at a time, 2 groups
        (3, 4, 64, 64 * 1024, 2000, 1),
        (3, 3, 16, 16 * 256, 500, 3),  # no more than there are
    ],
)
def test_batches_are_summed_in_equal_groups(size, count, batch, pixels, channels, expected):
    assert solve_inverter.together(size, count, batch, pixels, channels) == expected
