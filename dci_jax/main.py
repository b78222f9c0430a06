"""The command line: `python -m dci_jax.main --config=configs/quickstart.py --workdir=runs/quickstart`."""

import json
import logging
import shlex
import sys
from pathlib import Path

import jax
from absl import flags
from ml_collections import config_flags

from dci_jax import experiment
from dci_jax.errors import InputError
from dci_jax.plan import plan
from dci_jax.setting import check
from dci_jax.workdir import claim

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "the experiment, such as configs/quickstart.py"
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder for all that the run leaves; the same one resumes it"
)
_DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "print the plan (blocks, parameters, FLOPs, memory, hours) and stop"
)


def main(argv: list[str]) -> int:
    """Run the experiment. Returns the exit code: 0, or 2 for what the user can put right."""
    try:
        flags.FLAGS(argv)
        config, workdir = _CONFIG.value, _WORKDIR.value
        config is None or config.to_dict()  # a file that failed to load only says so when it is used
    except Exception as error:  # config files and overrides raise errors of every kind
        text = error.args[0] if isinstance(error, KeyError) else error
        sentence = " ".join(str(text).replace("\\n", " ").replace("\\'", "'").split())
        return _refuse(f"{sentence} (configs/default.py explains every field)")
    if config is None or workdir is None:
        return _refuse("Give --config=configs/quickstart.py (or another) and --workdir=FOLDER.")
    workdir = Path(workdir)
    _log_to(None)
    try:
        setting = check(config)
        if _DRY_RUN.value:
            print(plan(config, setting))
            return 0
        command = "python -m dci_jax.main " + shlex.join(argv[1:])
        claim(workdir, json.loads(config.to_json_best_effort()), command)
        _log_to(workdir / "log.txt")
        experiment.run(config, setting, workdir)
    except InputError as error:
        return _refuse(str(error))
    return 0


def _refuse(sentence: str) -> int:
    print(f"dci_jax: {sentence}", file=sys.stderr)
    return 2


def _log_to(file: Path | None) -> None:
    handler = logging.FileHandler(file) if file else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log = logging.getLogger("dci_jax")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False


if __name__ == "__main__":
    jax.config.update("jax_compilation_cache_dir", str(Path.home() / ".cache" / "dci_jax"))
    sys.exit(main(sys.argv))
