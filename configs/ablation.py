"""What each part of the method is worth: `--config=configs/ablation.py:VARIANT`, one run per variant.

    bash launch/ablation.sh runs/ablation --config.target.weights=... --config.data.images=...

A short training, the same for all, to layer2.2 of a CIFAR ResNet-20: 230 steps of 14 images.
"""

from configs import default


def full(config):
    """The reference: synthesised and procedural images, divide, conquer, cycle."""


def synthesised_only(config):
    """BatchNorm-statistic matching started from dead leaves, and nothing else."""
    config.inputs.update(synthetic=1.0, dead_leaves=0.0, pink_noise=0.0)


def synthesised_from_noise_only(config):
    """The paper's own inputs: statistic matching started from noise, and nothing else."""
    config.inputs.update(synthetic=1.0, dead_leaves=0.0, pink_noise=0.0)
    config.synthesis.start = "white_noise"


def procedural_only(config):
    """Dead leaves and 1/f noise, no synthesis."""
    config.inputs.synthetic = 0.0
    config.synthesis.batches = 0


def noise_only(config):
    """Uniform white noise, no synthesis."""
    config.inputs.update(synthetic=0.0, dead_leaves=0.0, pink_noise=0.0, white_noise=1.0)
    config.synthesis.batches = 0


def without_cycle(config):
    """No cycle consistency in either phase."""
    config.dci_trained.cycle = 0.0


def divide_only(config):
    """The inverters are never trained as a chain; as many steps in all."""
    config.dci_trained.divide_steps = 230
    config.dci_trained.conquer = ()


def one_round(config):
    """Inverters that look at the block's own answer once instead of twice."""
    config.dci_trained.num_corrections = 1


VARIANTS = {
    f.__name__: f
    for f in (
        full,
        synthesised_only,
        synthesised_from_noise_only,
        procedural_only,
        noise_only,
        without_cycle,
        divide_only,
        one_round,
    )
}


def get_config(variant: str = "full"):
    config = default.get_config()
    config.splits = ("stem", "layer1.0", "layer1.2", "layer2.0", "layer2.2")
    config.attacks = ("dci_trained",)
    config.data.count = 200
    config.prior_fitting.steps = 0  # configs/paper.py has none
    config.inputs.update(synthetic=0.3, dead_leaves=0.5, pink_noise=0.2)
    config.synthesis.batches = 1
    config.synthesis.batch = 128
    config.synthesis.stages = ((32, 80),)
    config.dci_trained.num_corrections = 2
    config.dci_trained.batch = 14
    config.dci_trained.conquer_learning_rate = 2e-3  # as it was measured, without a warm-up
    config.dci_trained.conquer_warmup = 0
    config.dci_trained.divide_steps = 80
    config.dci_trained.conquer = (("layer2.2", 150),)
    VARIANTS[variant](config)
    return config
