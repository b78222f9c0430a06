"""The command line: `python -m dci_jax.main --config=configs/quickstart.py --workdir=runs/quickstart`.

Exit codes: 0 done; 2 something that the user can put right; 75 (EX_TEMPFAIL) stopped from outside, to
be started again with the same line; 130 stopped by Ctrl-C; 1 anything else.
"""

import json
import logging
import os
import re
import shlex
import sys
import warnings
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from dci_jax import cli_errors, experiment
from dci_jax.check import check
from dci_jax.errors import InputError, reason
from dci_jax.fingerprint import fingerprint
from dci_jax.plan import plan
from dci_jax.runtime import distributed, process, progress
from dci_jax.runtime.workdir import claim

_CONFIG = config_flags.DEFINE_config_file("config", None, "the experiment, such as configs/quickstart.py")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder for all that the run leaves; the same one resumes it")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "print the plan (blocks, parameters, FLOPs, memory, hours) and stop")
_PROFILE = flags.DEFINE_bool(
    "profile",
    False,
    "write traces of ten steps of each phase to WORKDIR/profile, for Perfetto or XProf",
)
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, where SLURM or Cloud TPU do not tell")
_PROCESSES = flags.DEFINE_integer("processes", 0, "how many processes there are; with --coordinator")
_PROCESS = flags.DEFINE_integer("process", -1, "which one this is, from 0; with --coordinator")


_FLAGS = (_CONFIG, _WORKDIR, _DRY_RUN, _PROFILE, _COORDINATOR, _PROCESSES, _PROCESS)
_FIELDS = "\nEvery field of the config is a flag, too, such as --config.batch=50; docs/fields.md explains every field."


def main(argv: list[str]) -> int:
    """Run the experiment. Returns the exit code."""
    process.prepare()
    if {"--help", "-h", "-help", "--helpfull"} & set(argv[1:]):
        print(
            __doc__,
            *(f"  --{f.name}: {flags.FLAGS[f.name].help}" for f in _FLAGS),
            _FIELDS,
            sep="\n",
        )
        return 0
    try:
        config, workdir = _read_flags(argv)
    except InputError as error:
        return _refuse(str(error))
    try:
        _run(config, workdir, "python -m dci_jax.main " + shlex.join(argv[1:]))
    except InputError as error:
        return _refuse(str(error))
    except distributed.Preempted:
        _say("stopped by SIGTERM, and saved; the same command line goes on.")
        return os.EX_TEMPFAIL
    except KeyboardInterrupt:
        warnings.simplefilter("ignore", RuntimeWarning)  # of a checkpoint's coroutine that nobody awaits any more
        _say(f"stopped by Ctrl-C; what was finished is kept in {workdir}, and the same command line goes on.")
        return 130
    except OSError as error:
        return _refuse(
            f"The run cannot go on ({error}). What it had finished is kept in {workdir}; put that right "
            "and give the same line again."
        )
    except jax.errors.JaxRuntimeError as error:
        if not distributed.lost(error):
            raise
        _say(f"another process of this run stopped ({reason(error)}); start all again.")
        return os.EX_TEMPFAIL
    return 0


def _read_flags(argv: list[str]) -> tuple[ConfigDict, Path]:
    """(config, workdir) of the command line. Raises InputError where it cannot be read."""
    # Configs import one another, "from configs import default", wherever they lie.
    files = re.findall(r"(?:^|\n)--?config[=\n]([^:\n]+)", "\n".join(argv))
    sys.path += [str(Path(file).absolute().parent.parent) for file in files]
    try:
        words = flags.FLAGS(argv)[1:]
        config, workdir = _CONFIG.value, _WORKDIR.value
        config is None or config.to_dict()  # a file that failed to load only says so when it is used
    except Exception as error:
        raise InputError(cli_errors.of_flags(error, argv)) from error
    if words:
        raise InputError(
            f"Unexpected argument {words[0]!r}; did you mean --{words[0].lstrip('-')}? (--help lists the flags)"
        )
    if config is None or workdir is None:
        raise InputError("Give --config=configs/quickstart.py (or another) and --workdir=FOLDER.")
    if not workdir.strip() or "\0" in workdir:
        raise InputError(f"--workdir is {workdir!r}; give a folder, such as runs/quickstart.")
    return config, Path(workdir)


def _run(config: ConfigDict, workdir: Path, command: str) -> None:
    """Check the config, then print its plan or run it."""
    distributed.connect(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    _log_to(None)
    case = check(config, planned=_DRY_RUN.value)
    if _DRY_RUN.value:
        print(plan(config, case))
        return
    plain = json.loads(config.to_json_best_effort())
    claim(workdir, plain, command, fingerprint(config, case))
    if distributed.is_leader():
        _log_to(workdir / "log.txt")
    if _PROFILE.value:
        progress.profile_to(workdir / "profile")
    experiment.run(config, case, workdir)


def _refuse(sentence: str) -> int:
    _say(sentence)
    return 2


def _say(sentence: str) -> None:
    print(f"dci_jax: {sentence}", file=sys.stderr, flush=True)


def _log_to(file: Path | None) -> None:
    handler = logging.FileHandler(file) if file else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("dci_jax")
    log.setLevel(logging.INFO if distributed.is_leader() else logging.WARNING)
    log.addHandler(handler)
    log.propagate = False


def run() -> None:
    """The program: `python -m dci_jax.main`, or `dci-jax`; `dci-jax demo` is a live page."""
    if not jax.config.jax_compilation_cache_dir:  # JAX_COMPILATION_CACHE_DIR
        jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "dci_jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # JAX keeps what takes a second to compile. A run has many hundreds of programs that take a fifth of that.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    if sys.argv[1:2] == ["demo"]:
        from dci_jax import demo

        sys.exit(demo.main(sys.argv[2:]))
    code = main(sys.argv)
    if code and jax.distributed.is_initialized():
        os._exit(code)  # leaving in an orderly way would wait for the other processes
    sys.exit(code)


if __name__ == "__main__":
    run()
