import csv
import json

import jax
import numpy as np
import pytest

from dci_jax import blocks, evaluate

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), np.uint8)


def read(network, tmp_path, reconstruct, split="layer1.0", defense=("none", 0.0), labels=None):
    file = tmp_path / "r.npz"
    return evaluate.evaluate(
        network, PIXELS, labels, reconstruct, split, defense, jax.random.key(0), file, batch=2
    )


def answer(network):
    """Logits of the first image, without the head's bias."""
    features = blocks.run(network, PIXELS[:1] / np.float32(255))
    return np.asarray(features.mean((1, 2)) @ network.head.params["params"]["linear"]["kernel"])[0]


def test_the_attack_sees_features_and_never_the_images(network, tmp_path):
    seen = []

    def attack(features):
        seen.append(features.shape)
        return jax.numpy.full((len(features), 32, 32, 3), 0.5)

    result = read(network, tmp_path, attack)
    assert seen == [(2, 32, 32, 16), (2, 32, 32, 16), (1, 32, 32, 16)]
    assert result["psnr"].shape == (5,)
    assert result["reconstruction"].shape == (5, 32, 32, 3)
    assert np.all(result["label_kept"] == 1)
    expected = ((0.5 - PIXELS / 255.0) ** 2).mean((1, 2, 3))
    np.testing.assert_allclose(result["mse"], expected, rtol=1e-3)


def test_a_defense_changes_what_is_sent_and_can_cost_the_label(network, tmp_path):
    seen = []

    def attack(features):
        seen.append(np.asarray(features))
        return jax.numpy.zeros((len(features), 32, 32, 3))

    # On no features at all, this head answers with the class that was least likely before.
    least = int(answer(network).argmin())
    bias = np.zeros(10, np.float32)
    bias[least] = 1e-3
    variables = network.head.params["params"]
    linear = {"kernel": 100 * variables["linear"]["kernel"], "bias": bias}
    head = network.head.replace(params={"params": {"linear": linear}})
    zeroed = network.replace(head=head)
    kept = []
    for strength in (0.0, 1.0):
        file = tmp_path / str(strength)
        file.mkdir()
        kept.append(
            read(zeroed, file, attack, "layer3.2", ("dropout", strength))["label_kept"].mean()
        )
    assert all((features == 0).all() for features in seen[3:])
    assert kept[0] == 1
    assert kept[1] < 1


def test_what_is_done_is_not_done_again(network, tmp_path):
    first = read(network, tmp_path, lambda f: jax.numpy.zeros((len(f), 32, 32, 3)))
    again = read(network, tmp_path, lambda f: pytest.fail("was asked again"))
    np.testing.assert_array_equal(first["mse"], again["mse"])


def test_top1_counts_true_labels_and_is_unknown_without_them(network, tmp_path):
    scores = blocks.logits(network, blocks.run(network, PIXELS / np.float32(255)))
    labels = np.array(scores.argmax(1))
    labels[1:3] += 1
    (tmp_path / "with").mkdir()
    result = read(
        network, tmp_path / "with", lambda f: jax.numpy.zeros((len(f), 32, 32, 3)), labels=labels
    )
    np.testing.assert_array_equal(result["top1_original"], [1, 0, 0, 1, 1])
    black = int(
        blocks.logits(network, blocks.run(network, np.zeros((1, 32, 32, 3), "f4"))).argmax()
    )
    np.testing.assert_array_equal(result["top1"], labels == black)
    unknown = read(network, tmp_path, lambda f: jax.numpy.zeros((len(f), 32, 32, 3)))
    assert np.isnan(unknown["top1"]).all()


def test_what_is_not_known_is_null_and_empty(network, tmp_path):
    headless = network.replace(head=None)
    result = read(headless, tmp_path, lambda f: jax.numpy.zeros((len(f), 32, 32, 3)))
    cell = dict(target="t", split="layer1.0", attack="dci_trained", defense="none", seed=0)
    rows = evaluate.lines(result, map(str, range(5)), **cell)
    assert rows[0]["label_agreement"] is None
    assert rows[0]["psnr"] > 0
    evaluate.write(rows, {}, tmp_path)
    (line,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert line["label_agreement"] == line["top1_ci95"] == ""
    assert "NaN" not in (tmp_path / "results.jsonl").read_text()


def test_summary_means_intervals_and_the_defenders_worst(tmp_path):
    psnr = np.arange(101.0)
    result = {m: psnr / 100 if m in evaluate.SHARES else psnr for m in evaluate.METRICS}
    cell = dict(target="t", split="stem", attack="dci_trained", defense="none", seed=0)
    rows = evaluate.lines(result, map(str, range(101)), **cell)
    evaluate.write(rows, {"stem": {"bytes_sent": 4, "device_flops": 8, "depth": 0.1}}, tmp_path)
    (line,) = csv.DictReader((tmp_path / "summary.csv").open())
    assert float(line["psnr"]) == 50
    assert float(line["psnr_worst5"]) == 95
    assert float(line["psnr_ci95"]) == pytest.approx(
        1.984 * psnr.std(ddof=1) / np.sqrt(101), abs=1e-3
    )
    assert (line["n"], line["bytes_sent"]) == ("101", "4")
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 101
    assert json.loads((tmp_path / "results.jsonl").read_text().splitlines()[3])["psnr"] == 3


def test_an_interval_is_not_0_where_all_agree_and_unknown_for_one_image():
    ones = np.ones(20)
    names = [str(i) for i in range(20)]
    assert evaluate.half_interval(ones, names, share=False) == 0
    # Wilson's for 20 of 20 is [.839, 1].
    assert evaluate.half_interval(ones, names, share=True) == pytest.approx(0.161 / 2, abs=1e-3)
    assert np.isnan(evaluate.half_interval(ones[:1], names[:1], share=True))


def test_tiles_of_one_photograph_count_as_one():
    names = [f"{photograph} r{r}c{c}" for photograph in "abcd" for r in range(4) for c in range(4)]
    values = np.repeat([10.0, 20.0, 30.0, 40.0], 16)
    wanted = 3.182 * np.std([10, 20, 30, 40], ddof=1) / 2  # Student's t with 3 degrees of freedom
    assert evaluate.half_interval(values, names, share=False) == pytest.approx(wanted, rel=1e-3)


def test_costs_count_bytes_and_grow_with_depth(network):
    costs = evaluate.costs(network, ["stem", "layer1.0", "layer3.2"])
    assert costs["stem"]["bytes_sent"] == 32 * 32 * 16 * 4
    assert costs["layer3.2"]["bytes_sent"] == 8 * 8 * 64 * 4
    assert costs["stem"]["device_flops"] > 2 * 32 * 32 * 3 * 9 * 16 * 0.8
    flops = [c["device_flops"] for c in costs.values()]
    assert flops == sorted(flops)
    assert [c["depth"] for c in costs.values()] == [0.1, 0.2, 1.0]
