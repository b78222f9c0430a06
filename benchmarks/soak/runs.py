"""Finished runs with a damaged file, given again, and odd command lines: right numbers or a sentence, never a traceback.

A file of the run's folder is flipped, cut, zeroed, emptied, deleted or made a folder; what is made of it (results, pages) is
often deleted too, so that it has to be read. The numbers that the run then ends with must be the undisturbed ones.
"""

import collections
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import jax
from jax._src import xla_bridge

from benchmarks.soak import kills
from benchmarks.soak.damage import damaged
from dci_jax import main
from dci_jax.report.__main__ import main as report

KINDS = ("trained", "solved", "adapted", "generator")
MADE = ("results.jsonl", "summary.csv", "report", "evaluation")
WORDS = (
    *("--config=configs/tiny.py", "--config", "configs/tiny.py", "--config=", "--config=configs/none.py", "--config=."),
    *("--workdir", "--workdir=", "--workdir=/dev/null/x", "--dry_run", "--dry_run=maybe", "--nodry_run", "--profile"),
    *("--coordinator=localhost:abc", "--coordinator=:1", "--processes=0", "--processes=-1", "--process=9", "--", "-"),
    *(
        "--config.splits=stem",
        "--config.splits=('stem',)",
        "--config.splits=(",
        "--config.attacks=()",
        "--config.seed=x",
    ),
    *(
        "--config.nothing=1",
        "--config.dci=3",
        "--config.dci.num_images=1e3",
        "--config.data.count=1",
        "--config.batch=0",
    ),
    *("--config.target.name=os:system", "--config.target.name=no.such:thing", "--config.target.weights=/etc/passwd"),
    *("--config.data.images=/proc", "--config.data.images=/dev/zero", "--config.data.labels=/etc/passwd", "dry_run"),
    *("--config.features=/etc/passwd", "--config.defenses=(('gaussian', 'x'),)", "--config.target.sha256=0", "\0", "é"),
)


def soak(count: int, out: Path | None, command: str) -> int:
    """Try so many; writes JSON to `out`. Returns 1 if there is a fault."""
    counts, faults, begin = collections.Counter(), {}, time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        place, whole = Path(folder), {}
        for number in range(count):
            rng = random.Random(number)
            kind = "command line" if number % 3 == 2 else KINDS[number // 3 % len(KINDS)]
            if kind == "command line":
                outcome, said = odd(rng, place)
            else:
                if kind not in whole:
                    whole[kind] = kills.undisturbed(kind, place)[0]
                outcome, said = again(kind, whole[kind], place / f"run{number}", rng)
            counts[f"{kind}: {outcome}"] += 1
            if outcome == "fault":
                faults[str(number)] = said
    found = {"count": count, "counts": dict(sorted(counts.items())), "faults": faults}
    found |= {"seconds": round(time.monotonic() - begin), "command": command, "jax": jax.__version__}
    if out:
        out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))
    return bool(faults)


def again(name: str, reference: Path, workdir: Path, rng: random.Random) -> tuple[str, str]:
    """(outcome, what was said) of a damaged run that is given again, or whose report is made again."""
    shutil.copytree(reference, workdir)
    files = [f for f in sorted(workdir.rglob("*")) if f.is_file() and f.name not in ("lock", "log.txt")]
    victim, how = rng.choice(files), rng.choice(["damaged"] * 4 + ["empty", "gone", "a folder"])
    if how == "damaged" and victim.stat().st_size:
        victim.write_bytes(damaged(rng, victim.read_bytes()))
    elif how in ("gone", "a folder"):
        victim.unlink()
        if how == "a folder":
            victim.mkdir()
    else:
        victim.write_bytes(b"")
    what = f"{victim.relative_to(workdir)} {how}"
    reporting = rng.random() < 0.3
    if reporting:
        code, said = forked(lambda: report([str(workdir)]))
    else:
        for made in MADE:
            path = workdir / made
            if rng.random() < 0.6 and path.exists():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        code, said = kills.ended(kills.start(kills.KINDS[name], workdir)[0]), kills.said(workdir)
    right = (
        code == 2 or reporting or (workdir / "results.jsonl").read_bytes() == (reference / "results.jsonl").read_bytes()
    )
    shutil.rmtree(workdir)
    if code not in (0, 2) or "Traceback" in said or not right:
        return "fault", f"{what}{', report' * reporting}: {code}, {'' if right else 'WRONG NUMBERS, '}{said}"
    return ("result", "sentence")[code // 2], what


def odd(rng: random.Random, place: Path) -> tuple[str, str]:
    """(outcome, what was said) of a command line of odd words; none gets as far as a run."""
    words = [rng.choice(WORDS) for _ in range(rng.randint(0, 3))]
    plain = ["--config=configs/tiny.py", f"--workdir={place / 'odd'}", "--dry_run"]
    words = [*(w for w in plain if rng.random() < 0.8), *words]
    words = [w for w in words if not w.startswith("--nodry")] if "--dry_run" in words else [*words, "--workdir="]
    code, said = forked(lambda: main.main(["dci_jax.main", *words]), words)
    if code not in (0, 2) or "Traceback" in said:
        return "fault", f"{words}: {code}, {said}"
    return ("result", "sentence")[code // 2], str(words)


def forked(call, words=()) -> tuple[int, str]:
    """(exit code, the end of what was said) of a function in a fork."""
    assert not xla_bridge.backends_are_initialized()
    with tempfile.TemporaryFile("w+") as log:
        child = os.fork()
        if not child:
            code = 1
            try:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                os.environ |= {"JAX_PLATFORMS": "cpu"}
                sys.argv = ["dci_jax.main", *words]
                code = call()
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException as error:
                print("Traceback", repr(error), file=sys.stderr)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code or 0)
        code = kills.ended(child)
        log.seek(0)
        return code, log.read()[-3000:]
