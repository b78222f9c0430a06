"""The page of a generator's run and that of recorded features, from files made here."""

import json
import re

import numpy as np
import pytest

from dci_jax import results
from dci_jax.report import latents, recorded
from tests.report.cells import cell

NAMES = tuple(f"latent {i}" for i in range(4))
COSTS = {"bytes_sent": 4096, "device_flops": 8, "depth": 1.0, "device_parameters": 3, "batch_norms": 1}
PIXELS = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), np.uint8)


def begin(folder, config, rows):
    results.write(rows, {"image": COSTS}, folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "environment.json").write_text(json.dumps({"command": "python <x>"}))


@pytest.fixture
def inverted(tmp_path):
    """The files of a finished generator's run: one attack, one corruption, a baseline."""
    rng, evaluation, rows = np.random.default_rng(0), tmp_path / "evaluation", []
    (evaluation / "dci").mkdir(parents=True)
    scores = {m: np.linspace(0.1, 1, 4) for m in ("psnr", "ssim", "latent_cosine", "latent_error", "psnr_sent")}
    latents = np.float32(rng.normal(size=(4, 8)))
    for split, attack, corruption in (
        ("image", "dci", "none"),
        ("image", "dci", "blur 1"),
        ("any", "mean_latent", "none"),
    ):
        rows += results.lines(scores, NAMES, **cell(split, attack, corruption, target="<b>net", seed=0))
        if split != "any":
            found = scores | {"sent": PIXELS, "reconstruction": PIXELS, "latent": latents + 0.1}
            np.savez(evaluation / attack / f"{split} {corruption}.npz", **found)
    np.savez(evaluation / "dci" / "given images.npz", reconstruction=PIXELS, psnr=scores["psnr"])
    np.savez(evaluation / "given.npz", pixels=PIXELS)
    np.savez(evaluation / "blocks.npz", errors=np.ones((4, 3)), pictures=np.stack([PIXELS] * 3, 1))
    np.savez(evaluation / "unlikeliness.npz", before=np.arange(4.0), dci=np.arange(4.0) / 2)
    vectors = np.stack([np.eye(8)] * 4)
    np.savez(
        evaluation / "directions.npz",
        values=rng.uniform(0.001, 1, (4, 8)),
        vectors=vectors,
        latents=latents,
        deviation=1.0,
    )
    begin(tmp_path, {"seed": 0}, rows)
    return tmp_path


def test_the_page_of_latents_has_every_part_and_escapes_names(inverted):
    text = latents.write(inverted).read_text()
    for part in (
        "against depth",
        "Every block on the way",
        "singular vectors",
        "Repair",
        "least like the training data",
        "did not make",
        "Every number",
    ):
        assert part in text, part
    assert "<b>net" not in text
    assert text.count("<img") == 3 + 3 + 2 + 3 + 2 + 2 + 2
    assert not re.search(r'src="(?!data:)', text)


def test_a_generator_without_batch_norm_and_blocks_has_a_page(inverted):
    for name in ("blocks", "unlikeliness"):
        (inverted / "evaluation" / f"{name}.npz").unlink()
    text = latents.write(inverted).read_text()
    assert "Every block on the way" not in text
    assert "defective" not in text


def test_the_page_of_recorded_features_says_that_their_images_are_not_known(tmp_path):
    (tmp_path / "evaluation" / "dci").mkdir(parents=True)
    np.savez(tmp_path / "evaluation" / "dci" / "image none.npz", reconstruction=PIXELS)
    rows = results.lines(
        {"feature_error": np.full(4, 0.125)}, NAMES, **cell("image", "dci", "none", target="net", seed=0)
    )
    begin(tmp_path, {"features": "<b>.npz", "data": {"images": ""}}, rows)
    text = recorded.write(tmp_path).read_text()
    assert "Their images are not known here" in text
    assert "relative feature error 0.125" in text
    assert "&lt;b&gt;.npz" in text
