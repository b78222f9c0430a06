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
