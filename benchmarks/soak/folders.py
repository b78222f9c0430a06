"""What the folder of a run says: where the run is, and whether its files are those of another."""

import multiprocessing
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp


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
        "*.safetensors",
        "bundle.json",
        *(f"{top}/**/*.{end}" for top in ("prior", "attacks", "evaluation") for end in ("npz", "npy")),
    )
    for pattern in [*kept, *(f"*/{pattern}" for pattern in kept)]:
        for file in reference.glob(pattern):
            other = workdir / file.relative_to(reference)
            if not other.exists():
                found.append(f"{file.relative_to(reference)} is missing")
            elif not same(file, other):
                found.append(f"{file.relative_to(reference)} differs")
    found += _checkpoints(reference, workdir)
    left = [f for f in workdir.rglob("*") if ".part" in f.name or "orbax-checkpoint-tmp" in f.name]
    return found + [f"{file.relative_to(workdir)} is left" for file in left]


def _checkpoints(reference, workdir):
    """What differs between the arrays in the last checkpoints of two runs, which themselves hold times.

    In a process of its own: reading them starts JAX, and a process that has begun to compute cannot be forked.
    """
    steps = sorted((m.parent for m in reference.rglob("_CHECKPOINT_METADATA")), key=lambda step: int(step.name))
    last = {step.parent: step for step in steps}.values()
    if not last:
        return []
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(_that_differ, list(last), reference, workdir).result()


def _that_differ(checkpoints, reference, workdir):
    found = []
    for checkpoint in checkpoints:
        inside = checkpoint.relative_to(reference)
        if not (workdir / inside / "default").exists():
            found.append(f"{inside} is missing")
            continue
        one, other = (_arrays(top / inside / "default") for top in (reference, workdir))
        if one.keys() != other.keys() or any(one[name].tobytes() != other[name].tobytes() for name in one):
            found.append(f"{inside} differs")
    return found


def _arrays(checkpoint):
    """Path in the tree -> array."""
    handler = ocp.PyTreeCheckpointHandler()
    metadata = handler.metadata(checkpoint).tree
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
    tree = handler.restore(checkpoint, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def same(a: Path, b: Path) -> bool:
    """Whether two files hold the same bytes, or arrays."""
    if a.suffix != ".npz":
        return a.read_bytes() == b.read_bytes()
    with np.load(a) as one, np.load(b) as other:
        return one.files == other.files and all(one[k].tobytes() == other[k].tobytes() for k in one.files)
