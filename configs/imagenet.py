"""What the ImageNet audits at 224 px have in common, for one accelerator with 80 GB or more; not an experiment itself.

Synthesis is DeepInversion's for ImageNet: Adam (0.5, 0.9), 2000 updates at 112 pixels and 1000 at 224,
100 of warm-up each, shifts of up to 30 pixels, the first BatchNorm layer ten times; its learning rate of
0.25 for normalised pixels is about 0.05 for pixels in [0, 1]. It starts from dead leaves, not from
noise, and the statistics are relative, so that one weight serves every network (see
`losses.batch_norm_statistics`).
"""

from configs import default


def get_config():
    config = default.get_config()
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
    config.dci.cap = 384
    config.dci.batch = 64
    config.dci.precision = "bfloat16"
    config.dci.remat = True
    config.dci.learning_rate = 1e-3
    config.dci.conquer_learning_rate = 5e-4
    config.dci.conquer_warmup = 200
    config.dci.divide_steps = 2000
    config.inverse_network.precision = "bfloat16"
    config.refine.steps = 1000
    return config
