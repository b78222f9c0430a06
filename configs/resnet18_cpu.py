"""The audit of an ImageNet ResNet-18 at 224 px, down to layer3.1, in counts that two CPU cores can do.

    python -m dci_jax.main --config=configs/resnet18_cpu.py --workdir=runs/resnet18_cpu \\
        --config.data.images=photographs/ --config.data.labels=labels.csv

Hardware: measured on one core of a shared two-core x86-64 CPU, 2026-11-23, JAX 0.10.2: synthesis 6.5 minutes, divide 20,
conquer 47, reading 200 photographs back at 4 splits 6. To expect, PSNR of the single forward pass: stem 22.2,
layer1.1 22.3, layer2.1 20.0, layer3.1 17.0 dB (mean image 12.2); benchmarks/results/resnet18_cpu.
"""

from configs import resnet18


def get_config():
    config = resnet18.get_config()
    config.splits = ("stem", "layer1.1", "layer2.1", "layer3.1")
    config.attacks = ("dci",)  # refinement would take longer than all the rest
    config.batch = 20
    config.inputs.side = 96  # 5 times fewer pixels than 224 x 224 in every step
    config.synthesis.batches = 2
    config.synthesis.batch = 32
    config.synthesis.stages = ((112, 60), (224, 20))
    config.synthesis.warmup = 5
    config.synthesis.learning_rate = 0.03
    config.dci.width = 1.5
    config.dci.cap = 192
    config.dci.rounds = 3
    config.dci.batch = 14
    config.dci.divide_steps = 120
    config.dci.learning_rate = 2e-3
    config.dci.conquer_learning_rate = 5e-4
    config.dci.conquer_warmup = 40
    config.dci.conquer = (("layer3.1", 700),)
    for section in (config.synthesis, config.dci):
        section.precision = "float32"  # bfloat16 is slow on a CPU
    config.dci.remat = False
    return config
