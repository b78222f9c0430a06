import json
import re

import numpy as np
import pytest

from dci_jax import results
from dci_jax.report import __main__ as command
from dci_jax.report import images as report
from tests.report.cells import cell

NAMES = tuple(f"cat r{r}c{c}" for r in range(2) for c in range(2))


COSTS = {"bytes_sent": 4096, "device_flops": 8, "depth": 0.1, "device_parameters": 3, "batch_norms": 1}


@pytest.fixture
def workdir(tmp_path):
    """The files of a finished run of two cells and the baselines."""
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8)
    (tmp_path / "evaluation" / "dci").mkdir(parents=True)
    (tmp_path / "synthesis").mkdir()
    np.save(tmp_path / "synthesis" / "batch_00000.npy", pixels)
    np.savez(
        tmp_path / "evaluation" / "originals.npz",
        pixels=pixels,
        names=NAMES,
        skipped=["<b>.png: bad"],
    )
    rows = []
    of_images = [name for name in results.METRICS if name[:6] != "latent"]
    result = {name: np.linspace(0.1, 1, 4) for name in of_images}
    for split, attack, defense in (
        ("stem", "dci", "none"),
        ("stem", "dci", "dropout 0.5"),
        ("any", "mean_image", "none"),
    ):
        rows += results.lines(result, NAMES, **cell(split, attack, defense, target="net", seed=0))
        np.savez(
            tmp_path / "evaluation" / attack / f"{split} {defense}.npz", reconstruction=pixels
        ) if split != "any" else None
    results.write(rows, {"stem": COSTS}, tmp_path)
    (tmp_path / "config.json").write_text('{"seed": 0, "data": {"images": ""}}')
    (tmp_path / "environment.json").write_text(json.dumps({"command": "python <x>"}))
    return tmp_path


def test_names_of_split_points_are_escaped(workdir):
    for file in ("summary.csv", "evaluation/dci/stem none.npz", "evaluation/dci/stem dropout 0.5.npz"):
        path = workdir / file
        if path.suffix == ".npz":
            path.rename(path.with_name(path.name.replace("stem", "<b>stem")))
        else:
            path.write_text(path.read_text().replace("stem", "<b>stem"))
    page = report.write(workdir).read_text()
    assert "<b>stem" not in page
    assert "&lt;b&gt;stem" in page


def test_a_network_without_batch_norm_is_said_to_have_none(workdir):
    sentence = "has no BatchNorm layer"
    assert sentence not in report.write(workdir).read_text()
    table = (workdir / "summary.csv").read_text()
    (workdir / "summary.csv").write_text(re.sub(r",1$", ",0", table, flags=re.M))
    assert sentence in report.write(workdir).read_text()


def test_the_page_is_self_contained_and_says_everything(workdir):
    page = report.write(workdir).read_text()
    assert len(re.findall(r'<img [^>]*src="data:image/(?:png|svg\+xml);base64,', page)) == page.count("<img") >= 5
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert 'name="viewport"' in page
    for words in (
        "DCI, one forward pass",
        "defense dropout 0.5",
        "lower bound",
        "4 KiB sent",
        "python &lt;x&gt;",
    ):
        assert words in page
    assert "&lt;b&gt;.png: bad" in page
    assert "<b>.png" not in page


def test_tiles_of_a_photograph_are_put_together_again():
    pixels = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    picture = report.assemble(pixels, NAMES)
    np.testing.assert_array_equal(picture[..., 0], np.kron([[0, 1], [2, 3]], np.ones((2, 2))))
    grid = report.assemble(pixels, ("a", "b", "c", "d"))
    assert grid.shape == (2, 4 * 2 + 3 * 2, 3)


def test_a_damaged_workdir_is_one_sentence_and_code_2(workdir, capsys):
    (workdir / "evaluation" / "originals.npz").write_bytes(b"PK half of it")
    assert command.main([str(workdir)]) == 2
    assert "damaged or missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", lambda text: "{", "config.json is damaged"),
        ("config.json", lambda text: "[]", "it holds a list"),
        ("config.json", lambda text: "{}", "it has no section 'data'"),
        ("summary.csv", lambda text: text.splitlines()[0], "it has no row"),
        ("summary.csv", lambda text: "a,b\n1,2\n", "it has no column 'target'"),
        ("summary.csv", lambda text: text + text.splitlines()[-1] + "\n", "is a duplicate"),
        ("summary.csv", lambda text: text + "x,y\n", "a different number of columns"),
        ("summary.csv", lambda text: text.replace(text.splitlines()[1].split(",")[9], "nan", 1), "'nan'"),
    ],
)
def test_what_is_wrong_in_a_workdir_is_named(workdir, capsys, file, change, said):
    text = (workdir / file).read_text()
    (workdir / file).write_text(change(text))
    assert command.main([str(workdir)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert str(workdir / file) in error


def test_a_place_that_cannot_be_written_accuses_no_run(workdir, capsys, tmp_path):
    below = tmp_path / "file"
    below.write_text("x")
    for out in (below / "report", below, "", "."):
        assert command.main([str(workdir), str(workdir), f"--out={out}"]) == 2
        error = capsys.readouterr().err
        assert "--out" in error
        assert "damaged" not in error
    assert command.main([str(workdir), f"--out={tmp_path / 'one'}"]) == 2
    assert "stays in its workdir" in capsys.readouterr().err


def test_a_generators_run_gets_a_generators_page_again(workdir, monkeypatch):
    text = (workdir / "summary.csv").read_text()
    head, *lines = text.splitlines()
    at = head.split(",").index("latent_cosine")
    rows = [line.split(",") for line in lines]
    for row in rows:
        row[at] = "0.5"
    (workdir / "summary.csv").write_text("\n".join([head, *map(",".join, rows)]))
    monkeypatch.setattr(command.latents, "write", lambda folder: folder / "latents.html")
    assert command.again(workdir) == workdir / "latents.html"
