"""One split point of a CIFAR-10 ResNet-20 under six defenses, each attacked without and with knowledge of it.

    python -m dci_jax.main --config=configs/audit_cifar.py --workdir=runs/audit_cifar \\
        --config.target.weights=resnet20-12fca82f.th --config.data.images=lossless_3000.npz --config.data.count=200

To expect, PSNR without and with knowledge of the defense: gaussian 1 12.4 and 26.6, dropout .5 12.5 and 45.5, with its mask
known 46.1, 2 bits 13.4 and 27.7, largest 10 % 11.2 and 24.6, bottleneck 12.1 and 29.0 dB. About an hour on two CPU cores, 45
minutes of it for the decoders (an estimate from two runs, 2026-11-26).
Made on 2026-11-26, before images were calibrated and attackers used what docs/audit.md says of top-k: not made anew yet.
"""

from configs import audit


def get_config():
    config = audit.get_config()
    config.splits = ("layer1.2",)
    config.defenses = (
        ("none", 0.0),
        ("gaussian", 1.0),
        ("dropout", 0.5),
        ("dropout_marked", 0.5),
        ("quantize", 2.0),
        ("topk", 0.1),
        ("bottleneck", 4.0),
    )
    config.sends = (1,)
    config.defense.steps = 200
    config.dci.images = 512
    config.dci.batch = 64
    config.dci.rounds = 5
    config.dci.equations = 100
    config.dci.size = 5
    config.dci.unknowns = (10000, 7000)
    config.gauss_newton.update(steps=10, inner=30, total_variation=(0.0, 0.01, 0.1, 1.0))
    # 490 thousand weights, as many as the inverters of layer1.2 have together.
    config.inverse_network.width = 224
    config.inverse_network.steps = 1000
    return config
