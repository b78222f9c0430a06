"""What a log says of the time that is left."""

import logging
import types

from dci_jax.runtime import progress


def test_the_estimate_counts_from_the_first_report_of_this_call(monkeypatch, caplog):
    """What lies before it is compilation, or another call's work that this one resumes."""
    clock = iter([0.0, 0.0, 100.0, 140.0])  # begun, begun, then a report each
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    with caplog.at_level(logging.INFO, "dci_jax"), progress.bar("solve", 100) as update:
        update(50)
        update(60)
    assert [record.message.strip() for record in caplog.records] == ["solve 50/100", "solve 60/100, 160 s left"]


def test_a_script_without_a_log_and_a_terminal_prints_a_line_every_half_minute(monkeypatch, capsys, caplog):
    """Minutes without a word were taken for a fault."""
    clock = iter([0.0, 0.0, 10.0, 40.0, 50.0])
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    with caplog.at_level(logging.WARNING, "dci_jax"), progress.bar("solve", 100) as update:
        for done in (10, 40, 50):
            update(done)
    assert capsys.readouterr().err.strip() == "solve 40/100, 60 s left"
    clock = iter([0.0, 0.0, 100.0])
    with progress.visible(False), progress.bar("solve", 100) as update:
        update(50)
    assert not capsys.readouterr().err
