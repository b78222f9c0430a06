"""What the folder of a run says: where the run is, and whether its files are those of another."""

import re
from pathlib import Path

import numpy as np


def stage(workdir: Path) -> str:
    """Where a run is: the folder of the file that it wrote last, without numbers."""
    try:
        files = [
            f
            for f in workdir.rglob("*")
            if f.is_file() and f.name not in ("lock", "log.txt", "sweep.log", "timing.json")
        ]
        newest = max(files, key=lambda f: f.stat().st_mtime, default=None)
    except OSError:  # files come and go
        return "between files"
    if newest is None:
        return "before the first file"
    inside = newest.relative_to(workdir).parts
    place = "/".join(inside[:2] if inside[0] in ("attacks", "evaluation", "synthesis") else inside[:1])
    return re.sub(r"seed=\d.*", "a point", re.sub(r"\d{5}.*", "N", place))


def differences(reference: Path, workdir: Path) -> list[str]:
    """What differs between the results and attacks of two runs, and what should not be there."""
    found = []
    kept = (
        "results.jsonl",
        "summary.csv",
        *(f"{top}/**/*.{end}" for top in ("attacks", "evaluation") for end in ("npz", "npy")),
    )
    for pattern in [*kept, *(f"*/{pattern}" for pattern in kept)]:
        for file in reference.glob(pattern):
            other = workdir / file.relative_to(reference)
            if not other.exists():
                found.append(f"{file.relative_to(reference)} is missing")
            elif not same(file, other):
                found.append(f"{file.relative_to(reference)} differs")
    left = [f for f in workdir.rglob("*") if ".part" in f.name or "orbax-checkpoint-tmp" in f.name]
    return found + [f"{file.relative_to(workdir)} is left" for file in left]


def same(a: Path, b: Path) -> bool:
    """Whether two files hold the same bytes, or arrays."""
    if a.suffix != ".npz":
        return a.read_bytes() == b.read_bytes()
    with np.load(a) as one, np.load(b) as other:
        return one.files == other.files and all(one[k].tobytes() == other[k].tobytes() for k in one.files)
