import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dci_jax import network as networks
from dci_jax.errors import InputError
from dci_jax.inputs.spectrum import identity
from dci_jax.inputs.synthesis import average, synthesis_loss, synthesize, verifier_accuracy
from dci_jax.losses import batch_norm_statistics
from dci_jax.runtime.training_loop import step

SETTINGS = dict(
    batches=2,
    batch=8,
    stages=((32, 30),),
    start="white_noise",
    learning_rate=0.05,
    warmup=0,
    betas=(0.9, 0.999),
    statistics=10.0,
    first=1.0,
    cross_entropy=0.1,
    total_variation=0.1,
    l2=0.0,
    jitter=2,
    precision="float32",
)


def distance(network, images):
    _, found = networks.trace(network, images / np.float32(255))
    return float(batch_norm_statistics(found, networks.running_statistics(network)))


@pytest.mark.slow
def test_statistics_come_closer_and_pixels_stay_valid(network, tmp_path):
    key = jax.random.key(0)
    images = synthesize(network, key, tmp_path / "long", **SETTINGS)
    before = synthesize(network, key, tmp_path / "short", **{**SETTINGS, "stages": ((32, 1),)})
    assert len(images) == 16
    assert images[3].shape == (32, 32, 3)
    assert images[3].dtype == np.uint8
    assert distance(network, stack(images)) < 0.9 * distance(network, stack(before))


@pytest.mark.slow
def test_what_they_start_from_is_filtered(network, tmp_path):
    black = 0 * identity(3), np.full(3, -0.5, np.float32)
    settings = {**SETTINGS, "batches": 1, "stages": ((32, 1),), "start": "dead_leaves"}
    images = synthesize(network, jax.random.key(0), tmp_path / "filtered", **settings, filter=black)
    assert stack(images).max() <= 255 * SETTINGS["learning_rate"] + 0.5  # one of Adam's steps from black
    assert stack(synthesize(network, jax.random.key(0), tmp_path / "as it is", **settings)).max() > 100


def stack(images):
    return np.stack([images[i] for i in range(8)])


@pytest.mark.slow
def test_finished_batches_are_kept_and_the_rest_equals_an_undisturbed_run(network, tmp_path):
    settings = {**SETTINGS, "stages": ((16, 1), (32, 2)), "warmup": 1}
    whole = synthesize(network, jax.random.key(0), tmp_path, **settings)
    whole = [whole[i] for i in range(16)]
    kept = tmp_path / "batch_00000.npy"
    stamp = kept.stat().st_mtime_ns
    (tmp_path / "batch_00001.npy").unlink()
    (tmp_path / "batch_00001.npy.part").write_bytes(b"a kill in the middle of writing")
    again = synthesize(network, jax.random.key(0), tmp_path, **settings)
    np.testing.assert_array_equal([again[i] for i in range(16)], whole)
    assert kept.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(("name", "told"), [("batch_00000.npy", "checksum"), ("labels_00000.npz", "damaged")])
def test_a_flipped_bit_in_what_was_synthesised_is_told(network, tmp_path, name, told):
    settings = {**SETTINGS, "stages": ((32, 1),), "batches": 1}
    synthesize(network, jax.random.key(0), tmp_path, **settings)
    content = bytearray((tmp_path / name).read_bytes())
    content[200] ^= 4  # behind the headers, which have no checksum
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=told):
        synthesize(network, jax.random.key(0), tmp_path, **settings)


def test_no_batches_give_an_empty_bank(network, tmp_path):
    images = synthesize(network, jax.random.key(0), tmp_path, **{**SETTINGS, "batches": 0})
    assert len(images) == 0


def without_batch_norm(network):
    """A network whose blocks expose no statistics."""
    return network.replace(
        blocks=tuple(
            block.replace(
                params=(block.params,), apply=functools.partial(lambda f, p, x: (f(p[0], x)[0], {}), block.apply)
            )
            for block in network.blocks
        )
    )


@pytest.mark.slow
def test_without_batch_norm_the_label_and_the_priors_shape_the_images_and_a_warning_says_so(network, tmp_path, caplog):
    bare = without_batch_norm(network)
    settings = {**SETTINGS, "batches": 1, "cross_entropy": 1.0}
    with caplog.at_level(logging.WARNING, logger="dci_jax"):
        images = synthesize(bare, jax.random.key(0), tmp_path / "a", **settings)
    assert "no BatchNorm layer" in caplog.text
    start = synthesize(bare, jax.random.key(0), tmp_path / "b", **{**settings, "stages": ((32, 1),)})
    labels = np.load(tmp_path / "a" / "labels_00000.npz")["labels"]
    assert cross_entropy(bare, images, labels) < 0.9 * cross_entropy(bare, start, labels)


def cross_entropy(network, images, labels):
    scores = networks.logits(network, networks.run(network, stack(images) / np.float32(255)))
    return float(optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean())


def test_verifier_accuracy_is_the_share_of_images_that_get_their_label(network, tmp_path):
    images = synthesize(network, jax.random.key(0), tmp_path, **{**SETTINGS, "stages": ((32, 1),)})
    assert len(images) == 16
    pixels = np.stack([images[i] for i in range(16)]) / np.float32(255)
    answers = np.array(networks.logits(network, networks.run(network, pixels)).argmax(1))
    answers[:4] += 1
    np.savez(tmp_path / "labels_00000.npz", labels=answers[:8])
    np.savez(tmp_path / "labels_00001.npz", labels=answers[8:])
    assert verifier_accuracy(network, images, 5) == 12 / 16


def test_without_batch_norm_and_head_nothing_can_be_synthesised(network, tmp_path):
    bare = without_batch_norm(network).replace(head=None)
    with pytest.raises(InputError, match=r"synthesis\.batches=0"):
        synthesize(bare, jax.random.key(0), tmp_path, **SETTINGS)


def test_a_side_that_does_not_divide_the_image_is_refused(network, tmp_path):
    with pytest.raises(InputError, match=r"\(20, 5\).*divide the image's 32"):
        synthesize(network, jax.random.key(0), tmp_path, **{**SETTINGS, "stages": ((20, 5),)})


def test_the_first_stage_shows_the_network_averages():
    images = jnp.arange(2 * 4 * 4 * 1.0).reshape(2, 4, 4, 1)
    np.testing.assert_allclose(average(images, 2)[0, :, :, 0], [[2.5, 4.5], [10.5, 12.5]])
    np.testing.assert_array_equal(average(images, 1), images)


@pytest.mark.slow
def test_bfloat16_changes_the_convolutions_and_neither_type_nor_gist_of_the_loss(network, images):
    labels = jnp.zeros(2, jnp.int32)
    names = ("statistics", "cross_entropy", "total_variation", "l2", "first")
    weights = dict.fromkeys(names, jnp.float32(1))
    losses = {}
    for dtype in ("float32", "bfloat16"):
        frozen = (networks.with_dtype(network, dtype), labels, weights)
        losses[dtype], terms = synthesis_loss(0, 1, images, frozen, jax.random.key(0))
        assert all(term.dtype == jnp.float32 for term in terms.values())
    assert losses["bfloat16"] != losses["float32"]
    assert float(losses["bfloat16"]) == pytest.approx(float(losses["float32"]), rel=0.05)


@pytest.mark.slow
def test_every_batch_runs_the_program_of_the_first(network, tmp_path):
    programs = []
    for batches in (1, 3):
        settings = {**SETTINGS, "batches": batches, "stages": ((16, 2), (32, 3))}
        before = step()._cache_size()
        synthesize(network, jax.random.key(0), tmp_path / str(batches), **settings)
        programs.append(step()._cache_size() - before)
    assert programs[1] == programs[0]


def test_a_batch_that_was_cut_is_refused_and_not_read_with_its_pixels_shifted(network, tmp_path):
    settings = {**SETTINGS, "batches": 1}
    synthesize(network, jax.random.key(0), tmp_path, **settings)
    file = tmp_path / "batch_00000.npy"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"batch_00000\.npy is damaged"):
        synthesize(network, jax.random.key(0), tmp_path, **settings)
