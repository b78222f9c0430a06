"""What the pages call attacks, baselines and defenses, and the colors of attacks in charts."""

import re
from dataclasses import dataclass

from dci_jax.attacks.naming import ADAPTED, ORACLE

_ORACLE_COLOR, _OTHER_COLOR = "#15803d", "#475569"

# Attack -> (label, color).
ATTACKS = {
    "dci": ("DCI, one forward pass", "#c2410c"),
    "dci_shared": ("DCI, one chain for all splits, one forward pass", "#be123c"),
    "dci_trained": ("DCI with trained inverters, one forward pass", "#9f1239"),
    "dci+refine": ("DCI, then white-box refinement", "#7c3aed"),
    "dci+unet": ("DCI, then a U-Net", "#b45309"),
    "dci_trained+refine": ("DCI with trained inverters, then white-box refinement", "#4338ca"),
    "dci+gauss_newton": ("DCI, then Gauss-Newton", "#0f766e"),
    "dci_trained+gauss_newton": ("DCI with trained inverters, then Gauss-Newton", "#115e59"),
    "inverse_network": ("inverse network (black box)", "#0369a1"),
    "rmle": ("rMLE from a blank image", "#64748b"),
    "gauss_newton": ("Gauss-Newton from the prior's mean", "#92400e"),
    "deepinversion": ("rMLE with BatchNorm statistics as its prior", "#a16207"),
    "deep_image_prior": ("deep image prior", "#be185d"),
}

BASELINES = {
    "mean_image": "mean of the other images",
    "random_image": "another private image",
    "thumbnail": "4 x 4 thumbnail of the image",
    "mean_latent": "the prior's mean",
    "random_latent": "another private latent",
}


@dataclass(frozen=True)
class Defense:
    """What a page says of a kind of defense.

    Attributes:
      unit: of its strength.
      source: where it was proposed.
    """

    unit: str
    source: str


DEFENSES = {
    "none": Defense("", "undefended features"),
    "gaussian": Defense("standard deviations of the features", "Titcombe et al., 2021"),
    "laplace": Defense("standard deviations of the features", "Titcombe et al., 2021"),
    "dropout": Defense("share of values dropped", "He et al., ACSAC 2019"),
    "dropout_marked": Defense("share of values dropped, positions sent", "He et al., ACSAC 2019"),
    "quantize": Defense("bits", "Choi & Bajić, ICIP 2018"),
    "topk": Defense("share of values kept", "magnitude sparsification"),
    "topk_channels": Defense("share of channels kept, for each image", "magnitude sparsification"),
    "jpeg": Defense("quality", "Choi & Bajić, ICIP 2018"),
    "prune_channels": Defense("share of channels pruned", "criterion of DISCO, Singh et al., CVPR 2021"),
    "bottleneck": Defense("channel reduction factor, in 8 bits", "Eshratifar et al., ISLPED 2019"),
    "nopeek": Defense("weight of distance correlation", "Vepakomma et al., ICDMW 2020"),
    "learned_noise": Defense("weight of the noise", "after Shredder, Mireshghallah et al., ASPLOS 2020"),
    "fisher_noise": Defense("bound on an unbiased attacker's PSNR, dB", "dFIL, Maeng et al., ICML 2023"),
    "codec": Defense("quantiser step, standard deviations of the features", "transform coding, as in MPEG's FCM"),
    "shuffle_tokens": Defense("share of tokens shuffled", "permutation of tokens; broken by SARA, 2026"),
    "drop_tokens": Defense("share of tokens dropped", "token pruning"),
    "merge_tokens": Defense("share of similar pairs merged", "ToMe, Bolya et al., ICLR 2023"),
}


def attack(name: str) -> str:
    """The label of an attack, "oracle" or a baseline: of "adapted_dci@pool x10", too; an unknown one's name."""
    name, queries = once(name)
    if name == ORACLE:
        return "oracle: learned from real images"
    if name in BASELINES:
        return f"baseline: {BASELINES[name]}"
    base, _, source = name.removeprefix(ADAPTED).partition("@")
    label = ATTACKS.get(base, (base,))[0]
    label += f", from {source} alone" if source else ""
    label += ", adapted to the defense" if name.startswith(ADAPTED) else ""
    return label + (f", {queries[2:]} queries of each image" if queries else "")


def color(name: str) -> str:
    """The color of an attack in charts; it does not change with the defense or the source."""
    base = name.removeprefix(ADAPTED).partition("@")[0]
    return _ORACLE_COLOR if name == ORACLE else ATTACKS.get(base, (base, _OTHER_COLOR))[1]


def defense(name: str) -> str:
    """The label of a defense with its strength, such as "gaussian 1"."""
    return "no defense" if name == "none" else name


def once(name: str) -> tuple[str, str]:
    """("gaussian 1", " x10") of "gaussian 1 x10"; of an attack, too: ten queries of each image are another attacker."""
    base, queries = re.fullmatch(r"(.*?)( x\d+)?", name).groups()
    return base, queries or ""
