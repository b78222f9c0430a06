"""Made reconstructions and guesses beside the verdict: nothing blind leaks, and no dim, negative or mirrored image is safe."""

import numpy as np
import pytest
import scipy.ndimage

from dci_jax import metrics
from dci_jax.data.images import photographs
from dci_jax.evaluation import images, recognition
from dci_jax.report.leaks import MARGINS, Policy, baselines, evidence
from dci_jax.report.verdict import level
from dci_jax.results import lines

POLICY = Policy(ssim=0.5, psnr=20.0, structure=0.7, leaking=0.0, server_agreement=0.95)
TILES = {32: 4, 224: 2}  # 64 images of 32 px, 16 of 224


@pytest.fixture(scope="module", params=[32, pytest.param(224, marks=pytest.mark.slow)])
def private(request):
    """(images uint8, their names, the rows of their baselines)."""
    found = photographs((request.param, request.param, 3), tiles=TILES[request.param])
    guesses = images.baselines(found.pixels, seed=0)
    rows = [row for name, pixels in guesses.items() for row in scored(found, pixels, "any", name)]
    return found, rows


def scored(private, pixels, split="stem", attack="dci"):
    """Rows of results.jsonl of reconstructions uint8 of the private images."""
    a, b = (np.float32(x) / 255 for x in (pixels, private.pixels))
    plain = {"reconstruction": pixels, "psnr": np.asarray(metrics.psnr(a, b)), "ssim": np.asarray(metrics.ssim(a, b))}
    found = plain | recognition.scores(plain, private.pixels, 16)
    return lines(found, private.names, target="net", split=split, attack=attack, defense="none", seed=0)


def judged(private, reconstructions):
    """(level, share of images that leak) of float reconstructions in [0, 1]."""
    found, guesses = private
    pixels = np.uint8(np.round(255 * np.clip(reconstructions, 0, 1)))
    clear = evidence(scored(found, pixels), baselines(guesses), POLICY)
    return level(np.mean(clear >= 0), np.sum((clear >= -1) & (clear < 0)), ()), np.mean(clear >= 0)


def edges(x):
    grey = x.mean(3, keepdims=True)
    size = np.hypot(*(np.diff(grey, axis=axis, append=np.take(grey, [-1], axis)) for axis in (1, 2)))
    return np.repeat(size / size.max((1, 2, 3), keepdims=True), 3, 3)


def quarter(x):
    side = x.shape[1] // 2
    found = np.full_like(x, 0.5)
    found[:, :side, :side] = x[:, :side, :side]
    return found


def blurred(x):
    return scipy.ndimage.gaussian_filter(x, (0, x.shape[1] / 24, x.shape[1] / 24, 0))


def noisy(x):
    return 0.5 * x + 0.25 + 0.25 * np.random.default_rng(0).normal(size=x.shape)


def cells_of_four(x):
    side = x.shape[1] // 4
    means = x.reshape(len(x), 4, side, 4, side, 3).mean((2, 4))
    return np.repeat(np.repeat(means, side, 1), side, 2)


LEAKS = {
    "the image": lambda x: x,
    "dim": lambda x: 0.2 * x,
    "bright": lambda x: 0.8 + 0.2 * x,
    "negative": lambda x: 1 - x,
    "edges": edges,
    "low contrast and noise": noisy,
    "blurred": blurred,
    "a quarter": quarter,
    "mirrored": lambda x: x[:, :, ::-1],
}
GUESSES = {
    "mean of the others": lambda x: (x.sum(0) - x) / (len(x) - 1),
    "another image": lambda x: np.roll(x, 5, 0),
    "flat mean color": lambda x: np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape),
    "4 x 4 mean colors": cells_of_four,
    "noise": lambda x: np.random.default_rng(1).uniform(size=x.shape),
    "grey": lambda x: np.full_like(x, 0.5),
}


@pytest.mark.parametrize("name", LEAKS)
def test_what_a_person_would_recognise_leaks(name, private):
    found, share = judged(private, LEAKS[name](np.float32(private[0].pixels) / 255))
    assert found in ("some", "most")
    assert share > 0.3


@pytest.mark.parametrize("name", GUESSES)
def test_no_guess_leaks(name, private):
    found, share = judged(private, GUESSES[name](np.float32(private[0].pixels) / 255))
    assert share == 0
    assert found in ("none", "in doubt")


def test_no_baseline_leaks(private):
    _, rows = private
    for name in dict.fromkeys(row["attack"] for row in rows):
        assert (evidence([r for r in rows if r["attack"] == name], baselines(rows), POLICY) < 0).all(), name


def test_one_image_of_all_is_some(private):
    pixels = np.float32(private[0].pixels) / 255
    found = np.full_like(pixels, 0.5)
    found[7] = pixels[7]
    assert judged(private, found) == ("some", 1 / len(pixels))


@pytest.mark.parametrize("measure", MARGINS)
def test_each_measure_leaks_by_itself_and_doubts_within_a_margin(measure):
    def rows(value, attack):
        scores = dict.fromkeys(MARGINS, 0.0) | {measure: value, "rank1_structure": 0.0, "seed": 0, "image": "a"}
        return [scores | {"attack": attack}]

    threshold, margin = POLICY.thresholds[measure], MARGINS[measure]

    def clear(value, blind):
        return evidence(rows(value, "dci"), baselines(rows(blind, "mean_image")), POLICY)[0]

    assert clear(threshold + 0.01 * margin, 0.0) >= 0
    assert -1 <= clear(threshold - 0.5 * margin, 0.0) < 0
    assert clear(threshold - 1.5 * margin, 0.0) < -1
    assert -1 <= clear(threshold + margin, threshold + 0.5 * margin) < 0  # not better than the baseline by a margin
    assert clear(threshold + margin, threshold + 2.5 * margin) < -1


def test_equal_images_are_no_baseline_for_each_other():
    pixels = np.repeat(np.random.default_rng(0).integers(0, 255, (1, 16, 16, 3), np.uint8), 3, 0)
    guesses = images.baselines(pixels, seed=0)
    assert (guesses["mean_image"] == 128).all()
    assert (guesses["random_image"] == 128).all()
