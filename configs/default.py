"""Every field at its default, explained in docs/fields.md. The other configs give differences only.

    python -m dci_jax.main --config=configs/default.py --workdir=runs/default

This is the full data-free audit of the embedded ResNet-20 at every split point.
"""

from dci_jax import settings


def get_config():
    return settings.default()
