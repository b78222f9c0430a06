"""A run that is killed again and again, stopped, or runs out of disk loses at most the unfinished unit.

docs/faults.md is the table of what is recovered here.
"""

import os
import random
import shutil
import signal
import time

import pytest

from tests.command_line import call, lines, said, start, wait_for

SHORT = "--config.attacks=('dci_trained', 'dci_trained+refine')"
LONG = [
    SHORT,
    "--config.dci_trained.divide_steps=12",
    "--config.refine.steps=12",
    "--config.dci_trained.conquer=(('stem', 12), ('layer1.0', 12))",
]
LATE = 0.2  # a kill comes up to so many seconds after the moment named
# In the order of a run, each there when a file matches; ".orbax-checkpoint-tmp" is a checkpoint being written.
MOMENTS = (
    "config.json",
    "synthesis/unfinished/0_0/*orbax-checkpoint-tmp*",
    "synthesis/batch_00000.npy",
    "synthesis/labels_00001.npz*",
    "attacks/dci_trained/0_divide/*orbax-checkpoint-tmp*",
    "attacks/dci_trained/1_conquer_to_stem/*orbax-checkpoint-tmp*",
    "attacks/dci_trained/2_conquer_to_layer1.0/*orbax-checkpoint-tmp*",
    "evaluation/dci_trained/stem none.parts",
    "evaluation/dci_trained/layer1.0 none.npz*",
    "evaluation/dci_trained+refine/stem none.npz*",
    "results.jsonl*",
)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(place):
    done = call(place, place / "undisturbed", *LONG)
    assert done.returncode == 0, done.stderr
    return place / "undisturbed"


def test_killed_ten_times_it_ends_with_the_results_of_an_undisturbed_run(place, undisturbed, tmp_path):
    """One run is killed at the named moments, others at random until there were 10 kills; `benchmarks.soak kills` does hundreds."""
    rng, killed, number, ahead = random.Random(0), [], 0, list(MOMENTS)
    while len(killed) < 10:
        workdir = tmp_path / f"run{number}"
        while ahead and any(workdir.glob(ahead[0])):
            ahead.pop(0)
        process, deadline = start(place, workdir, *LONG), rng.uniform(2, 12)
        begin = time.monotonic()
        while process.poll() is None:
            if any(any(workdir.glob(moment)) for moment in ahead):
                break
            if not ahead and time.monotonic() - begin > deadline:
                break
            time.sleep(0.001)
        moment = next((m for m in ahead if any(workdir.glob(m))), "at random")
        time.sleep(rng.uniform(0, LATE))
        process.kill()  # it may have ended by itself in this very moment: its answer tells
        if process.wait() == -signal.SIGKILL:
            killed.append((number, moment, done_so_far(workdir)))
            ahead = ahead[ahead.index(moment) + 1 :] if ahead else ahead
        else:
            assert process.returncode == 0, said(process)
            assert lines(workdir) == lines(undisturbed)
            number += 1
    print(*killed, sep="\n")
    done = call(place, workdir, *LONG)
    assert done.returncode == 0, done.stderr
    for workdir in tmp_path.glob("run?"):
        assert lines(workdir) == lines(undisturbed)
        left = [p for p in workdir.rglob("*") if ".part" in p.name or "orbax-checkpoint" in p.name]
        assert not left
    stages = {stage for _, _, stage in killed}
    assert stages >= {"synthesis", "divide", "conquer", "evaluation"}


def done_so_far(workdir):
    """The stage that a killed run was in."""
    if any(workdir.glob("evaluation/dci_trained*")):
        return "evaluation"
    if any(workdir.glob("attacks/dci_trained/1_*")):
        return "conquer"
    return "divide" if any(workdir.glob("attacks/dci_trained")) else "synthesis"


def test_sigterm_saves_and_the_same_line_goes_on(place, tmp_path):
    workdir, many = tmp_path / "run", "--config.dci_trained.divide_steps=100000"
    process = start(place, workdir, SHORT, many)
    divide = workdir / "attacks" / "dci_trained" / "0_divide"
    wait_for(divide.exists, process)
    time.sleep(3)
    process.terminate()
    assert process.wait(60) == os.EX_TEMPFAIL, said(process)
    assert said(process).splitlines()[-1].startswith("dci_jax: stopped by SIGTERM")
    (saved,) = (int(path.name) for path in divide.iterdir())
    process = start(place, workdir, SHORT, many)
    wait_for(lambda: f"divide: goes on from step {saved} of 100000" in said(process), process)
    process.kill()


def test_ctrl_c_is_one_sentence(place, tmp_path):
    workdir = tmp_path / "run"
    process = start(place, workdir, *LONG)
    wait_for((workdir / "attacks" / "dci_trained" / "0_divide").exists, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130, said(process)
    assert said(process).splitlines()[-1].startswith("dci_jax: stopped by Ctrl-C")
    assert "Traceback" not in said(process)


@pytest.mark.parametrize(("size", "kept"), [(100_000, "synthesis"), (8_000, "evaluation")])
def test_a_disk_that_is_full_is_one_sentence_and_loses_nothing(place, undisturbed, tmp_path, size, kept):
    workdir = tmp_path / "run"
    done = call(place, workdir, *LONG, file_size=size)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "cannot go on" in last
    assert "File too large" in last
    assert str(workdir) in last
    assert (workdir / kept).exists()
    if kept == "evaluation":  # all else had been finished
        again = call(place, workdir, *LONG)
        assert again.returncode == 0, again.stderr
        assert lines(workdir) == lines(undisturbed)


def test_a_workdir_that_vanishes_is_told_and_not_half_made_again(place, tmp_path):
    workdir = tmp_path / "run"
    process = start(place, workdir, SHORT)
    wait_for((workdir / "attacks" / "dci_trained" / "1_conquer_to_stem").exists, process)
    shutil.move(workdir, tmp_path / "elsewhere")
    assert process.wait(100) == 2, said(process)
    last = said(process).splitlines()[-1]
    assert "vanished" in last or "No such file" in last
    assert not (workdir / "config.json").exists()
    assert not (workdir / "evaluation").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_workdir_that_cannot_be_written_is_refused_before_any_work(place, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    done = call(place, tmp_path / "locked" / "run", SHORT)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr


def test_a_workdir_below_a_file_is_refused_before_any_work(place, tmp_path):
    (tmp_path / "file").write_text("")
    done = call(place, tmp_path / "file" / "run", SHORT)
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr
    assert "synthesis" not in done.stderr
