import csv
import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

from configs import default
from dci_jax import results
from dci_jax.errors import InputError
from dci_jax.report import __main__ as command
from dci_jax.report import attackers, audit, gate, images, leakage_map, pdf, verdict
from dci_jax.report.attackers import Attackers
from dci_jax.report.leaks import Policy
from tests.command_line import ROOT
from tests.report.cells import cell

POLICY = Policy(ssim=0.5, psnr=20.0, structure=0.7, leaking=0.0, server_agreement=0.95)
COSTS = {"bytes_sent": 4096, "device_flops": 8, "depth": 0.1, "device_parameters": 3, "batch_norms": 1}
NAMES = tuple(f"photograph {i}" for i in range(24))

# (split, defense, attack) -> (PSNR, SSIM, share of images re-identified by structure, label kept)
CELLS = {
    ("stem", "none", "dci"): (40.0, 0.99, 1.0, 1.0),
    ("stem", "gaussian 1", "dci"): (15.0, 0.2, 0.0, 0.9),
    ("stem", "gaussian 1", "adapted_dci"): (24.0, 0.7, 1.0, 0.9),
    ("stem", "gaussian 1 x10", "dci"): (19.0, 0.3, 0.0, 0.9),
    ("stem", "gaussian 1 x10", "adapted_dci"): (28.0, 0.8, 1.0, 0.9),
    ("deep", "none", "dci"): (18.0, 0.3, 0.25, 1.0),
    ("deep", "gaussian 1", "dci"): (14.0, 0.1, 0.0, 0.5),
    ("deep", "gaussian 1", "adapted_dci"): (13.0, 0.1, 0.0, 0.5),
}


@pytest.fixture
def workdir(tmp_path):
    """The files of a finished audit."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (len(NAMES), 32, 32, 3), np.uint8)
    (tmp_path / "evaluation").mkdir()
    np.savez(tmp_path / "evaluation" / "originals.npz", pixels=pixels, names=NAMES, skipped=[])
    np.savez(tmp_path / "evaluation" / "mean_image.npz", reconstruction=pixels)
    rows = []
    for (split, defense, attack), (psnr, ssim, rank1, kept) in CELLS.items():
        spread = np.linspace(-0.05, 0.05, len(NAMES))
        scores = {name: np.full(len(NAMES), 0.5) for name in results.METRICS if "latent" not in name}
        scores |= {"psnr": psnr + spread, "ssim": ssim + spread, "bytes_coded": np.full(len(NAMES), 100.0 * psnr)}
        scores |= {"psnr_affine": psnr + spread, "ssim_affine": ssim + spread, "structure_part": np.zeros(len(NAMES))}
        shares = (("rank1_structure", rank1), ("rank1", rank1), ("server_agreement", kept))
        scores |= {n: np.float64(np.arange(len(NAMES)) < s * len(NAMES)) for n, s in shares}
        rows += results.lines(scores, NAMES, **cell(split, attack, defense, target="<script>net", seed=0))
        (tmp_path / "evaluation" / attack).mkdir(exist_ok=True)
        np.savez(tmp_path / "evaluation" / attack / f"{split} {defense}.npz", reconstruction=pixels, **scores)
    floor = cell("any", "mean_image", "none", target="<script>net", seed=0)
    blind = {
        "psnr": 10.0,
        "ssim": 0.1,
        "psnr_affine": 10.0,
        "ssim_affine": 0.1,
        "structure": 0.1,
        "structure_part": 0.2,
    }
    blind |= {"rank1": 0.0, "rank1_structure": 0.0}
    rows += results.lines({name: np.full(len(NAMES), value) for name, value in blind.items()}, NAMES, **floor)
    results.write(rows, {"stem": COSTS, "deep": COSTS | {"device_flops": 80}}, tmp_path)
    config = default.get_config()
    config.audit.page, config.attacks = True, ("dci", "adapted_dci")
    (tmp_path / "config.json").write_text(config.to_json_best_effort())
    (tmp_path / "environment.json").write_text(json.dumps({"command": "python <x>"}))
    return tmp_path


@pytest.fixture
def found(workdir):
    return judge(workdir)


def judge(workdir, policy=POLICY, known=None):
    costs = {"stem": COSTS, "deep": COSTS | {"device_flops": 80}}
    return verdict.cells([workdir], policy, costs, known or Attackers())


def test_the_worst_attacker_decides_and_several_queries_are_an_attacker(found):
    at = {(c.split, c.defense): c for c in found}
    assert set(at) == {("stem", "none"), ("stem", "gaussian 1"), ("deep", "none"), ("deep", "gaussian 1")}
    assert at["stem", "gaussian 1"].worst == "adapted_dci x10"
    assert at["stem", "gaussian 1"].leak("psnr") == pytest.approx(28, abs=0.01)
    assert at["stem", "gaussian 1"].leaking["dci"] == 0
    # A quarter of 24 images are re-identified by structure, which chance does not explain.
    assert [c.level for c in found] == ["most", "most", "some", "none"]
    assert at["deep", "none"].share[0] == pytest.approx(6 / 24)
    assert at["deep", "none"].share[1:] == pytest.approx(results.wilson(6 / 24, 24))


def test_a_label_that_is_told_is_said_where_no_picture_is(found, workdir):
    assert [c.label_told for c in found] == [1.0, 22 / 24, 1.0, 0.5]
    told = leakage_map.verdict(found, None, POLICY)["told"]
    assert (told.split, told.defense) == ("deep", "none")
    page = audit.write(workdir).read_text()
    assert "Pixels are not the only leak" in page
    change(workdir, "deep", server_agreement=0.2, label_agreement=0.1)
    assert leakage_map.verdict(judge(workdir), None, POLICY)["told"] is None


def test_psnr_alone_makes_a_leak(workdir):
    change(workdir, "deep", ssim_affine=0.1, psnr_affine=25.0, rank1_structure=0.0, structure=0.1)
    assert [c.level for c in judge(workdir)] == ["most"] * 4


def test_what_nearly_leaks_is_in_doubt(workdir):
    change(workdir, "deep", psnr_affine=19.0, rank1_structure=0.0)
    assert [c.level for c in judge(workdir)] == ["most", "most", "in doubt", "in doubt"]


def change(workdir, split, **values):
    """Other scores in all rows of a split."""
    rows = [json.loads(line) for line in (workdir / "results.jsonl").open()]
    with (workdir / "results.jsonl").open("w") as stream:
        stream.writelines(json.dumps(row | (values if row["split"] == split else {})) + "\n" for row in rows)


def test_a_weak_attackers_failure_is_not_judged_and_its_success_counts(workdir):
    config = json.loads((workdir / "config.json").read_text())
    config["dci"] |= {
        "max_unknowns": [1, 1],
        "num_images": 16,
        "num_validation": 8,
        "num_corrections": 0,
        "kernel_size": 1,
    }
    found = judge(workdir, known=attackers.read(workdir, config))
    assert [c.level for c in found] == ["most", "most", "some", "not judged"]
    assert "dci.num_images is 16; give at least 96" in found[3].reasons
    assert "dci.max_unknowns is (1, 1); give at least (3000, 1500)" in found[3].reasons
    assert verdict.choice(found, Policy(0.5, 20.0, 0.7, 0.0, 0.4)) is None


def test_an_attacker_that_reconstructs_nothing_anywhere_has_to_pass_the_control(workdir):
    for split in ("stem", "deep"):
        change(workdir, split, psnr_affine=5.0, ssim_affine=0.0, structure=0.0, rank1_structure=0.0)
    for share, level in ((0.9, "none"), (0.1, "not judged")):
        control = {"attacks": {"dci": share}, "splits": {"stem": [], "deep": []}}
        (workdir / "evaluation" / attackers.CONTROL).write_text(json.dumps(control))
        config = json.loads((workdir / "config.json").read_text())
        assert {c.level for c in judge(workdir, known=attackers.read(workdir, config))} == {level}


def test_features_that_the_attacker_cannot_put_back_in_order_are_not_judged(workdir):
    config = json.loads((workdir / "config.json").read_text())
    folder = workdir / "attacks" / "adapted_dci" / "deep gaussian 1 x10"
    folder.mkdir(parents=True)
    for share, level in ((0.9, "none"), (0.1, "not judged")):
        (folder / attackers.RESTORED).write_text(json.dumps({"share": share}))
        assert judge(workdir, known=attackers.read(workdir, config))[3].level == level


def test_a_defended_cell_wants_an_attacker_who_knows_the_defense(workdir):
    rows = [json.loads(line) for line in (workdir / "results.jsonl").open()]
    with (workdir / "results.jsonl").open("w") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows if not row["attack"].startswith("adapted_"))
    found = judge(workdir)
    assert [c.level for c in found] == ["most", "not judged", "some", "not judged"]
    assert "adapted_dci" in found[3].reasons[0]


def test_faulty_features_are_said_and_not_judged(workdir):
    found = judge(workdir, known=Attackers(faults={"deep": ["its features are the same for every image"]}))
    assert [c.level for c in found] == ["most", "most", "some", "not judged"]


def test_a_cell_that_leaks_or_costs_too_many_predictions_is_no_choice(found, workdir):
    assert verdict.choice(found, POLICY) is None
    assert verdict.least(found, POLICY).split == "deep"
    generous = Policy(ssim=0.5, psnr=20.0, structure=0.7, leaking=0.0, server_agreement=0.4)
    chosen = verdict.choice(judge(workdir, generous), generous)
    assert (chosen.split, chosen.defense) == ("deep", "gaussian 1")
    third = Policy(ssim=0.5, psnr=20.0, structure=0.7, leaking=0.4, server_agreement=0.95)
    assert verdict.choice(judge(workdir, third), third) is None  # others are in doubt, which counts as a leak
    change(workdir, "deep", ssim_affine=0.1, psnr_affine=11.0, structure=0.1)
    chosen = verdict.choice(judge(workdir, third), third)
    assert (chosen.split, chosen.defense) == ("deep", "none")


def test_an_adapted_attacker_that_is_weaker_beyond_its_interval_is_a_fault(found):
    assert [(c.split, c.defense) for c in verdict.weaker(found)] == [("deep", "gaussian 1")]
    pairs = verdict.adapting(found)
    assert [(c.split, round(after - before)) for c, before, after, _ in pairs] == [("stem", 9), ("deep", -1)]


def test_the_front_holds_what_nothing_beats(found):
    front = verdict.front(found, lambda c: c.bytes_coded)
    assert {(c.split, c.defense) for c in front} == {("deep", "gaussian 1")}


def test_the_page_says_everything_and_escapes_names(workdir):
    text = command.again(workdir).read_text()
    assert "<script>net" not in text
    assert "No pair that keeps 95%" in text
    assert "weakness of the attack" in text
    assert "photograph 23" in text  # the image that leaks most, by its name
    assert "baseline: mean of the other images" in text
    assert text.count("<h3>after") == 2
    data = json.loads((workdir / "report" / "audit.json").read_text())
    jsonschema.validate(data, json.loads((ROOT / "dci_jax" / "report" / "audit.schema.json").read_text()))
    assert data["choice"] is None
    assert len(data["cells"]) == 4
    with (workdir / "report" / "audit.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(CELLS)
    assert float(rows[0]["psnr_low"]) <= float(rows[0]["psnr"]) <= float(rows[0]["psnr_high"])


def test_a_gate_ends_with_three_where_the_policy_is_not_met(workdir, tmp_path, capsys):
    assert command.main([str(workdir), "--gate"]) == 3
    said = capsys.readouterr().err
    assert "3 of 4 pairs of split point and defense do not meet the policy; the worst is stem with none: 100%" in said
    suite = ElementTree.parse(workdir / "report" / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), len(suite.findall("testcase/failure"))) == ("4", "3", 3)
    met = json.loads((workdir / "report" / "audit.json").read_text())
    met["cells"] = [cell for cell in met["cells"] if cell["meets_policy"]]
    (tmp_path / "audit.json").write_text(json.dumps(met))
    assert gate.gate(tmp_path) == ""
    with pytest.raises(InputError, match=r"has no audit\.json, so it is not an audit"):
        gate.gate(tmp_path / "nowhere")


def test_the_gate_counts_as_the_policy_does_and_doubt_as_a_leak(workdir, capsys):
    config = json.loads((workdir / "config.json").read_text())
    config["audit"]["leaking"] = 0.3  # a quarter of the images leaks at "deep", "none"
    (workdir / "config.json").write_text(json.dumps(config))
    for psnr, missed in ((11.0, 2), (18.0, 4)):  # 18 dB is near the policy's 20
        change(workdir, "deep", ssim_affine=0.1, psnr_affine=psnr, structure=0.1)
        assert command.main([str(workdir), "--gate"]) == 3
        assert f"{missed} of 4 pairs" in capsys.readouterr().err


def test_two_seeds_are_one_audit_whose_images_count_once(workdir, tmp_path_factory, capsys):
    other, out = tmp_path_factory.mktemp("runs") / "seed1", tmp_path_factory.mktemp("page")
    shutil.copytree(workdir, other)
    rows = [json.loads(line) for line in (workdir / "results.jsonl").open()]
    with (other / "results.jsonl").open("w") as stream:
        stream.writelines(json.dumps(row | {"seed": 1, "psnr": row["psnr"] + 2}) + "\n" for row in rows)
    config = json.loads((workdir / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"seed": 1}))
    command.again(workdir)
    (alone,) = (c for c in json.loads((workdir / "report" / "audit.json").read_text())["cells"][:1])
    assert command.main([str(workdir), str(other), f"--out={out}"]) == 0
    both = json.loads((out / "audit.json").read_text())
    (first,) = both["cells"][:1]
    assert both["seeds"] == [0, 1]
    assert first["between"]["dci"] == pytest.approx(2**0.5, abs=1e-6)
    old, new = (c["attacks"]["dci"]["psnr"] for c in (alone, first))
    assert [n - o for n, o in zip(new[:3], old[:3], strict=True)] == pytest.approx([1, 1, 1], abs=1e-3)
    assert "2 seeds" in (out / "index.html").read_text()
    assert "seeds_psnr_sd" not in (workdir / "report" / "index.html").read_text()
    (other / "config.json").write_text(json.dumps(config | {"seed": 1, "batch": 7}))
    assert command.main([str(workdir), str(other), f"--out={out / 'joint'}"]) == 0
    assert (out / "joint" / "joint.csv").exists()


def test_no_name_runs_a_script_in_a_browser(workdir, browser):
    evil = "<script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">'"
    swaps = (('"<script>net"', json.dumps(evil)), ('"photograph 3"', json.dumps(evil)))
    for name in ("results.jsonl", "summary.csv", "config.json", "environment.json"):
        text = (workdir / name).read_text()
        for old, new in swaps if name == "results.jsonl" else ():
            assert old in text
            text = text.replace(old, new)
        (workdir / name).write_text(
            text.replace("<script>net", evil.replace('"', '""')) if name == "summary.csv" else text
        )
    np.savez(workdir / "evaluation" / "originals.npz", **_originals(workdir, evil))
    for write in (audit.write, images.write):
        browser.get(write(workdir).as_uri())
        assert browser.title not in ("run", "")
        assert evil[:8] in browser.find_element("tag name", "body").text
        assert browser.execute_script("return document.querySelectorAll('img:not([src^=data])').length") == 0


def _originals(workdir, name):
    with np.load(workdir / "evaluation" / "originals.npz") as saved:
        return dict(saved) | {"names": [name, *saved["names"][1:]], "skipped": [name]}


@pytest.mark.skipif(not any(map(shutil.which, pdf.BROWSERS)), reason="needs Chromium or Chrome on the PATH")
def test_the_page_is_printed_and_signed(workdir, capsys):
    assert command.main([str(workdir), "--pdf"]) == 0
    made = Path(capsys.readouterr().out.splitlines()[-1])
    assert made == workdir / "report" / "report.pdf"
    printed = made.read_bytes()
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") > 1 or printed.count(b"/Type/Page") > 1
    assert "report.pdf" in (workdir / "report" / "SHA256SUMS").read_text()
    assert command.main([str(workdir)]) == 0
    assert not made.exists()  # it would be of an earlier page


def test_without_a_browser_a_pdf_is_refused_in_one_sentence(workdir, capsys, monkeypatch):
    monkeypatch.setattr(pdf, "BROWSERS", ("no-such-browser",))
    assert command.main([str(workdir), "--pdf"]) == 2
    assert "print report/index.html from any browser." in capsys.readouterr().err


def test_the_page_works_in_a_browser(workdir, browser):
    page = audit.write(workdir)
    for wide in (1920, 768, 360):
        metrics = {"width": wide, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= wide
    assert "Of 4 pairs" in browser.find_element("id", "verdict").text
    column = "return [...document.querySelectorAll('#numbers tbody tr')].map(r => r.cells[5].textContent)"
    browser.find_elements("css selector", "#numbers th button")[5].click()
    assert browser.execute_script(column) == sorted(browser.execute_script(column), key=float)
    browser.find_elements("css selector", "#numbers th button")[5].click()
    assert float(browser.execute_script(column)[0]) == pytest.approx(40)
    browser.find_element("id", "filter").send_keys("deep adapted")
    shown = browser.execute_script("return document.querySelectorAll('#numbers tbody tr:not([hidden])').length")
    assert shown == 1
    assert len(set(browser.get_screenshot_as_png())) > 100
    assert browser.get_log("browser") == []


AXE = """const done = arguments[0];
axe.run(document).then(found => done(found.violations.map(v => `${v.id}: ${v.nodes[0].html}`)))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_is_accessible(workdir, browser, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="pip install --no-deps axe-playwright-python")
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for write in (audit.write, images.write):
        browser.get(write(workdir).as_uri())
        browser.execute_script((Path(axe.__file__).parent / "axe.min.js").read_text())
        assert browser.execute_async_script(AXE) == []
