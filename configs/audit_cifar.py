"""One split point of a CIFAR-10 ResNet-20 under six defenses, each attacked without and with knowledge of it.

    python -m dci_jax.main --config=configs/audit_cifar.py --workdir=runs/audit_cifar \\
        --config.target.weights=resnet20-12fca82f.th --config.data.images=jpeg_test_5000.zip --config.data.count=200

To expect, PSNR without and with knowledge of the defense: gaussian 1 14.3 and 27.7, dropout .5 15.8 and 42.8, with its mask
known 43.4, 2 bits 15.4 and 28.3, largest 10 % 14.4 and 26.9, bottleneck 15.9 and 33.2 dB.
Two CPU cores that other runs shared, Python 3.13, JAX 0.12.0.1, 2026-11-28: 46 minutes.
"""

from configs import audit


def get_config():
    config = audit.get_config()
    config.splits = ("layer1.2",)
    config.attacks = (
        "dci",
        "adapted_dci",
        "adapted_dci+refine",
        "adapted_dci+gauss_newton",
        "adapted_inverse_network",
    )
    config.defenses = (
        ("none", 0.0),
        ("gaussian", 1.0),
        ("dropout", 0.5),
        ("dropout_marked", 0.5),
        ("quantize", 2.0),
        ("topk", 0.1),
        ("bottleneck", 4.0),
    )
    config.num_queries = (1,)
    config.defense.steps = 200
    config.dci.num_images = 512
    config.dci.batch = 64
    config.dci.num_corrections = 5
    config.dci.samples_per_unknown = 100
    config.dci.kernel_size = 5
    config.dci.max_unknowns = (10000, 7000)
    config.refine.total_variation = (0.03,)  # as the table of docs/audit.md was made; without this line it is chosen
    config.gauss_newton.update(steps=5, inner=20, total_variation=(0.0, 0.1, 1.0))
    config.inverse_network.width = 64
    config.inverse_network.steps = 300
    return config
