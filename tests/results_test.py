import csv
import json

import numpy as np
import pytest

from dci_jax import results
from tests.report.cells import cell


def test_summary_means_intervals_and_the_defenders_worst(tmp_path):
    psnr = np.arange(101.0)
    result = {m: psnr / 100 if m in results.SHARES else psnr for m in results.METRICS}
    rows = results.lines(result, map(str, range(101)), **cell("stem", "dci_trained", "none", target="t", seed=0))
    results.write(rows, {"stem": {"bytes_sent": 4, "device_flops": 8, "depth": 0.1}}, tmp_path)
    (line,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert float(line["psnr"]) == 50
    assert float(line["psnr_worst5"]) == 95
    half = 1.984 * psnr.std(ddof=1) / np.sqrt(101)
    assert [float(line[f"psnr_{end}"]) for end in ("low", "high")] == pytest.approx([50 - half, 50 + half], abs=1e-3)
    assert float(line["mse"]) == 50
    assert float(line["psnr_mean_mse"]) == pytest.approx(-10 * np.log10(50), abs=1e-3)
    assert (line["n"], line["bytes_sent"]) == ("101", "4")
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 101
    assert json.loads((tmp_path / "results.jsonl").read_text().splitlines()[3])["psnr"] == 3


def test_an_interval_of_a_share_is_wilsons_and_stays_within_0_and_1():
    ones, names = np.ones(20), [str(i) for i in range(20)]
    assert results.interval(ones, names, share=False) == (1, 1)
    assert results.interval(ones, names, share=True) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert results.wilson(1.0, 200) == pytest.approx((0.9812, 1.0), abs=1e-4)
    assert results.wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert np.isnan(results.interval(ones[:1], names[:1], share=True)).all()


def test_tiles_of_one_photograph_count_as_one():
    names = [f"{photograph} r{r}c{c}" for photograph in "abcd" for r in range(4) for c in range(4)]
    values = np.repeat([10.0, 20.0, 30.0, 40.0], 16)
    half = 3.182 * np.std([10, 20, 30, 40], ddof=1) / 2  # Student's t with 3 degrees of freedom
    assert results.interval(values, names, share=False) == pytest.approx((25 - half, 25 + half), rel=1e-3)
    shares = np.repeat([1.0, 1.0, 1.0, 0.0], 16)
    low, high = results.interval(shares, names, share=True)
    assert (low, high) == (0.0, 1.0)
