"""The same command line on many devices and in many processes gives the same numbers, and they stop together."""

import os

import numpy as np
import pytest

from tests.command_line import FITTED, SOLVED, call, finish, lines, said, start_together, wait_for

pytestmark = pytest.mark.slow

TOLERANCE = 0.01  # dB: sums are added up in another order, and a few optimiser steps magnify that
NOISY = "--config.defenses=(('none', 0.0), ('gaussian', 0.5))"  # which must not depend on the devices either
SHORT = "--config.attacks=('dci_trained', 'dci_trained+refine')"


def assert_equal_results(workdir, reference):
    """Of all attacks of `workdir`; the reference may have more."""
    attacks = {row["attack"] for row in lines(workdir)}
    rows, expected = lines(workdir), [row for row in lines(reference) if row["attack"] in attacks]
    for row, other in zip(rows, expected, strict=True):
        cell = ("attack", "split", "defense", "image")
        assert [row[c] for c in cell] == [other[c] for c in cell]
        assert row["psnr"] == pytest.approx(other["psnr"], abs=TOLERANCE), (row, other)
        assert row["ssim"] == pytest.approx(other["ssim"], abs=1e-3)


def test_solved_inverters_are_the_same_on_eight_devices_of_two_processes(place, tmp_path):
    short = (*SOLVED, *FITTED, NOISY, "--config.splits=('layer1.0',)")
    one, eight = tmp_path / "one", tmp_path / "eight"
    done = call(place, one, *short)
    assert done.returncode == 0, done.stderr
    finish(start_together(place, eight, *short, devices=4))
    filters = [np.load(workdir / "prior" / "filter.npz")["bands"] for workdir in (one, eight)]
    np.testing.assert_allclose(filters[1], filters[0], atol=1e-4)
    assert_equal_results(eight, one)


def test_sigterm_to_one_process_stops_both_after_they_saved_and_eight_devices_go_on(place, finished, tmp_path):
    """Neither four devices nor eight can share the counts evenly."""
    workdir = tmp_path / "run"
    both = start_together(place, workdir, SHORT, devices=2)
    wait_for((workdir / "attacks" / "dci_trained" / "1_conquer_to_stem").exists, both[0])
    both[1].terminate()
    finish(both, os.EX_TEMPFAIL)
    assert "stopped by SIGTERM" in said(both[0])
    done = call(place, workdir, SHORT, devices=8)
    assert done.returncode == 0, done.stderr
    assert "dci_trained.batch=10 is not shared evenly by 8 devices at 2 splits; a multiple of 16" in done.stderr
    assert "synthesis: batch" not in done.stderr  # that was finished
    assert_equal_results(workdir, finished)
    assert (workdir / "report" / "index.html").exists()


def test_a_process_that_dies_makes_the_other_stop_with_a_message(place, tmp_path):
    """That process 0 finds the other gone, within a minute, is told by `benchmarks.soak kills`."""
    workdir = tmp_path / "run"
    both = start_together(place, workdir, SHORT)
    wait_for((workdir / "attacks" / "dci_trained" / "0_divide").exists, both[0])
    both[0].kill()
    left = both[1]
    assert left.wait(150) not in (0, 2), said(left)  # a scheduler may start it again
    assert "another process" in said(left) or "distributed service" in said(left)


def test_processes_that_see_different_folders_are_told_so(place, tmp_path):
    one, two = start_together(place, (tmp_path / "one", tmp_path / "two"), SHORT)
    assert two.wait(150) == 2, said(two)
    assert "all hosts share" in said(two)
    assert one.wait(150) not in (0, 2), said(one)
