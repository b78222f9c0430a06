"""One config file, many runs: expands its `get_hyper` and starts one run per point, each in a workdir of its own.

    python -m launch.sweep local      --config=configs/sweep_inverters.py --workdir=runs/sweep --jobs=2
    python -m launch.sweep slurm      --config=... --workdir=... --jobs=8 [--dry_run]    # one job array
    python -m launch.sweep kubernetes --config=... --workdir=... --jobs=8 --image=... --claim=... [--dry_run]
    python -m launch.sweep status     --config=... --workdir=...

Further arguments go to every run. Points that have a report are skipped, those that failed are listed;
the same line again retries them. It schedules nothing itself: SLURM and Kubernetes do.
"""

import argparse
import difflib
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from launch import hyper, jobset

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Point:
    """One run of a sweep: its folder, the arguments of `dci_jax.main`."""

    workdir: Path
    arguments: tuple[str, ...]

    @property
    def finished(self) -> bool:
        """Whether its report, the last thing that a run writes, is there."""
        return (self.workdir / "report" / "index.html").exists()


def expand(config: str, workdir: Path, more: list[str]) -> list[Point]:
    """The points of a sweep, in the order of `get_hyper`; ValueError if there is none, one twice, or one that no run would take."""
    file, _, variant = config.partition(":")
    found = overrides(file, variant, more)
    names = [name(each) for each in found]
    points = []
    for each, short in zip(found, names, strict=True):
        flags = {"config": config, **each}
        arguments = [f"--{k}={v if isinstance(v, str) else repr(v)}" for k, v in flags.items()]
        folder = workdir / (short if names.count(short) == 1 else f"{short}_{digest(each)}")  # "a b" and "a/b"
        points.append(Point(folder, (*arguments, *more, f"--workdir={folder}")))
    if len({point.workdir for point in points}) < max(len(points), 1):
        raise ValueError(f"get_hyper in {file} gives {len(points)} points; give one or more, each once.")
    return points


def overrides(file: str, variant: str, more: list[str]) -> list[dict]:
    """What `get_hyper` of a config file gives; ValueError if a flag of it, or of the words `more`, is no field of its `get_config`."""
    if not Path(file).is_file():
        raise ValueError(f"No config file at {file!r}; give --config=configs/sweep_inverters.py, say.")
    spec = importlib.util.spec_from_loader("swept", importlib.machinery.SourceFileLoader("swept", file))
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(ROOT))  # config files import one another
    step = "fails to load"
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_hyper"):
            raise ValueError(f"{file} has no get_hyper(hyper); launch/hyper.py shows how to write one.")
        step = f"has a get_config that fails{f' for {variant!r}' * bool(variant)}"
        config = module.get_config(*[variant] * bool(variant))
        step = "has a get_hyper that fails"
        found = module.get_hyper(hyper)
    except (Exception, SystemExit) as error:  # of every kind: it is the user's file
        if isinstance(error, ValueError) and file in str(error):
            raise
        raise ValueError(f"{file} {step} ({type(error).__name__}: {error}); correct it.") from error
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError(
            f"get_hyper in {file} gives a {type(found).__name__}; let it return a list of {{flag: value}}."
        )
    known = {f"config.{name}" for name, of in config.items() if not hasattr(of, "keys")} | {"config"}
    known |= {f"config.{section}.{field}" for section, of in config.items() if hasattr(of, "keys") for field in of}
    for flag in dict.fromkeys(flag for each in found for flag in each):
        if flag not in known:
            raise ValueError(_no_flag(f"get_hyper in {file} sets {flag!r}", flag, known))
    for word, flag in _flags(more):
        if flag not in known:
            raise ValueError(_no_flag(f"The command line has {word!r}", flag, known))
    return found


def _flags(words):
    """(word, its field's name) of each flag; a word behind one without "=" is its value."""
    value = False
    for word in words:
        name, equals, _ = word.lstrip("-").partition("=")
        dashed = word.startswith("-")
        if not dashed and value:
            value = False
            continue
        value = dashed and not equals
        if not dashed or name.startswith("config"):
            yield word, name if dashed else word
        elif name.startswith("noconfig."):
            yield word, name.removeprefix("no")
        elif name.removeprefix("no") not in ("profile", "verbosity", "v", "alsologtostderr", "logtostderr"):
            yield word, name


def _no_flag(what, flag, known):
    near = difflib.get_close_matches(str(flag), known, 1)
    hint = f", such as {near[0]}." if near else "."
    return f"{what}, which is not a flag of a run; give --config.FIELD=VALUE with a field of docs/fields.md{hint}"


def digest(overrides: dict) -> str:
    """Six hex digits of a point."""
    return hashlib.sha256(json.dumps(overrides, default=str).encode()).hexdigest()[:6]


def name(overrides: dict) -> str:
    """A folder's name that says what is special in it, such as "dci_trained.width=1.5,seed=0"."""
    text = ",".join(f"{k.removeprefix('config.')}={v}" for k, v in overrides.items())
    short = re.sub(r"[^\w.,=+-]+", "_", text).strip("_")
    return short if len(short) <= 80 else f"{short[:73]}_{digest(overrides)}"


def line(point: Point) -> list[str]:
    """The command of one run."""
    return [sys.executable, "-m", "dci_jax.main", *point.arguments]


def run_here(points: list[Point], jobs: int, gpus: list[str], dry_run: bool) -> int:
    """Start the unfinished points, so many at a time, on one GPU each where `gpus` names them.

    Ctrl-C and SIGTERM reach every run, which saves and stops. Returns the number of points left undone.
    """
    slots, running, stop = queue.SimpleQueue(), set(), []
    for slot in gpus or range(jobs):
        slots.put(slot)

    def one(point):
        if point.finished or stop:
            return 0
        command = line(point)
        if dry_run:
            print(shlex.join(command))
            return 0
        try:
            point.workdir.mkdir(parents=True, exist_ok=True)
            log = (point.workdir / "sweep.log").open("w")
        except OSError as error:
            print(f"failed: {point.workdir} cannot be written ({error})", flush=True)
            return 2
        slot = slots.get()
        environment = os.environ | ({"CUDA_VISIBLE_DEVICES": slot} if gpus else {})
        with log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            running.add(process)
            code = process.wait()
            running.discard(process)
        slots.put(slot)
        print(f"{'finished' if code == 0 else f'failed ({code})'}: {point.workdir}", flush=True)
        return code

    def end(number, _):
        stop.append(number)
        for process in tuple(running):
            process.send_signal(signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    with ThreadPoolExecutor(len(gpus) or jobs) as pool:
        codes = list(pool.map(one, points))
    return sum(code != 0 for code in codes) + (len(stop) and not any(codes))


def status(points: list[Point]) -> str:
    """One line for each point: finished, or the last line of its log."""
    lines = []
    for point in points:
        log = point.workdir / "sweep.log"
        said = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        state = "finished" if point.finished else said[0] if said else "not started"
        lines.append(f"{point.workdir}: {state}")
    done = sum(point.finished for point in points)
    return "\n".join([*lines, f"{done} of {len(points)} finished"])


def _folder(value):
    if not value:
        raise argparse.ArgumentTypeError("it is empty; give the folder of the points' workdirs")
    return Path(value)


def _check(known, count):
    """ValueError for a flag that would start something else, or nothing."""
    if known.jobs < 1:
        raise ValueError(f"--jobs is {known.jobs}; give at least 1.")
    if known.place == "point" and not 0 <= known.index < count:
        raise ValueError(f"--index is {known.index}; give 0 to {count - 1}.")
    if known.place == "slurm" and not known.dry_run and not shutil.which("sbatch"):
        raise ValueError("There is no sbatch on the PATH; start this where SLURM is, or give --dry_run.")
    if known.place == "kubernetes" and (found := jobset.wrong(known)):
        raise ValueError(found)


def main(argv: list[str]) -> int:
    """The command line. Returns the exit code: 0, 1 if points are left undone, 2 for bad input."""
    parser = argparse.ArgumentParser(prog="python -m launch.sweep", description=__doc__.split("\n")[0])
    places = parser.add_subparsers(dest="place", required=True)
    for place in ("local", "slurm", "kubernetes", "status", "point"):
        sub = places.add_parser(place, allow_abbrev=False)
        sub.add_argument("--config", required=True, help="file with get_config and get_hyper")
        sub.add_argument("--workdir", required=True, type=_folder, help="folder of the points' workdirs")
        sub.add_argument("--dry_run", action="store_true", help="print what would be started")
        sub.add_argument("--jobs", type=int, default=1, help="points at a time")
        if place == "local":
            sub.add_argument("--gpus", default="", help="such as 0,1,2,3: one point on each at a time")
        if place == "point":
            sub.add_argument("--index", type=int, required=True, help="which one to become")
        if place == "kubernetes":
            jobset.add_arguments(sub)
    known, more = parser.parse_known_args(argv)
    try:
        points = expand(known.config, known.workdir, more)
        _check(known, len(points))
    except ValueError as error:
        print(f"launch.sweep: {error}", file=sys.stderr)
        return 2
    own = [f"--config={known.config}", f"--workdir={known.workdir}", *more]
    if known.place == "point":
        if points[known.index].finished:
            return 0
        os.execv(sys.executable, line(points[known.index]))
    if known.place == "slurm":
        array = f"--array=0-{len(points) - 1}%{known.jobs}"
        one_gpu = ["--nodes=1", "--ntasks-per-node=1", "--gpus-per-node=1"]
        command = ["sbatch", array, *one_gpu, str(ROOT / "launch" / "slurm.sh"), "sweep", *own]
        print(shlex.join(command), flush=True)
        return 0 if known.dry_run else subprocess.run(command).returncode
    if known.place == "kubernetes":
        container = [
            "python",
            "-m",
            "launch.sweep",
            "point",
            "--index=$(JOB_COMPLETION_INDEX)",
            *own,
        ]
        return jobset.start(jobset.array(known, container, len(points)), known.dry_run)
    if known.place == "status":
        print(status(points))
        return int(not all(point.finished for point in points))
    undone = run_here(points, known.jobs, [g for g in known.gpus.split(",") if g], known.dry_run)
    if not known.dry_run:
        print(status(points))
        if not undone:
            folders = shlex.join(str(point.workdir) for point in points)
            print(f"Together: python -m dci_jax.report {folders}")
    return int(undone > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
