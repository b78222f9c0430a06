"""A whole run on a generator, by the true command line."""

import csv
import re

import numpy as np
import pytest

from tests.command_line import call, lines

TINY = [
    "--config.target.name=tests.conftest:narrow_generator",
    "--config.target.weights=",
    "--config.data.images=",
    "--config.data.count=6",
    "--config.splits=('block2', 'image')",
    "--config.dci_trained.batch=5",
    "--config.dci_trained.conquer=(('image', 2),)",
    "--config.dci_trained.divide_steps=3",
    "--config.batch=4",
    "--config.attacks=('dci_trained', 'dci_trained+refine')",
    "--config.corruptions=(('none', 0.0), ('mask', 0.25))",
    "--config.refine.splits=('image',)",
]


@pytest.fixture(scope="module")
def inverted(place):
    done = call(place, place / "generator", *TINY)
    assert done.returncode == 0, done.stderr
    return place / "generator"


@pytest.mark.slow
def test_a_run_leaves_codes_images_and_what_was_repaired(inverted):
    rows = lines(inverted)
    cells = {(r["attack"], r["split"], r["defense"]) for r in rows}
    corruptions = ("none", "mask 0.25")
    attacks = ("dci_trained", "dci_trained+refine")
    assert cells == {
        ("mean_latent", "any", "none"),
        ("random_latent", "any", "none"),
        ("dci_trained", "block2", "none"),
        *((attack, "image", corruption) for attack in attacks for corruption in corruptions),
    }
    assert len(rows) == 6 * len(cells)
    assert all(r["label_agreement"] is None and -1 <= r["latent_cosine"] <= 1 for r in rows)
    baselines = [r for r in rows if r["attack"] == "mean_latent"]
    assert all(r["latent_error"] == 1 for r in baselines)
    with (inverted / "summary.csv").open() as stream:
        summary = list(csv.DictReader(stream))
    assert summary[0].keys() >= {"latent_cosine", "latent_cosine_low", "psnr_sent"}
    with np.load(inverted / "evaluation" / "dci_trained" / "image none.npz") as saved:
        assert saved["latent"].shape == (6, 128)
    assert (inverted / "evaluation" / "dci_trained" / "given images.npz").exists()


@pytest.mark.slow
def test_the_report_is_one_page_with_every_part(inverted):
    text = (inverted / "report" / "index.html").read_text()
    for part in (
        "against depth",
        "Every block on the way",
        "singular vectors",
        "Repair",
        "defective",
        "did not make",
        "Every number",
    ):
        assert part in text, part
    assert not re.search(r'src="(?!data:)', text)
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower().split()
