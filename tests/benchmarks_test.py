"""Every benchmark and every training says how it is called, and leaves the measuring for then."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CALLED = [
    f"{path.parent.name}.{path.stem}"
    for folder in ("benchmarks", "training")
    for path in sorted((ROOT / folder).glob("*.py"))
    if '__name__ == "__main__"' in path.read_text()
]


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLED)
def test_help_is_the_modules_own_text(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__")
    if str(ended.value).startswith("This compares with PyTorch"):
        pytest.skip("needs PyTorch")
    shown = capsys.readouterr()
    assert ended.value.code in (0, None), shown.err
    assert name in shown.out or "usage: " in shown.out
