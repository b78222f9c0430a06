"""The data-free audit of the RepVGG for 32x32 images that comes with this package, in its deploy form.

    python -m dci_jax.main --config=configs/repvgg_cifar.py --workdir=runs/repvgg_cifar \\
        --config.data.images=lossless_3000.npz --config.data.count=200

The attacker synthesises from the training form, which has BatchNorm; the device runs the deploy form.
Hardware: measured on one core of a shared 2-core x86-64 CPU, 2026-11-23, JAX 0.10.2: 12 minutes. To expect, PSNR of
the single forward pass: stem 30.3, stages.0.1 22.8, stages.1.3 20.1, stages.2.7 14.6 dB (mean image 12.9).
"""

from configs import default


def get_config():
    config = default.get_config()
    config.target.name = "repvgg_cifar"
    config.target.deploy = True
    config.splits = ("stem", "stages.0.1", "stages.1.1", "stages.1.3", "stages.2.3", "stages.2.7")
    config.attacks = ("dci", "dci+refine")
    config.synthesis.batches = 1
    config.synthesis.batch = 128
    config.synthesis.stages = ((32, 50),)
    config.dci.rounds = 3
    config.dci.batch = 15  # one image for each split point
    config.dci.divide_steps = 100
    config.dci.conquer_learning_rate = 5e-4
    config.dci.conquer_warmup = 40
    config.dci.conquer = (("stages.2.7", 300),)
    config.refine.splits = ("stages.1.3",)
    config.refine.steps = 100
    return config
