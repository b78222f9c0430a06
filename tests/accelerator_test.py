"""The stages for an accelerator are rehearsed where there is none, resume, and say what they leave out."""

import json

import pytest

from benchmarks import accelerator
from tests.command_line import SOLVED, environment


def test_what_a_rehearsal_gives_replaces_what_the_stage_does():
    more = ("--config.splits=('stem',)", "--config.batch=2")
    assert accelerator.instead(("main", "--config.splits=('layer4.2',)", "--a=b"), more) == ("main", "--a=b", *more)


@pytest.mark.slow
def test_a_rehearsal_runs_what_needs_no_files_and_is_not_repeated(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", environment(place)["XLA_FLAGS"])
    network = [f"--config.target.weights={place / 'target.safetensors'}", f"--config.data.images={place / 'images'}"]
    smaller = (*SOLVED, "--config.target.name=cifar_resnet8", *network)
    monkeypatch.setitem(
        accelerator.STAGES, "quickstart", accelerator.Stage(accelerator.run("tiny", "{out}"), (), smaller)
    )
    out = tmp_path / "out"
    lines = [str(out), "--rehearse", f"--data={tmp_path}", "--only", "quickstart", "resnet50", "tests"]
    assert accelerator.main(lines) == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert f"resnet50: left out: no resnet50.safetensors, photographs.npz in {tmp_path}" in said
    assert "tests: not rehearsed" in said
    found = json.loads((out / "quickstart.json").read_text())
    assert found["finished"]
    assert found["device"] == "cpu"
    assert (out / "quickstart" / "summary.csv").exists()
    assert any((out / "work" / "programs").iterdir())
    assert accelerator.main(lines) == 0
    assert capsys.readouterr().out.count("done before") == 1


@pytest.mark.slow
def test_a_stage_that_fails_or_runs_out_of_time_is_said_to_be_unfinished(tmp_path):
    fails = accelerator.Stage(("dci_jax.main", "--config=nowhere.py", "--workdir={out}"))
    found = accelerator.perform("fails", fails, tmp_path, tmp_path, False, 60)
    assert (found["finished"], found["exit_code"]) == (False, 2)
    assert "nowhere.py" in found["tail"][-1]
    found = accelerator.perform(
        "slow", accelerator.Stage(("timeit", "-n1", "-r1", "while True: pass")), tmp_path, tmp_path, False, 1
    )
    assert (found["finished"], found["exit_code"]) == (False, None)


def test_every_config_that_a_stage_names_is_there():
    for name, stage in accelerator.STAGES.items():
        for word in stage.command:
            if word.startswith("--config=configs/"):
                file = word.removeprefix("--config=").partition(":")[0]
                assert (accelerator.Path(__file__).parent.parent / file).exists(), name


def test_a_stage_waits_for_the_one_that_it_goes_on_from(tmp_path, capsys):
    for file in accelerator.CIFAR:
        (tmp_path / file).touch()
    assert accelerator.main([str(tmp_path / "out"), f"--data={tmp_path}", "--only", "sngan"]) == 1
    assert capsys.readouterr().out == "sngan: left out: sngan_train is not finished\n"
    assert not (tmp_path / "out" / "sngan.json").exists()


def test_the_lines_of_its_help_name_stages_that_there_are():
    (named,) = (
        line.partition("--only ")[2].partition(" --")[0]
        for line in accelerator.__doc__.splitlines()
        if "--only " in line
    )
    assert named.split()
    assert set(named.split()) <= set(accelerator.STAGES)
