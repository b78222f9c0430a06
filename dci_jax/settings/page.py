"""Make docs/fields.md from the tables: every field with its default, range and meaning."""

from typing import Any

from dci_jax.settings.fields import FIELDS
from dci_jax.settings.ranges import STRENGTHS

# Section -> description; "" holds the fields outside sections.
SECTIONS = {
    "": "What to run: features, split points, attacks and defenses.",
    "target": "The network under attack.",
    "data": "The private images. They are for evaluation only; no attack sees them.",
    "defense": "What `bottleneck`, `prune_channels`, `nopeek`, `learned_noise`, `fisher_noise` and `codec` learn from.",
    "lpips": "LPIPS (v0.1, AlexNet) is measured if both files are given; otherwise it is null.",
    "audit": "An image leaks if its reconstruction passes one of these thresholds and beats "
    "every baseline of that image by a margin. The thresholds are ours; no published ones exist (docs/audit.md).",
    "inputs": "What the inverters learn from: shares of every batch. The paper uses synthetic=1, the others 0 and "
    'synthesis.start="white_noise" (configs/paper.py).',
    "prior_fitting": "A filter of colours and frequencies (66 numbers) for procedural images. It is fitted "
    "until their statistics match the running statistics of the network's early BatchNorm layers.",
    "synthesis": "Images that are synthesised from the network's BatchNorm statistics: the synthetic pool.",
    "verifier": "Another network that checks the synthesised images: does it predict their labels, too?",
    "dci_trained": "`dci_trained`: inverters trained as in the paper (configs/paper.py).",
    "dci": "`dci`, a chain of solved inverters for each split point, and `dci_shared`, one chain for all of them.",
    "refine": "`dci+refine`: rMLE that starts from DCI's reconstruction.",
    "rmle": "`rmle`: each image is optimised from a blank one, with Adam.",
    "deepinversion": "`deepinversion`: rMLE with the network's BatchNorm statistics as its prior.",
    "deep_image_prior": "`deep_image_prior`: an untrained network for each image.",
    "gauss_newton": "`gauss_newton`, and `dci+gauss_newton` from DCI's reconstruction, for images or latents.",
    "inverse_network": "`inverse_network`: one trained decoder for each split point.",
    "unet": "`dci+unet`: a U-Net for each split point, trained to correct DCI's reconstruction.",
    "oracle": "An attack trained on real images of the private ones' distribution: an upper reference, and not "
    "data-free. Images that are also evaluated are left out.",
}


def page() -> str:
    """The text of docs/fields.md."""
    lines = [
        "# Every field of a config",
        "",
        "Set a field by a flag, such as `--config.batch=50`, or in a config file. All fields are checked before any "
        "work, even in sections that do not run. Whole numbers are at most 2147483647, unless another limit is given.",
    ]
    for section, about in SECTIONS.items():
        rows = [
            f"| `{name}` | {_shown(f.default)} | {_form(f.form)} | {_cell(f.meaning)} |" for name, f in _of(section)
        ]
        lines += ["", f"## {section or 'The run'}", "", about, ""]
        lines += ["| field | default | range | meaning |", "|---|---|---|---|", *rows]
    for field in ("defenses", "corruptions"):
        rows = [f"| `{kind}` | {allowed} |" for (of, kind), allowed in STRENGTHS.items() if of == field]
        lines += ["", f"## Strengths of {field}", "", f"| kind | strength in `{field}` |", "|---|---|", *rows]
    made = "python -c 'from dci_jax.settings.page import page; print(page(), end=\"\")' > docs/fields.md"
    return "\n".join((*lines, "", f"Made by `{made}`.", ""))


def _of(section):
    return [(name, field) for name, field in FIELDS.items() if name.rpartition(".")[0] == section]


def _shown(value: Any) -> str:
    return _cell("empty" if value == "" else f"`{value}`")


def _form(form: Any) -> str:
    return _cell({str: "a string", bool: "True or False"}.get(form, str(form)))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
