"""Runs killed at random moments, each given again until it ends: its files must be those of an undisturbed run.

Kinds of runs take turns: trained, solved and adapted inverters, a generator, an audit, eight devices, two processes, a sweep of
two, and `programs` beside the main line (the API, the converter, the trainers), which are stopped by signals alone.
A run is stopped by SIGKILL, SIGTERM or SIGINT, its disk fills up, takes no more writes, or is slow, its folder is moved away; then,
sometimes, the clock is set back (its files are then of tomorrow), and sometimes another run is started in the same folder. Processes are forks
of one that has imported everything and computed nothing. Needs Linux; the disk's faults also the right to mount.
"""

import collections
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import jax
from jax._src import xla_bridge

from benchmarks.soak import disks, folders, programs
from dci_jax import main

ROOT = Path(__file__).parent.parent.parent
SOLVED = ("--config.attacks=('dci',)",)
SMALL = (
    "--config.synthesis.batches=0",
    "--config.inputs.synthetic=0.0",
    *(
        f"--config.dci.{f}"
        for f in ("num_images=32", "num_validation=16", "batch=16", "num_corrections=1", "kernel_size=3")
    ),
)
TRAINED = ("--config.attacks=('dci_trained', 'dci_trained+refine')",)
QUICKLY = "--xla_backend_optimization_level=0"
if jax.__version_info__ >= (0, 12):  # programs with oneDNN cannot be kept for the next run
    QUICKLY += " --xla_cpu_experimental_onednn_custom_call=false"
CODES = (
    "--config.target.name=tests.conftest:narrow_generator",
    "--config.splits=('block2', 'image')",
    "--config.dci_trained.conquer=(('image', 2),)",
    "--config.refine.splits=('image',)",
)
DEFENDED = ("--config.defenses=(('none', 0.0), ('gaussian', 0.5))", "--config.attacks=('dci', 'adapted_dci')")
AUDIT = (  # of tiny.py, but judged as an audit
    "--config.audit.system=a kill",
    "--config.attacks=('dci', 'adapted_dci')",
    "--config.defenses=(('none', 0.0), ('quantize', 2.0))",
    "--config.num_queries=(1, 2)",
)
SWEEP = """from configs import tiny


def get_config():
    config = tiny.get_config()
    config.data.count = 3
    return config


def get_hyper(hyper):
    return hyper.sweep("config.seed", [0, 1])
"""


@dataclass(frozen=True)
class Kind:
    """How a run is made: its flags, how many simulated devices and processes it has, whether it is a sweep, or which of `programs`."""

    flags: tuple[str, ...] = ()
    devices: int = 1
    processes: int = 1
    sweep: bool = False
    program: str = ""

    @property
    def alone(self) -> bool:
        """Whether it is one run of the main line, whose folder has a lock and whose disk may fail."""
        return self.processes == 1 and not self.sweep and not self.program


KINDS = {
    "trained": Kind(TRAINED),
    "solved": Kind((*SOLVED, *SMALL, "--config.prior_fitting.steps=4", "--config.prior_fitting.batch=8")),
    "adapted": Kind((*DEFENDED, *SMALL)),
    "generator": Kind((*TRAINED, *CODES)),
    "eight devices": Kind((*SOLVED, *SMALL), devices=8),
    "two processes": Kind((*SOLVED, *SMALL), processes=2),
    "sweep of two": Kind((*SOLVED, *SMALL), sweep=True),
    "audit": Kind((*SMALL, *AUDIT)),
    **{name: Kind(program=name) for name in programs.PROGRAMS},
}
STOPS = {
    "SIGKILL": 0.42,
    "SIGTERM": 0.2,
    "SIGINT": 0.13,
    "disk full": 0.1,
    "disk read-only": 0.07,
    "slow disk": 0.03,
    "workdir gone": 0.05,
}
OTHERS = 0.15  # of the runs so far alone in their folder, how many meet a second
# What each may end with: 0 is a run that ended first, 1 a sweep that lost a point.
CODES_OF = {
    "SIGKILL": {0, -9},
    "SIGTERM": {0, 75, -15},
    "SIGINT": {0, 130, -2},
    "disk full": {0, 2},
    "disk read-only": {0, 2},
    "slow disk": {0, -9},
    "workdir gone": {0, 2},
}


def soak(count: int, minutes: float, jobs: int, seed: int, out: Path | None, command: str) -> int:
    """Kill until there were `count` kills, `jobs` runs at a time; writes JSON to `out` after every run that ended.

    All of them are forks of the pool's processes, which have one thread. Returns 1 if there is a fault.
    """
    found = json.loads(out.read_text()) if out and out.exists() else {"kills": 0, "runs": 0, "hits": {}, "faults": []}
    hits, met = (collections.Counter(found.get(kind, {})) for kind in ("hits", "second runs"))
    begin, before, number = time.monotonic(), found.get("seconds", 0), found["runs"]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(jobs, get_context("fork")) as pool:
        place, whole, running = Path(folder), {}, {}
        while True:
            while len(running) < jobs and found["kills"] < count and time.monotonic() - begin < 60 * minutes:
                name = list(KINDS)[number % len(KINDS)]
                if name not in whole:
                    whole[name] = pool.submit(undisturbed, name, place).result()
                rng = random.Random(f"{seed} {number}")
                running[pool.submit(disturbed, name, whole[name], place / f"run{number}", rng)] = number, name
                number += 1
            if not running:
                break
            for ended_run in wait(running, return_when=FIRST_COMPLETED).done:
                (events, others, faults), (which, name) = ended_run.result(), running.pop(ended_run)
                hits.update(events)
                met.update(others)
                found["kills"] += sum(events.values())
                found["faults"] += [f"run {which}, {name}: {fault}" for fault in faults]
                found |= {"runs": found["runs"] + 1, "hits": dict(sorted(hits.items())), "second runs": dict(met)}
                found |= {
                    "seconds": round(before + time.monotonic() - begin),
                    "command": command,
                    "jax": jax.__version__,
                }
                if out:
                    out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))
    return bool(found["faults"])


def undisturbed(name: str, place: Path) -> tuple[Path, float]:
    """(workdir, seconds) of a run that nobody disturbs; it compiles what the others find, for about half of its time."""
    workdir, begin = place / f"undisturbed {name}", time.monotonic()
    codes = [ended(process) for process in start(KINDS[name], workdir)]
    if any(codes):
        raise RuntimeError(f"{name} ends with {codes}: {said(workdir)}")
    return workdir, (time.monotonic() - begin) / 2


def disturbed(name: str, whole: tuple[Path, float], workdir: Path, rng: random.Random):
    """({"kind, stop, where": count}, {"refused": second runs}, faults) of one run that is stopped until it ends by itself."""
    kind, (reference, seconds) = KINDS[name], whole
    events, others, faults, codes = collections.Counter(), collections.Counter(), [], (None,)
    while any(code != 0 for code in codes) and not faults:
        stop = rng.choices(list(STOPS), STOPS.values())[0]
        disk = not kind.sweep and not kind.program and _disk(stop, workdir, rng)
        if ("disk" in stop and not disk) or (stop == "workdir gone" and not kind.alone):
            stop = "SIGKILL"  # where it may not mount, and where each process would be another case
        processes = start(kind, workdir)
        if stop == "slow disk":
            for process in processes:
                disks.slowed(workdir, process)
        if rng.random() < OTHERS and kind.alone:
            time.sleep(seconds / 3)
            if not waited(processes[0]):
                second = ended(start(kind, workdir)[0])
                if not waited(processes[0]):  # it is there still, so that the second had to be refused
                    others["refused" if second == 2 else "NOT REFUSED"] += 1
                    if second != 2:
                        faults.append(f"a second run in the folder ended with {second}: {said(workdir)}")
        # Early in each try: given again, it is stopped further on. A sweep has to import everything each time.
        # The longer it takes, the later: on a busy machine it would otherwise always be stopped before it has begun.
        window = (seconds if kind.sweep else seconds / 2) * (1 + sum(events.values()) / 10)
        deadline = time.monotonic() + rng.uniform(0, window)
        while time.monotonic() < deadline and not all(waited(p) for p in processes):
            time.sleep(0.002)
        where = folders.stage(workdir)
        gone = stop == "workdir gone" and disks.moved_away(workdir)
        if stop == "disk read-only":
            disks.only_readable(workdir)
        elif stop == "workdir gone":
            pass
        elif stop != "disk full":
            send(rng.choice(processes), kind, getattr(signal, stop, signal.SIGKILL))
            if kind.processes > 1 and stop != "SIGTERM":  # a host is lost: the scheduler ends the others
                for process in processes:
                    send(process, kind, signal.SIGKILL)
        codes = [ended(process) for process in processes]
        allowed = CODES_OF[stop]
        if kind.processes > 1 or kind.sweep:
            allowed = allowed | CODES_OF["SIGKILL"] | {1, 2, 130}
        if kind.processes > 1:
            allowed = allowed | {-signal.SIGABRT, 75}  # the others say that one stopped, or JAX ends them
        if not set(codes) <= allowed:
            faults.append(f"{stop} at {where} ends with {codes}: {said(workdir)}")
        elif "Traceback" in said(workdir) and kind.alone:
            faults.append(f"{stop} at {where} leaves a traceback: {said(workdir)}")
        if any(codes):
            events[f"{name}, {stop}, {where}"] += 1
        if disk:
            disks.unmount(workdir)
        written = disks.moved_back(workdir) if gone else []
        if "config.json" in written:  # moved before it was claimed: that was a run of its own, and this one goes on
            codes = (None,)
        elif written:
            faults.append(f"{written} was written where the workdir had been, from {where} on")
        if rng.random() < 0.1 and not kind.program:
            disks.set_back(workdir)
        if sum(events.values()) > 60:
            faults.append("does not end")
    faults += folders.differences(reference, workdir) if not faults else []
    shutil.rmtree(workdir, ignore_errors=True)
    return events, others, faults


def _disk(stop, workdir, rng):
    """Whether the run has a disk of its own now, for the fault that `stop` names."""
    if stop == "disk full":
        return disks.mount(workdir, rng)
    return stop in ("disk read-only", "slow disk") and disks.own(workdir, stop == "slow disk")


def arguments(kind: Kind, workdir: Path) -> list[str]:
    """The command line behind the program's name."""
    if kind.sweep:
        config = workdir.parent / "sweep" / "configs" / "swept.py"
        if not config.exists():  # another may be reading it
            config.parent.mkdir(parents=True, exist_ok=True)
            config.write_text(SWEEP)
        return ["local", f"--config={config}", f"--workdir={workdir}", "--jobs=2", *kind.flags]
    return ["--config=configs/tiny.py", f"--workdir={workdir}", "--config.data.count=3", *kind.flags]


def start(kind: Kind, workdir: Path) -> list[int]:
    """Process numbers of a run's processes, each the leader of its group; what they say goes to files beside the workdir."""
    assert not xla_bridge.backends_are_initialized()  # its threads would be lost in a fork
    more = [()]
    if kind.processes > 1:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            where = f"--coordinator=localhost:{free.getsockname()[1]}"
        more = [(where, f"--processes={kind.processes}", f"--process={i}") for i in range(kind.processes)]
    return [_forked(kind, workdir, [*arguments(kind, workdir), *flags], i) for i, flags in enumerate(more)]


def _forked(kind, workdir, words, number):
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setsid()
        log = os.open(f"{workdir}.{number}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(ROOT)
        cache = workdir.parent / f"cache {kind.devices} {kind.processes}"
        os.environ |= {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
        os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={kind.devices} {QUICKLY}"
        if kind.sweep:
            os.execv(sys.executable, [sys.executable, "-m", "launch.sweep", *words])
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["dci_jax.main", *words]
        code = programs.PROGRAMS[kind.program](workdir) if kind.program else main.main(sys.argv)
    except KeyboardInterrupt:  # before or behind what `main` catches
        code = 130
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


_codes = {}


def waited(process: int) -> bool:
    """Whether it has ended."""
    if process not in _codes:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            _codes[process] = os.waitstatus_to_exitcode(status)
    return process in _codes


def ended(process: int) -> int:
    """Its exit code, -N for signal N; killed if it takes five minutes."""
    deadline = time.monotonic() + 300
    while not waited(process):
        time.sleep(0.002)
        if time.monotonic() > deadline:
            os.killpg(process, signal.SIGKILL)
    return _codes[process]


def send(process: int, kind: Kind, number: signal.Signals) -> None:
    """A signal to the process, or, as at the end of a machine, to all of a sweep."""
    if not waited(process):
        (os.killpg if kind.sweep else os.kill)(process, number)


def said(workdir: Path) -> str:
    """The end of what the processes of a run have said."""
    logs = sorted(workdir.parent.glob(f"{workdir.name}.*.log"))
    return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)
