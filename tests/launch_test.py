"""launch/: each script starts the line that it says, and its files are what their schedulers expect."""

import os
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from launch import hyper, jobset, sweep
from tests.command_line import ROOT

CONFIG = """
from configs.default import get_config

def get_hyper(hyper):
    return hyper.product([hyper.sweep("config.seed", [0, 1]), hyper.sweep("config.splits", [("stem",), ()])])
"""


@pytest.fixture
def swept(tmp_path):
    file = tmp_path / "swept.py"
    file.write_text(CONFIG)
    return [f"--config={file}", f"--workdir={tmp_path / 'runs'}"]


@pytest.fixture
def stubs(tmp_path):
    """A PATH on which the schedulers' commands say what they were given, and end as the file `code` says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("srun", "sbatch", "scontrol", "kubectl", "gcloud", "xpk"):
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "{name} $*"\n[ {name} != srun ] || exit $CODE\n')
        script.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "CODE": "0"}


def script(name, *arguments, stubs, **more):
    return subprocess.run(
        ["bash", f"launch/{name}", *arguments], cwd=ROOT, env=stubs | more, capture_output=True, text=True
    )


def test_hyper_expands_products_zips_and_chains():
    a, b = hyper.sweep("config.a", [1, 2]), hyper.sweep("config.b", ["x", "y"])
    assert hyper.product([a, b]) == [
        {"config.a": 1, "config.b": "x"},
        {"config.a": 1, "config.b": "y"},
        {"config.a": 2, "config.b": "x"},
        {"config.a": 2, "config.b": "y"},
    ]
    assert hyper.zipit([a, b]) == [
        {"config.a": 1, "config.b": "x"},
        {"config.a": 2, "config.b": "y"},
    ]
    assert hyper.chainit([a, hyper.fixed("config.c", 0)]) == [*a, {"config.c": 0}]
    with pytest.raises(ValueError, match="shorter"):
        hyper.zipit([a, b[:1]])


def test_a_sweep_has_one_workdir_and_one_line_per_point(swept, capsys, tmp_path):
    assert sweep.main(["local", *swept, "--dry_run", "--config.data.count=3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert "'--config.splits=('\"'\"'stem'\"'\"',)'" in lines[0]
    assert all("--config.data.count=3" in line for line in lines)
    assert len({line.split("--workdir=")[1] for line in lines}) == 4
    assert not (tmp_path / "runs").exists()


BEGIN = "from configs import default\nfrom configs.default import get_config\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "no get_hyper"),
        ("def get_hyper(\n", "fails to load (SyntaxError"),
        ("import sys; sys.exit(0)\n", "fails to load (SystemExit"),
        ("raise RuntimeError('no')\n", "fails to load (RuntimeError: no)"),
        ("def get_hyper(h): return []\n", "get_config that fails (AttributeError"),
        (BEGIN + "def get_hyper(h): return []\n", "0 points"),
        (BEGIN + "def get_hyper(h): return h.sweep('config.seed', [1, 1])\n", "2 points"),
        (BEGIN + "def get_hyper(h): return None\n", "gives a NoneType; let it return a list"),
        (BEGIN + "def get_hyper(h): return [1]\n", "let it return a list"),
        (BEGIN + "def get_hyper(h): 1 / 0\n", "get_hyper that fails (ZeroDivisionError"),
        (BEGIN + "def get_hyper(h): return h.zipit([h.sweep('config.seed', [1]), []])\n", "get_hyper that fails (ValueError"),
        (BEGIN + "def get_hyper(h): return h.sweep('config.sed', [1])\n", "'config.sed', which is not a flag of a run; .*such as config.seed"),
        (BEGIN + "def get_hyper(h): return h.sweep('seed', [1])\n", "sets 'seed', which is not a flag"),
    ],
)  # fmt: skip
def test_a_config_that_is_no_sweep_is_one_sentence(tmp_path, capsys, text, said):
    file = tmp_path / "bad.py"
    file.write_text(text)
    assert sweep.main(["local", f"--config={file}", f"--workdir={tmp_path}"]) == 2
    assert re.search(said if ".*" in said else re.escape(said), capsys.readouterr().err)


def test_a_variant_that_a_config_does_not_have_is_one_sentence(tmp_path, capsys):
    file = tmp_path / "one.py"
    file.write_text(BEGIN + "def get_hyper(h): return h.sweep('config.seed', [1])\n")
    assert sweep.main(["local", f"--config={file}:large", f"--workdir={tmp_path}"]) == 2
    assert "fails for 'large'" in capsys.readouterr().err
    assert sweep.main(["local", "--config=absent.py", f"--workdir={tmp_path}"]) == 2


def test_points_whose_names_clean_to_the_same_have_folders_of_their_own(tmp_path):
    file = tmp_path / "names.py"
    file.write_text(BEGIN + "def get_hyper(h): return h.sweep('config.data.images', ['a b', 'a/b', 'a_b'])\n")
    assert len({point.workdir for point in sweep.expand(str(file), tmp_path, [])}) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["local", "--jobs=0"], "--jobs is 0; give at least 1"),
        (["point", "--index=-1"], "--index is -1; give 0 to 3"),
        (["point", "--index=4"], "--index is 4; give 0 to 3"),
    ],
)
def test_a_flag_that_would_start_something_else_is_refused(swept, capsys, arguments, said):
    assert sweep.main([*arguments, *swept]) == 2
    assert said in capsys.readouterr().err


def test_slurm_without_sbatch_is_refused(swept, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sweep.main(["slurm", *swept]) == 2
    assert "There is no sbatch on the PATH" in capsys.readouterr().err


def test_finished_points_are_skipped_and_failed_ones_listed_and_retried(swept, monkeypatch, capsys):
    """With a stand-in for a run: it fails until the file beside its workdir says otherwise."""
    run = (
        "import sys, pathlib; w = pathlib.Path(sys.argv[1]); print('seen', sys.argv[1]);"
        "bad = 'seed=1' in str(w) and not (w.parent / 'repaired').exists();"
        "bad or ((w / 'report').mkdir(parents=True), (w / 'report' / 'index.html').write_text(''));"
        "(w / 'starts').open('a').write('x'); sys.exit(2 * bad)"
    )
    monkeypatch.setattr(sweep, "line", lambda p: [sys.executable, "-c", run, str(p.workdir)])
    assert sweep.main(["local", *swept, "--jobs=2"]) == 1
    said = capsys.readouterr().out
    assert said.count("failed (2): ") == 2
    assert "2 of 4 finished" in said
    runs = swept[1].removeprefix("--workdir=")
    (open(f"{runs}/repaired", "w")).close()
    assert sweep.main(["local", *swept]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 finished" in said
    assert "python -m dci_jax.report" in said
    starts = {p.parent.name: len(p.read_text()) for p in sweep.Path(runs).glob("*/starts")}
    assert sorted(starts.values()) == [1, 1, 2, 2]
    assert all(count == (2 if "seed=1" in name else 1) for name, count in starts.items())


def test_a_workdir_that_cannot_be_made_fails_its_point_and_hangs_nothing(swept, capsys):
    runs = sweep.Path(swept[1].removeprefix("--workdir="))
    runs.write_text("a file where a folder should be")
    assert sweep.main(["local", *swept, "--jobs=1"]) == 1
    assert capsys.readouterr().out.count("cannot be written") == 4


def test_one_gpu_for_each_point(swept, monkeypatch):
    run = "import os, sys; open(sys.argv[1] + '/gpu', 'w').write(os.environ['CUDA_VISIBLE_DEVICES']); sys.exit(1)"
    monkeypatch.setattr(sweep, "line", lambda p: [sys.executable, "-c", run, str(p.workdir)])
    sweep.main(["local", *swept, "--gpus=2,5"])
    runs = sweep.Path(swept[1].removeprefix("--workdir="))
    assert {p.read_text() for p in runs.glob("*/gpu")} <= {"2", "5"}
    assert len(list(runs.glob("*/gpu"))) == 4


def test_a_sweep_on_slurm_is_one_job_array(swept, stubs, capfd, monkeypatch):
    monkeypatch.setenv("PATH", stubs["PATH"])
    assert sweep.main(["slurm", *swept, "--jobs=3", "--config.data.count=3"]) == 0
    said = capfd.readouterr().out
    assert "sbatch --array=0-3%3 --nodes=1" in said
    assert "launch/slurm.sh sweep --config=" in said
    assert "--config.data.count=3" in said


def test_the_slurm_script_starts_the_line_and_requeues_what_was_stopped(stubs):
    job = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(ROOT)}
    done = script("slurm.sh", "--config=a b.py", "--workdir=w", stubs=stubs, **job)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "srun --kill-on-bad-exit=1 python -m dci_jax.main --config=a b.py --workdir=w\n"
    for code, queued in (("75", True), ("137", True), ("2", False), ("1", False)):
        done = script("slurm.sh", "--config=a", stubs=stubs | {"CODE": code}, **job)
        assert done.returncode == int(code)
        assert ("scontrol requeue 7" in done.stdout) == queued
    array = job | {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}
    done = script("slurm.sh", "sweep", "--config=a", stubs=stubs | {"CODE": "75"}, **array)
    assert "launch.sweep point --index=2 --config=a" in done.stdout
    assert "scontrol requeue 5_2" in done.stdout


@pytest.mark.parametrize(
    ("name", "before", "starts"),
    [
        ("slurm.sh", [], "srun"),
        ("tpu_vm.sh", ["pod", "zone"], "gcloud compute tpus tpu-vm ssh pod --zone=zone --worker=all"),
        ("xpk.sh", ["cluster", "v5litepod-256", "image"], "xpk workload create --cluster=cluster"),
    ],
)
def test_a_dry_run_prints_what_it_would_start_and_starts_nothing(name, before, starts, stubs):
    empty = stubs | {"PATH": "/usr/bin:/bin"}
    dry = script(name, "--dry_run", *before, "--config=c.py", "--workdir=/runs/x", stubs=empty)
    assert dry.returncode == 0, dry.stderr
    assert starts in dry.stdout
    assert "-m dci_jax.main --config=c.py --workdir=/runs/x" in dry.stdout
    real = script(name, *before, "--config=c.py", "--workdir=/runs/x", stubs=stubs)
    assert real.stdout == dry.stdout


def manifest(capsys, *arguments):
    common = [
        "--image=registry/dci_trained:1",
        "--claim=runs",
        "--dry_run",
        "--config=configs/tiny.py",
        "--workdir=/runs/x",
    ]
    assert jobset.main([*arguments, *common]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.fixture
def valid():
    """What checks a JobSet: its Job against Kubernetes' schemas, the rest against the fields of the JobSet API."""
    kubernetes_validate = pytest.importorskip("kubernetes_validate")

    def check(found):
        assert found["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
        assert found["spec"].keys() <= {"network", "failurePolicy", "replicatedJobs"}
        policy = found["spec"]["failurePolicy"]
        assert policy.keys() <= {"maxRestarts", "rules", "restartStrategy"}
        for rule in policy.get("rules", []):
            assert rule["action"] in ("FailJobSet", "RestartJobSet")
        (replicated,) = found["spec"]["replicatedJobs"]
        assert replicated.keys() <= {"name", "replicas", "template"}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}}
        kubernetes_validate.validate(job | replicated["template"], "1.33", strict=True)
        return replicated["template"]["spec"]

    return check


@pytest.mark.parametrize("accelerator", ["gpu", "tpu"])
def test_a_jobset_of_several_hosts(capsys, valid, accelerator):
    job = valid(manifest(capsys, f"--accelerator={accelerator}", "--hosts=4", "--name=audit"))
    assert (job["completions"], job["parallelism"]) == (4, 4)
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"][:5] == ["python", "-m", "dci_jax.main", "--config=configs/tiny.py", "--workdir=/runs/x"]
    found = [a for a in container["command"] if a.startswith("--coordinator")]
    assert found == (["--coordinator=audit-worker-0-0.audit:8476"] if accelerator == "gpu" else [])
    assert {
        "action": "FailJob",
        "onExitCodes": {"containerName": "dci-jax", "operator": "In", "values": [1, 2]},
    } in job["podFailurePolicy"]["rules"]


@pytest.mark.parametrize("name", ["slurm.sh", "tpu_vm.sh", "xpk.sh", "ablation.sh"])
def test_a_script_without_arguments_says_what_to_give(name, stubs):
    done = script(name, stubs=stubs)
    assert done.returncode == 2
    assert f"launch/{name}" in done.stderr
    assert ": give " in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("--name=Audit_1", "--name is 'Audit_1'"),
        (f"--name={'a' * 41}", "at most 40"),
        ("--name=", "--name is ''"),
        ("--claim=Runs!", "--claim is 'Runs!'"),
        ("--image=", "--image is ''"),
        ("--image=a b", "--image is 'a b'"),
        ("--hosts=0", "--hosts is 0"),
        ("--hosts=-2", "--hosts is -2"),
        ("--workdir=/tmp/x", "a folder below /runs"),
        ("--workdir=/runs/../x", "a folder below /runs"),
        ("--workdir=", "--workdir is ''"),
        ("--config=configs/absent.py", "no file of this checkout"),
        ("--config=", "There is no --config"),
        ("--dryrun", "Unexpected argument '--dryrun'"),
        ("configs/tiny.py", "Unexpected argument 'configs/tiny.py'"),
    ],
)
def test_what_no_cluster_could_run_is_refused(change, said, capsys):
    sound = ["--image=registry/dci_jax:1", "--claim=runs", "--dry_run", "--config=configs/tiny.py", "--workdir=/runs/x"]
    assert jobset.main([*sound, change]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert not shown.out
    assert len(shown.err.splitlines()) == 1


def test_a_sweep_that_no_cluster_could_run_is_refused(swept, capsys):
    assert sweep.main(["kubernetes", *swept, "--image=i", "--claim=C!", "--dry_run"]) == 2
    assert "--claim is 'C!'" in capsys.readouterr().err


def test_without_kubectl_nothing_is_applied(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    sound = ["--image=registry/dci_jax:1", "--claim=runs", "--config=configs/tiny.py", "--workdir=/runs/x"]
    assert jobset.main(sound) == 2
    assert "no kubectl" in capsys.readouterr().err


def test_a_sweep_on_kubernetes_has_an_index_for_each_point(swept, capsys, valid):
    for accelerator in ("gpu", "tpu"):
        arguments = [f"--accelerator={accelerator}", "--image=i", "--claim=c", "--jobs=2"]
        assert sweep.main(["kubernetes", *swept, *arguments, "--dry_run"]) == 0
        job = valid(yaml.safe_load(capsys.readouterr().out))
        assert (job["completions"], job["parallelism"]) == (4, 2)
        (container,) = job["template"]["spec"]["containers"]
        assert "--index=$(JOB_COMPLETION_INDEX)" in container["command"]
        assert [r["action"] for r in job["podFailurePolicy"]["rules"]] == ["FailIndex", "Ignore", "Ignore"]


def test_the_skypilot_task_runs_the_same_line():
    task = yaml.safe_load((ROOT / "launch" / "skypilot.yaml").read_text())
    assert "exec python -m dci_jax.main $ARGS" in task["run"]
    assert "--coordinator=$leader:8476 --processes=$SKYPILOT_NUM_NODES" in task["run"]


def test_the_shell_scripts_and_the_container_file_are_clean(tmp_path):
    for linter, files in (
        ("shellcheck", [*ROOT.glob("launch/*.sh"), ROOT / ".ci" / "run"]),
        ("hadolint", [ROOT / "launch" / "Dockerfile"]),
    ):
        program = shutil.which(linter, path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
        if program is None:
            pytest.skip(f"{linter} is not installed: pip install -e '.[dev]'")
        done = subprocess.run([program, *files], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stdout


def chosen(tmp_path, **working):
    """What setup.sh takes where these interpreters are on the PATH, or pyenv's, and what it says."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv" / "installed").touch()
    for name, works in working.items():
        version = name.removeprefix("pyenv").replace("_", ".")
        file = (
            tmp_path / "pyenv" / "versions" / version / "bin" / "python"
            if name.startswith("pyenv")
            else tmp_path / "bin" / version
        )
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(f'#!/bin/sh\nexec {sys.executable if works else "/bin/false"} "$@"\n')
        file.chmod(0o755)
    command = ["/bin/bash", "-c", f'source "{ROOT}/launch/setup.sh" && echo $PYTHON']
    environment = {"PATH": str(tmp_path / "bin"), "PYENV_ROOT": str(tmp_path / "pyenv")}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)


def test_setup_takes_the_newest_python_that_works(tmp_path):
    assert chosen(tmp_path, python3_13=False, python3_12=True, python3=True).stdout == "python3.12\n"


def test_setup_finds_a_python_that_pyenv_has_behind_a_shim_that_refuses(tmp_path):
    done = chosen(tmp_path, python3_13=False, python3_12=True, pyenv3_13_0=True, python3=True)
    assert done.stdout == f"{tmp_path}/pyenv/versions/3.13.0/bin/python\n"


def test_setup_without_a_python_that_works_says_what_to_do(tmp_path):
    done = chosen(tmp_path, python3=False)
    assert done.returncode == 2
    assert done.stderr.startswith("dci_jax needs Python 3.11 or newer")
