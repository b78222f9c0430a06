"""Any converted PyTorch network (docs/networks.md), attacked at all its split points, on CPU cores.

    python -m dci_jax.convert timm:mobilenetv3_small_100 --out=bundles/mobilenetv3
    python -m dci_jax.main --config=configs/bundle.py --workdir=runs/mobilenetv3 --config.target.weights=bundles/mobilenetv3

--config.splits=('blocks.1.1', 'blocks.2.2') takes two of them, --dry_run plans. What three networks for 32 px give, and how
long it takes: docs/networks.md.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.target.name = "bundle"
    config.attacks = ("dci",)
    config.dci.num_images = 512
    config.dci.num_corrections = 3
    config.dci.max_unknowns = (6000, 3000)
    config.dci.samples_per_unknown = 50
    return config
