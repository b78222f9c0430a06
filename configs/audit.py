"""The audit: which split, which defense, what is left to read. All split points x defenses x attackers, one page.

    python -m dci_jax.main --config=configs/audit.py --workdir=runs/audit

The embedded ResNet-20 by default; your own by --config.target.name and .weights. docs/audit.md explains the page.
What it gives, and how long it took: docs/audit.md.
"""

from dci_jax import settings


def get_config():
    return settings.audit()
