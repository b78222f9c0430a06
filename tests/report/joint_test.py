"""Several finished runs on one page."""

import csv
import json
import shutil

import pytest

from dci_jax.report import __main__ as command
from dci_jax.report import joint


@pytest.fixture
def runs(finished, tmp_path):
    """Three copies of a finished run: another seed, and another width with a defense."""
    folders = []
    for name, seed, width in (("a", 0, 1.5), ("b", 1, 1.5), ("c", 0, 3.0)):
        folder = tmp_path / "runs" / name
        shutil.copytree(finished, folder)
        config = json.loads((folder / "config.json").read_text())
        config["seed"], config["dci_trained"]["width"] = seed, width
        (folder / "config.json").write_text(json.dumps(config))
        rows = list(csv.DictReader((folder / "summary.csv").open()))
        for row in rows:
            row["psnr"] = str(float(row["psnr"]) + 2 * seed)
        if name == "c":
            rows += [
                row | {"defense": "gaussian 0.5", "psnr": "5.25"} for row in rows if row["attack"] == "dci_trained"
            ]
        with (folder / "summary.csv").open("w") as stream:
            writer = csv.DictWriter(stream, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        folders.append(folder)
    return folders


@pytest.mark.slow
def test_runs_are_called_by_what_is_special_in_them(runs):
    assert joint.names(runs) == [
        "dci_trained.width=1.5",
        "dci_trained.width=1.5",
        "dci_trained.width=3.0",
    ]


@pytest.mark.slow
def test_the_page_averages_seeds_and_shows_defenses(runs, capsys, finished):
    assert command.main([str(run) for run in runs]) == 0
    page = runs[0].parent / "report" / "index.html"
    assert capsys.readouterr().out.strip() == str(page)
    rows = list(csv.DictReader((page.parent / "joint.csv").open()))
    cell = {"attack": "dci_trained", "split": "stem", "defense": "none"}
    (two,) = [r for r in rows if r["run"].endswith("1.5") and cell.items() <= r.items()]
    (single,) = [r for r in rows if r["run"].endswith("3.0") and cell.items() <= r.items()]
    assert two["runs"] == "2"
    assert float(two["psnr"]) == pytest.approx(float(single["psnr"]) + 1, abs=1e-3)
    assert float(two["psnr_sd"]) == pytest.approx(2**0.5, abs=1e-3)
    assert single["psnr_sd"] == ""
    text = page.read_text()
    assert "Attack x defense" in text
    assert "5.2 (" in text
    assert 'href="../b/report/index.html"' in text
    assert text.count("data:image/svg+xml") == 3


@pytest.mark.slow
def test_runs_that_are_not_finished_are_left_out_and_said_so(runs, tmp_path, capsys):
    (runs[1] / "summary.csv").unlink()
    out = tmp_path / "out"
    assert command.main([*map(str, runs), f"--out={out}"]) == 0
    assert f"{runs[1]} holds no finished run" in capsys.readouterr().err
    assert (out / "index.html").exists()
    assert command.main([str(tmp_path / "absent")]) == 2
