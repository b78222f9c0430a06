"""The paper's own method: images synthesised from BatchNorm statistics, inverters trained by Adam across accelerators.

    python -m dci_jax.main --config=configs/paper.py:resnet50 --workdir=runs/paper --config.data.images=photographs/

VARIANTS are ImageNet networks at 224 px for one accelerator with 80 GB or more, and two that CPU cores can do.
Synthesis is DeepInversion's for ImageNet: Adam (0.5, 0.9), 2000 updates at 112 pixels and 1000 at 224, 100 of
warm-up each, shifts of up to 30 pixels, the first BatchNorm layer ten times, from noise; its learning rate of 0.25
for normalised pixels is about 0.05 for pixels in [0, 1]. The statistics are relative, so that one weight serves every
network (`losses.batch_norm_statistics`).

Hardware: ResNet-50 is estimated, not measured, at 1.0 EFLOP for synthesis and training (--dry_run, which also states
20 GiB), so 0.95 hours at 300 TFLOP/s, 30 % of an H200's bfloat16 peak; ResNet-18 at 132 PFLOP. Measured on two shared
CPU cores, JAX 0.10.2, 2026-11-23: `resnet18_cpu` 60 minutes, stem 22.2, layer1.1 22.3, layer2.1 20.0, layer3.1 17.0 dB.
"""

from configs import default


def resnet50(config):
    config.target.name = "resnet50"
    config.verifier.name = "resnet18"
    imagenet(config, "layer1.2", "layer2.3", "layer3.5", "layer4.2")
    config.dci_trained.width = 1.0  # a bottleneck's outer sides are four times as wide as its inside


def resnet34(config):
    config.target.name = "resnet34"
    imagenet(config, "layer1.2", "layer2.3", "layer3.5", "layer4.2")


def resnet18(config):
    config.target.name = "resnet18"
    imagenet(config, "layer1.1", "layer2.1", "layer3.1", "layer4.1")


def repvgg_a0(config):
    """Synthesised from its training form, attacked in its deploy form."""
    config.target.name = "repvgg_a0"
    config.target.deploy = True
    imagenet(config, "stages.0.1", "stages.1.3", "stages.2.13", "stages.3.0")


def resnet18_cpu(config):
    """1 % of the steps, from dead leaves, on images of 96 px."""
    resnet18(config)
    config.splits = ("stem", "layer1.1", "layer2.1", "layer3.1")
    config.attacks = ("dci_trained",)  # refinement would take longer than all the rest
    config.batch = 20
    config.inputs.update(synthetic=0.3, dead_leaves=0.5, pink_noise=0.2, side=96)
    config.synthesis.update(batches=2, batch=32, stages=((112, 60), (224, 20)), start="dead_leaves")
    config.synthesis.update(warmup=5, learning_rate=0.03)
    config.dci_trained.update(cap=192, num_corrections=3, batch=14, divide_steps=120, learning_rate=2e-3)
    config.dci_trained.update(conquer_warmup=40, conquer=(("layer3.1", 700),), remat=False)
    for section in (config.synthesis, config.dci_trained):
        section.precision = "float32"  # bfloat16 is slow on a CPU


def cifar_resnet20(config):
    """A CIFAR ResNet-20 at every split point, from dead leaves."""
    config.data.count = 200
    config.attacks = ("dci_trained", "dci_trained+refine")
    config.inputs.update(synthetic=0.3, dead_leaves=0.5, pink_noise=0.2)
    config.synthesis.batches = 3
    config.refine.splits = ("layer1.0", "layer1.2", "layer2.2", "layer3.2")


def imagenet(config, *splits):
    """On an accelerator: conquer to each of four splits in turn, the deeper the longer; refine there."""
    config.inputs.update(synthetic=1.0, dead_leaves=0.0, pink_noise=0.0)
    config.synthesis.start = "white_noise"
    config.batch = 50
    config.synthesis.batches = 16
    config.synthesis.batch = 128  # 2048 images, 308 MB on disk
    config.synthesis.stages = ((112, 2000), (224, 1000))
    config.synthesis.learning_rate = 0.05
    config.synthesis.warmup = 100
    config.synthesis.betas = (0.5, 0.9)
    config.synthesis.first = 10.0
    config.synthesis.jitter = 30
    config.synthesis.precision = "bfloat16"
    config.dci_trained.cap = 384
    config.dci_trained.batch = 64
    config.dci_trained.precision = "bfloat16"
    config.dci_trained.remat = True
    config.dci_trained.learning_rate = 1e-3
    config.dci_trained.conquer_learning_rate = 5e-4
    config.dci_trained.conquer_warmup = 200
    config.dci_trained.divide_steps = 2000
    config.inverse_network.precision = "bfloat16"
    config.refine.steps = 1000
    config.dci_trained.conquer = tuple(zip(splits, (1000, 2000, 4000, 4000), strict=True))
    config.refine.splits = splits


NETWORKS = (resnet50, resnet34, resnet18, repvgg_a0, resnet18_cpu, cifar_resnet20)
VARIANTS = {f.__name__: f for f in NETWORKS}


def get_config(variant: str = "resnet50"):
    config = default.get_config()
    config.attacks = ("dci_trained", "dci_trained+refine")
    config.prior_fitting.steps = 0  # the paper has none
    VARIANTS[variant](config)
    return config
