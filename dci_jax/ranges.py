"""What each number of a config may be: one table, checked before any work, shown in docs/fields.md.

A learning rate below zero or a weight of nothing would run to the end, and a crippled attack reads as a safe split.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from dci_jax.errors import InputError


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; NaN is in none.

    Attributes:
      low: the least.
      high: the greatest.
      above: `low` itself is left out.
      below: `high` itself is left out.
      whole: integers only.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False

    def __contains__(self, value: float) -> bool:
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return low and high and not (self.whole and value % 1)

    def __str__(self) -> str:
        kind = "a whole number " if self.whole else "a number "
        least = f"{'above' if self.above else 'of at least'} {self.low:g}"
        most = "" if self.high == math.inf else f" and {'below' if self.below else 'at most'} {self.high:g}"
        return f"{kind}{least}{most}"


COUNT, SOME = Range(1, whole=True), Range(0, whole=True)
WEIGHT = Range(0, below=True)  # below infinity
POSITIVE = Range(0, above=True, below=True)
RATE = Range(0, 10, above=True)  # of learning; pixels and weights alike are of the order of 1
SHARE, BETA = Range(0, 1), Range(0, 1, below=True)

# Dotted field -> what its number, or each number in it, may be.
RANGES = {
    "seed": Range(0, 2**32 - 1, whole=True),
    "target.side": SOME,
    "data.count": SOME,
    "batch": COUNT,
    "inputs.bank": WEIGHT,
    "inputs.dead_leaves": WEIGHT,
    "inputs.pink_noise": WEIGHT,
    "inputs.white_noise": WEIGHT,
    "inputs.side": SOME,
    "calibration.steps": SOME,
    "calibration.batch": COUNT,
    "calibration.learning_rate": RATE,
    "calibration.padding": SOME,
    "synthesis.batches": SOME,
    "synthesis.batch": COUNT,
    "synthesis.stages": COUNT,
    "synthesis.learning_rate": RATE,
    "synthesis.warmup": SOME,
    "synthesis.betas": BETA,
    "synthesis.statistics": WEIGHT,
    "synthesis.first": WEIGHT,
    "synthesis.cross_entropy": WEIGHT,
    "synthesis.total_variation": WEIGHT,
    "synthesis.l2": WEIGHT,
    "synthesis.jitter": SOME,
    "sends": Range(1, 1000, whole=True),
    "defense.steps": COUNT,
    "audit.ssim": Range(0, 1),
    "audit.psnr": WEIGHT,
    "audit.structure": Range(0, 1, above=True),
    "audit.leaking": Range(0, 1),
    "audit.label_kept": Range(0, 1),
    "dci_trained.width": POSITIVE,
    "dci_trained.cap": Range(8, 2**14, whole=True),
    "dci_trained.rounds": Range(1, 100, whole=True),
    "dci_trained.depth": Range(1, 100, whole=True),
    "dci_trained.layer": WEIGHT,
    "dci_trained.image": WEIGHT,
    "dci_trained.cycle": WEIGHT,
    "dci_trained.batch": COUNT,
    "dci_trained.learning_rate": RATE,
    "dci_trained.divide_steps": SOME,
    "dci_trained.conquer_learning_rate": RATE,
    "dci_trained.conquer_warmup": SOME,
    "dci_trained.conquer_clip": Range(0, above=True),
    "dci_trained.deepest_steps": SOME,
    "dci_trained.conquer": COUNT,
    "dci.images": Range(16, whole=True),
    "dci.held_out": Range(8, whole=True),
    "dci.batch": COUNT,
    "dci.rounds": SOME,
    "dci.size": Range(1, 7, whole=True),
    "dci.unknowns": COUNT,
    "dci.equations": COUNT,
    "deepinversion.statistics": WEIGHT,
    "deep_image_prior.width": Range(1, 1024, whole=True),
    "deep_image_prior.levels": Range(1, 10, whole=True),
    "gauss_newton.steps": COUNT,
    "gauss_newton.inner": COUNT,
    "gauss_newton.damping": POSITIVE,
    "gauss_newton.total_variation": WEIGHT,
    "gauss_newton.held_out": COUNT,
    "inverse_network.width": Range(1, 512, whole=True),
    "inverse_network.batch": COUNT,
    "inverse_network.learning_rate": RATE,
    "inverse_network.steps": COUNT,
    **{
        f"{section}.{field}": allowed
        for section in ("refine", "rmle", "deepinversion", "deep_image_prior")
        for field, allowed in (("steps", COUNT), ("learning_rate", RATE), ("total_variation", WEIGHT))
    },
    **{
        f"{section}.{field}": WEIGHT
        for section in ("refine", "rmle")
        for field in ("total_variation_at", "prior_weight")
    },
}

# How many of the run's split points an attack takes.
COSTLY = ("refine", "rmle", "deepinversion", "deep_image_prior", "gauss_newton", "inverse_network")
RANGES |= {f"{section}.num_splits": SOME for section in COSTLY}

# (field, kind) -> strengths of a defense or of a damage.
STRENGTHS = {
    ("defenses", "none"): Range(0, 0),
    ("defenses", "gaussian"): POSITIVE,
    ("defenses", "laplace"): POSITIVE,
    ("defenses", "dropout"): Range(0, 1, above=True, below=True),
    ("defenses", "dropout_marked"): Range(0, 1, above=True, below=True),
    ("defenses", "quantize"): Range(1, 16, whole=True),
    ("defenses", "topk"): Range(0, 1, above=True, below=True),
    ("defenses", "topk_channels"): Range(0, 1, above=True, below=True),
    ("defenses", "jpeg"): Range(1, 95, whole=True),
    ("defenses", "prune_channels"): Range(0, 1, above=True, below=True),
    ("defenses", "bottleneck"): Range(1, 1024, above=True),
    ("defenses", "nopeek"): POSITIVE,
    ("defenses", "learned_noise"): POSITIVE,
    ("damages", "none"): Range(0, 0),
    ("damages", "gaussian"): POSITIVE,
    ("damages", "blur"): POSITIVE,
    ("damages", "mask"): Range(0, 1, above=True),
    ("damages", "quantize"): Range(1, 16, whole=True),
}


# Fields that hold several things -> what each of them is, with an example. Names of split points besides: "splits" of
# the run and of each section.
FORMS = {
    "attacks": ((str,), "('dci', 'rmle')"),
    "defenses": ((str, float), "(('none', 0.0), ('gaussian', 0.5))"),
    "sends": ((int,), "(1, 10)"),
    "damages": ((str, float), "(('blur', 1.0),)"),
    "calibration.padding": ((int,), "(0, 4)"),
    "synthesis.stages": ((int, int), "((32, 150),)"),
    "dci_trained.conquer": ((str, int), "(('layer1.2', 100),)"),
    "refine.total_variation_at": ((str, float), "(('stem', 0.1),)"),
    "rmle.total_variation_at": ((str, float), "(('stem', 0.1),)"),
}
# Numbers without a form, any or as many as their section checks; and what is True or False. The rest are texts.
SEVERAL = ("synthesis.betas", "dci.unknowns", "gauss_newton.total_variation")
SWITCHES = ("audit.page", "dci_trained.remat", "target.deploy")
SPLITS = ("", "dci.", *(f"{section}." for section in COSTLY))


def check_forms(config: ConfigDict) -> None:
    """Raise InputError where a field that holds several things holds others, or not as many in each; or a text's none."""
    forms = FORMS | {f"{section}splits": ((str,), "('stem',)") for section in SPLITS}
    for field, value in _fields(config):
        kind, what = (bool, "True or False") if field in SWITCHES else (str, "a text")
        if field not in RANGES and field not in forms and not isinstance(value, kind):
            raise InputError(f"{field} is {_shown(value)}; give it {what}.")
    for field, (kinds, example) in forms.items():
        value = _value(config, field)
        for part in value if isinstance(value, tuple | list) else ((value,),):
            parts = (part,) if len(kinds) == 1 else part
            fits = isinstance(parts, tuple | list) and len(parts) == len(kinds)
            if not fits or not all(
                isinstance(p, int | k if k is float else k) for p, k in zip(parts, kinds, strict=True)
            ):
                raise InputError(f"{field} is {_shown(value)}; give it such as {example}.")


def check_ranges(config: ConfigDict) -> None:
    """Raise InputError where a number of the config is out of its range, whether its section runs or not."""
    for field, value in _fields(config):
        if value is None:
            raise InputError(f"{field} is None; give it a value (configs/default.py explains each field).")
    check_forms(config)
    for field, allowed in RANGES.items():
        value = _value(config, field)
        listed = isinstance(value, tuple | list) and field in SEVERAL
        for number in numbers(value) if field in FORMS else value if listed else (value,):
            if not isinstance(number, int | float) or number not in allowed:
                several = "for each of its numbers " if field in (*FORMS, *SEVERAL) else ""
                raise InputError(f"{field} is {_shown(value)}; give {several}{allowed}.")
    for field in ("defenses", "damages"):
        labels = []
        for kind, strength in config[field]:
            if field == "defenses" and ":" in kind:
                continue
            if (field, kind) not in STRENGTHS:
                kinds = [k for f, k in STRENGTHS if f == field]
                raise InputError(f"No {field[:-1]} is called {kind!r}; choose from: {', '.join(kinds)}.")
            allowed = STRENGTHS[field, kind]
            if strength not in allowed:
                raise InputError(f"{field} gives {kind!r} the strength {strength}; give {allowed}.")
            labels.append(f"{kind} {strength:g}")
            if labels.count(labels[-1]) > 1:
                raise InputError(f"{field} names {labels[-1]!r} twice (six digits count); name it once.")
    if config.dci_trained.layer + config.dci_trained.image + config.dci_trained.cycle == 0:
        raise InputError("dci_trained.layer, .image and .cycle are all 0; give one of them a weight.")


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a field: itself, or those of a tuple and of the tuples in it."""
    if isinstance(value, tuple | list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def table() -> str:
    """docs/fields.md: the ranges as a page of Markdown."""
    rows = [f"| `{field}` | {allowed} |" for field, allowed in RANGES.items()]
    rows += [f"| `{field}`, strength of `{kind}` | {r} |" for (field, kind), r in STRENGTHS.items()]
    return "\n".join(
        (
            "# What each number of a config may be",
            "",
            "Checked before any work; what a field means is said beside it in `configs/default.py`. Of a field that holds "
            "several numbers each is meant.",
            "",
            "| field | range |",
            "|---|---|",
            *rows,
            "",
            "Made by `python -c 'from dci_jax import ranges; print(ranges.table(), end=\"\")' > docs/fields.md`.",
            "",
        )
    )


def _fields(config, above=""):
    """(name, value) of every field, such as "dci.images"."""
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{above}{name}.")
        else:
            yield above + name, value


def _value(config, field):
    for name in field.split("."):
        config = config[name]
    return config


def _shown(value):
    return tuple(value) if isinstance(value, list) else value
