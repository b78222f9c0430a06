"""The data-free audit of RepVGG-A0 at 224 px: synthesised from its training form, attacked in its deploy form.

    python -m dci_jax.main --config=configs/repvgg_a0.py --workdir=runs/repvgg_a0 \\
        --config.data.images=photographs/ --config.data.labels=labels.csv

Hardware: one accelerator with 80 GB. Not run yet, and its weights were not at hand: --dry_run states FLOPs, memory
and an estimate of the hours, once they are.
"""

from configs import imagenet


def get_config():
    config = imagenet.get_config()
    config.target.name = "repvgg_a0"
    config.target.deploy = True
    config.dci.conquer = (
        ("stages.0.1", 1000),
        ("stages.1.3", 2000),
        ("stages.2.13", 6000),
        ("stages.3.0", 2000),
    )
    config.refine.splits = ("stages.0.1", "stages.1.3", "stages.2.13", "stages.3.0")
    return config
