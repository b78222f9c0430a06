"""The least settings at which a failed attack is evidence: one table, which configs/audit.py meets.

An audit counts what a weaker attack leaks, and does not count what it does not leak.
"""

from collections.abc import Mapping
from typing import Any

from dci_jax.settings.ranges import Range

# Dotted field -> what an audit asks of its number; of several numbers, one range each.
SUFFICIENT = {
    "prior_fitting.steps": Range(60),
    "inputs.white_noise": Range(0, 0.5),
    "dci.num_images": Range(96),
    "dci.num_validation": Range(32),
    "dci.num_corrections": Range(2),
    "dci.kernel_size": Range(3),
    "dci.max_unknowns": (Range(3000), Range(1500)),
    "dci.samples_per_unknown": Range(40),
    "refine.steps": Range(100),
    "refine.learning_rate": Range(1e-3, 0.2),
    "refine.num_validation": Range(4),
    "rmle.steps": Range(1000),
    "rmle.learning_rate": Range(1e-3, 0.2),
    "rmle.total_variation": Range(0, 1),
    "gauss_newton.steps": Range(4),
    "gauss_newton.inner": Range(15),
    "gauss_newton.damping": Range(1e-4, 1),
    "gauss_newton.num_validation": Range(4),
    "inverse_network.steps": Range(100),
    "inverse_network.width": Range(16),
    "inverse_network.batch": Range(16),
    "inverse_network.learning_rate": Range(1e-4, 0.05),
    "unet.steps": Range(500),
    "unet.width": Range(16),
    "unet.num_images": Range(2048),
    "unet.batch": Range(16),
    "unet.learning_rate": Range(1e-4, 0.02),
    "deepinversion.steps": Range(1000),
    "deepinversion.learning_rate": Range(1e-3, 0.2),
    "deepinversion.total_variation": Range(0, 1),
    "deep_image_prior.steps": Range(500),
    "deep_image_prior.width": Range(16),
    "deep_image_prior.learning_rate": Range(1e-4, 0.1),
    "dci_trained.width": Range(1),
    "dci_trained.batch": Range(16),
    "dci_trained.divide_steps": Range(100),
    "dci_trained.learning_rate": Range(1e-4, 0.05),
}
_LEARNS = ("prior_fitting", "inputs")  # sections of what every attack that learns is given


def shortfalls(config: Mapping[str, Any], section: str) -> list[str]:
    """A sentence for each setting of an attack that is below `SUFFICIENT`, with its value and the one to give.

    Args:
      config: nested, as in configs/default.py.
      section: of the attack, such as "dci".
    """
    found = []
    for field, asked in SUFFICIENT.items():
        of, name = field.split(".")
        if of not in (section, *_LEARNS):
            continue
        value = config[of][name]
        several = isinstance(asked, tuple)
        if not all(
            v in r for v, r in zip(value if several else (value,), asked if several else (asked,), strict=False)
        ):  # of another length: refused later
            wanted = tuple(f"{r.low:g}" for r in asked) if several else asked
            text = (
                f"at least ({', '.join(wanted)})"
                if several
                else str(wanted).removeprefix("a number ").removeprefix("of ")
            )
            found.append(f"{field} is {tuple(value) if several else value}; give {text}")
    return found
