"""The true command line, in processes of its own: bad input, a whole run, kills."""

import json

import numpy as np
import pytest
from PIL import Image

from dci_jax import main, results
from tests.command_line import FITTED, SOLVED, call, lines

REFUSED = [
    (["--config.dci_trained.widht=3"], 'Did you mean "width"'),
    (["--config.dci_trained.width=wide"], "wide"),
    (["--config.audit.rank1=.5"], "audit.rank1 is now audit.structure; give that instead (docs/fields.md explains"),
    (["--noconfig.audit.rank1"], "audit.rank1 is now audit.structure; "),
    (["--config.nosuch=3"], "no field and no variant nosuch (docs/fields.md explains every field)"),
    (["--config.splits=('layer9',)"], "no split point 'layer9'; choose from: stem, layer1.0"),
    (["--config.attacks=('magic',)"], "'magic'; choose from: dci, dci_shared"),
    (
        ["--config.attacks=('dci_trained+refine', 'dci_trained')"],
        "name 'dci_trained' before it",
    ),
    (["--config.oracle.attack=magic"], "oracle.attack is 'magic'"),
    (["--config.rmle.steps=0"], "rmle.steps is 0"),
    (["--config.data.count=-1"], "data.count is -1"),
    (["--config.defenses=(('lock', 1.0),)"], "'lock'; choose from: none"),
    (["--config.dci_trained.distance=l3"], "dci_trained.distance is 'l3'; give l1, l2 or cosine"),
    (["--config.synthesis.start=photos"], "synthesis.start is 'photos'; give dead_leaves, pink_noise or white_noise"),
    (["--config.dci_trained.batch=1"], "2 split points down to layer1.0"),
    (["--config.inputs.synthetic=-1.0"], "synthetic is -1"),
    (["--config.target.weights=absent.pth"], "No checkpoint at absent.pth"),
    (["--config.target.name=resnet7"], "'resnet7'; choose from"),
    (["--config.data.images=absent"], "No images at absent"),
    (["--config.target.sha256=00000000"], "00000000"),
    (["--config.target.deploy"], "no deploy form"),
    (["--config.target.name=nowhere:network"], "Could not import 'nowhere:network'"),
    (["--config.target.name=docs.own_network:Stage"], "returned a Stage"),
    (["--config.synthesis.stages=((31, 2),)"], "(31, 2); give sides that divide"),
    (["--config.prior_fitting.steps=9", "--config.prior_fitting.padding=()"], "padding is (); give a border"),
    (["--config.prior_fitting.padding=(0, 40)"], "padding has 40, but the images have 32 pixels"),
    (["--config.prior_fitting.padding=(0, -4)"], "prior_fitting.padding is (0, -4)"),
    (["--config.prior_fitting.steps=1.5"], "prior_fitting.steps"),
    (["--config.prior_fitting.learning_rate=nan"], "prior_fitting.learning_rate is nan"),
    (["--config.dci_trained.precision=float16"], "dci_trained.precision is 'float16'"),
    (["--config.inputs.side=64"], "inputs.side is 64"),
    (
        ["--config.target.name=tests.conftest:narrow_generator", "--config.splits=()"],
        "data.count is 0",
    ),
    (
        ["--config.attacks=('gauss_newton',)", "--config.gauss_newton.damping=0.0"],
        "damping is 0.0",
    ),
    (["--config.attacks=('dci',)", "--config.dci.num_images=0"], "images is 0"),
    (
        ["--config.attacks=('dci',)", "--config.dci.splits=('x',)"],
        "no split point 'x'",
    ),
    (["--config.attacks=('dci_trained', 'dci+refine')"], "name 'dci' before it"),
    (
        [
            "--config.attacks=('dci', 'dci+refine')",
            "--config.dci.splits=('stem',)",
        ],
        "layer1.0, but dci does not",
    ),
    (["--processes=2"], "HOST:PORT"),
    (["--coordinator=localhost:abc", "--processes=2", "--process=0"], "HOST:PORT"),
    (["dry_run"], "Unexpected argument 'dry_run'; did you mean --dry_run?"),
    (["--coordinator=localhost:1", "--processes=2", "--process=2"], "--process=2"),
    (["--config=configs/absent.py"], "No such file"),
    (["--config=configs/resnet50.py:midle"], "no variant midle; its variants are whole, shallow, middle"),
    (["--config=configs/resnet50.py:"], "no variant ''; its variants are whole"),
    (["--config=configs/tiny.py:x"], "it has no variants; leave out the colon"),
    (["--config={place}/broken.py"], "ValueError: two lines of its own"),
]


QUICK = range(0, len(REFUSED), 4)  # the others with --slow


@pytest.fixture(scope="module")
def refusals(place, pytestconfig):
    """Case -> (exit code, stderr)."""
    cases = range(len(REFUSED)) if pytestconfig.getoption("--slow") else QUICK
    (place / "broken.py").write_text("raise ValueError('two lines\\nof its own')")
    mores = {case: [text.replace("{place}", str(place)) for text in REFUSED[case][0]] for case in cases}
    called = {case: call(place, place / "never", *more) for case, more in mores.items()}
    return {case: (done.returncode, done.stderr) for case, done in called.items()}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case in QUICK else pytest.mark.slow, id=named)
        for case, (_, named) in enumerate(REFUSED)
    ],
)
def test_bad_input_is_one_sentence_and_code_2_before_any_work(place, refusals, case):
    code, said = refusals[case]
    assert code == 2, said
    assert REFUSED[case][1] in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not (place / "never").exists()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_flags(capsys, flag):
    assert main.main(["main", flag]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}: " in shown for name in ("config", "workdir", "dry_run"))


@pytest.mark.slow
def test_a_run_leaves_everything(finished):
    rows = lines(finished)
    cells = {(row["attack"], row["split"]) for row in rows}
    attacks = ("dci_trained", "dci_trained+refine", "inverse_network", "rmle")
    assert cells == {
        *((attack, split) for attack in attacks for split in ("stem", "layer1.0")),
        ("mean_image", "any"),
        ("random_image", "any"),
        ("thumbnail", "any"),
    }
    assert {row["image"] for row in rows} == {"a.png", "b.png", "c.png"}
    assert len(rows) == 3 * len(cells)
    assert set(rows[0]) == {
        "target",
        *results.CELL,
        "image",
        "mse",
        "psnr",
        "ssim",
        "label_agreement",
        "server_agreement",
        "top1",
        "top1_original",
        "latent_cosine",
        "latent_error",
        "psnr_sent",
        "ms_ssim",
        "lpips",
        "rank1",
        "rank5",
        "rank1_structure",
        "psnr_affine",
        "ssim_affine",
        "structure",
        "structure_part",
        "bytes_coded",
        "top1_sent",
        "feature_error",
        "seed",
    }
    for row in rows:
        assert row["psnr"] == pytest.approx(-10 * np.log10(row["mse"]), abs=0.01)
    page = (finished / "report" / "index.html").read_text()
    assert "broken.png" in page
    for name in ("config.json", "environment.json", "log.txt", "timing.json", "summary.csv"):
        assert (finished / name).stat().st_size > 0
    environment = json.loads((finished / "environment.json").read_text())
    assert environment["command"].startswith("python -m dci_jax.main --config=configs/tiny.py")


@pytest.mark.slow
def test_the_plan_states_parameters_flops_and_memory_and_does_nothing(place):
    done = call(place, place / "planned", "--dry_run")
    assert done.returncode == 0, done.stderr
    assert not (place / "planned").exists()
    rows = [line.split() for line in done.stdout.splitlines()]
    table = {" ".join(words[:-4]): words[-4:] for words in rows if len(words) > 5}
    steps, flops, memory, _ = table["dci_trained: conquer to layer1.0"]
    assert steps == "2"
    assert float(flops) > 0.5
    assert float(memory) > 0
    assert table["synthesis at 32 px"][0] == "4"  # 2 batches of 2
    assert any(words[:2] == ["stem", "32x32x16"] for words in rows)


@pytest.mark.slow
def test_a_network_of_ones_own_is_audited(place):
    workdir = place / "small_flax"
    more = [
        "--config.target.name=docs.own_network:small_flax",
        "--config.target.weights=",
        "--config.splits=('stage1',)",
        "--config.attacks=('dci',)",
        "--config.dci.num_images=16",
        "--config.dci.num_validation=8",
        "--config.dci.batch=8",
        "--config.dci.num_corrections=1",
        "--config.dci.kernel_size=3",
    ]
    done = call(place, workdir, *more)
    assert done.returncode == 0, done.stderr
    rows = lines(workdir)
    assert {row["target"] for row in rows} == {"small_flax"}
    assert {row["attack"] for row in rows} >= {"dci"}
    assert rows[0]["label_agreement"] is None
    assert (workdir / "report" / "index.html").exists()


@pytest.mark.slow
def test_one_image_a_deploy_form_a_verifier_and_an_oracle(place, tmp_path):
    pixels = np.random.default_rng(3).integers(0, 255, (24, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "real.npz", images=pixels)
    workdir = tmp_path / "run"
    done = call(
        place,
        workdir,
        *SOLVED,
        *FITTED,
        "--config.target.name=repvgg_cifar",
        "--config.target.weights=",
        "--config.target.deploy",
        "--config.verifier.name=cifar_resnet20",
        "--config.synthesis.batches=1",
        "--config.splits=('stem',)",
        f"--config.oracle.images={tmp_path / 'real.npz'}",
        "--config.data.count=1",
    )
    assert done.returncode == 0, done.stderr
    rows = {(row["attack"], row["split"]): row for row in lines(workdir)}
    assert rows.keys() == {
        *((attack, "stem") for attack in ("dci", "oracle")),
        ("mean_image", "any"),
        ("random_image", "any"),
        ("thumbnail", "any"),
    }
    assert rows["dci", "stem"]["psnr"] > rows["mean_image", "any"]["psnr"]
    assert rows["dci", "stem"]["psnr"] != rows["oracle", "stem"]["psnr"]
    judged = json.loads((workdir / "synthesis" / "verifier_accuracy.json").read_text())
    assert judged.keys() == {"repvgg_cifar", "cifar_resnet20"}
    assert (workdir / "prior" / "filter.npz").exists()  # by the training form, whose BatchNorm the device's lacks
    assert "oracle: learned from real images" in (workdir / "report" / "index.html").read_text()


DEFENDED = [
    "--config.splits=('layer1.0',)",
    "--config.attacks=('dci', 'adapted_dci', 'adapted_dci+gauss_newton')",
    "--config.defenses=(('none', 0.0), ('bottleneck', 2.0))",
    "--config.defense.steps=2",
    "--config.gauss_newton.splits=('layer1.0',)",
    "--config.gauss_newton.steps=1",
    "--config.gauss_newton.inner=1",
    "--config.gauss_newton.total_variation=(0.0,)",
    "--config.gauss_newton.num_validation=2",
]


@pytest.mark.slow
def test_private_images_leave_no_trace_in_what_attacks_are_fitted_to(place, tmp_path):
    (tmp_path / "others").mkdir()
    pixels = np.random.default_rng(7).integers(0, 255, (40, 36, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "others" / "x.png")
    fitted = []
    for folder in (place / "images", tmp_path / "others"):
        workdir = tmp_path / f"of_{folder.name}"
        done = call(place, workdir, *SOLVED[1:], *FITTED, *DEFENDED, f"--config.data.images={folder}")
        assert done.returncode == 0, done.stderr
        kept = ("attacks", "prior")
        files = [p for made in kept for p in sorted((workdir / made).rglob("*")) if p.is_file()]
        fitted.append({p.relative_to(workdir): p.read_bytes() for p in files})
        assert len(lines(workdir)) == (3 + 4) * len({row["image"] for row in lines(workdir)})
    assert fitted[0].keys() == fitted[1].keys()
    assert {str(name.parent) for name in fitted[0] if fitted[0][name] != fitted[1][name]} == set()
    assert {name.parts[0] for name in fitted[0]} == set(kept)


@pytest.mark.slow
def test_the_same_line_again_does_nothing_new_and_another_config_is_refused(place, finished):
    before = (finished / "results.jsonl").read_bytes()
    again = call(place, finished)
    assert again.returncode == 0, again.stderr
    assert (finished / "results.jsonl").read_bytes() == before
    assert "synthesis: batch" not in again.stderr
    other = call(place, finished, "--config.dci_trained.width=2.0")
    assert other.returncode == 2
    assert "differs in dci_trained.width" in other.stderr
    assert (finished / "results.jsonl").read_bytes() == before
