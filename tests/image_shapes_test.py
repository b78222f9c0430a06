"""Images as they are: non-square, of one channel, partly transparent; read, attacked, scored and shown."""

import io
import logging

import jax
import numpy as np
import pytest
from PIL import Image

import dci_jax
from dci_jax.data import images as data
from dci_jax.errors import InputError

NOISE = (("pink_noise", 1.0),)
QUICK = {"inputs.dead_leaves": 0.0, "inputs.pink_noise": 1.0, "dci.num_images": 32, "dci.samples_per_unknown": 1}


def small(shape):
    """Two convolutions with random weights, and a classifier, for images of any shape."""
    rng = np.random.default_rng(0)
    weights = [np.float32(rng.normal(0, 0.2, (3, 3, *pair))) for pair in ((shape[2], 8), (8, 16))]

    def conv(w, x):
        x = jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jax.nn.relu(x)

    head = (lambda w, x: x.mean((1, 2)) @ w, np.float32(rng.normal(0, 1, (16, 5))))
    return dci_jax.sequential("small", shape, [("first", conv, weights[0]), ("second", conv, weights[1])], head)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(24, 40, 3), (28, 28, 1)])
def test_an_audit_takes_them(shape, tmp_path):
    rng = np.random.default_rng(1)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(0, 255, (50, 60, 3), np.uint8)).save(tmp_path / f"{name}.png")
    report = dci_jax.audit(
        small(shape),
        tmp_path,
        splits=("first",),
        defenses=(("gaussian", 1.0),),
        attacks=("dci", "adapted_dci"),
        settings=QUICK | {"dci.num_corrections": 0},
        progress=False,
    )
    (row,) = (r for r in report.to_records() if r["attack"] == "adapted_dci")
    assert row["psnr"] > 5
    assert (row["adapted"], row["strength"], row["num_queries"]) == (True, 1.0, 1.0)
    assert report.files["report/index.html"]


@pytest.mark.slow
def test_a_prior_is_fitted_to_grey_images():
    network = dci_jax.from_jax(grey_norm, grey_variables(), (16, 16, 1), name="grey")
    prior = dci_jax.fit_prior(
        network, key=jax.random.key(0), weights=NOISE, num_steps=60, batch_size=32, padding=(0,), progress=False
    )
    assert prior.filter is not None
    assert prior.filter[0].shape == (7, 1, 1)
    found = prior.sample(jax.random.key(1), 64)
    plain = dci_jax.Prior((), NOISE, (16, 16, 1)).sample(jax.random.key(1), 64)
    assert abs(found.mean() - 0.25) < 0.5 * abs(plain.mean() - 0.25)


def grey_variables():
    rng = np.random.default_rng(0)
    w = np.float32(np.abs(rng.normal(0, 0.3, (3, 3, 1, 4))))
    x = 0.5 * dci_jax.Prior((), NOISE, (16, 16, 1)).sample(jax.random.key(2), 512)
    y = jax.lax.conv_general_dilated(np.float32(x), w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return {"conv": {"w": w}, "norm": {"mean": y.mean((0, 1, 2)), "var": y.var((0, 1, 2))}}


def grey_norm(variables, x):
    y = jax.lax.conv_general_dilated(
        x, variables["conv"]["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    y = (y - variables["norm"]["mean"]) * jax.lax.rsqrt(variables["norm"]["var"] + 1e-5)
    return jax.nn.relu(y).mean((1, 2))


def test_a_picture_is_cut_to_the_proportions_of_the_network():
    picture = np.zeros((40, 100, 3), np.uint8)
    picture[:, 20:80] = 200  # the centre, 40 x 60
    found = data.fit(Image.fromarray(picture), (20, 30, 3))
    assert found.shape == (20, 30, 3)
    assert found[:, 1:-1].min() > 190
    whole = data.fit(Image.fromarray(picture), (10, 25, 3))
    assert whole[:, :4].max() < 20
    assert data.fit(Image.fromarray(picture), (20, 30, 1)).shape == (20, 30, 1)


def test_what_is_transparent_is_white_and_not_its_hidden_colour(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0], pixels[:, 4:, 3] = 255, 255  # red everywhere, seen on the right alone
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (found,) = data.load(tmp_path, (8, 8, 3)).pixels
    assert (found[:, :4] == 255).all()
    assert (found[:, 4:] == (255, 0, 0)).all()


def test_files_that_are_not_read_are_counted_by_their_suffix(tmp_path, caplog):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    for name in ("a.png", "b.heic", "c.HEIC", "notes", ".hidden"):
        (tmp_path / name).write_bytes(stream.getvalue())
    skipped = data.load(tmp_path, (8, 8, 3)).skipped
    assert [s.partition(":")[0] for s in skipped] == ["2 of .heic", "1 of no suffix"]


@pytest.mark.parametrize("shape", [(16, 16, 2), (16, 16, 4)])
def test_other_channels_than_those_of_pictures_are_refused(shape):
    with pytest.raises(InputError, match="pictures have 3 channels, or 1"):
        dci_jax.audit(small(shape), None, progress=False)


def test_a_network_is_taken_for_images_of_another_height_and_width(caplog):
    caplog.set_level(logging.ERROR)
    network = dci_jax.with_side(small((16, 16, 3)), (24, 40))
    assert network.input_shape == (24, 40, 3)
    with pytest.raises(InputError, match=r"side is \(3,\)"):
        dci_jax.with_side(network, (3,))
