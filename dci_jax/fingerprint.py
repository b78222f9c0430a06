"""What a run depends on besides its config, as sha256: other weights under the same path are another run."""

import hashlib
import inspect
from pathlib import Path

from ml_collections import ConfigDict

from dci_jax import import_from_string, models
from dci_jax.checkpoints import read
from dci_jax.evaluation.case import Case
from dci_jax.importers import bundle
from dci_jax.runtime.digest import sha256_of


def fingerprint(config: ConfigDict, case: Case) -> dict[str, str]:
    """Field of the config -> sha256 of what it stands for: weights, labels, images, the source of one's own functions.

    Args:
      config: as in configs/default.py.
      case: `check(config)`.
    """
    found = {field: sha256_of(arrays) for field, arrays in case.depends.items()}
    functions = {
        "target.name": config.target.name,
        "refine.prior": config.refine.prior,
        "rmle.prior": config.rmle.prior,
    }
    if config.target.name == models.BUNDLE:  # its graph; its weights are among the case's
        found["target.name"] = read.sha256(Path(config.target.weights) / bundle.MANIFEST)
    return found | {field: _source(name) for field, name in functions.items() if ":" in name}


def _source(name) -> str:
    file = inspect.getsourcefile(inspect.unwrap(import_from_string.function(name)))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()
