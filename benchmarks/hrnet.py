"""What is read from the branches of timm's HRNet-W18-small, one alone and all: `python -m benchmarks.hrnet OUT.json`.

The network is converted as it is, and cut where several tensors are sent (`importers.split_points`). Its weights are random; its BatchNorm
statistics are those of dead leaves. PSNR of `dci` on 16 tiles of 128 px of four photographs. Needs PyTorch and timm.
"""

import json
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import dci_jax
from benchmarks.usage import arguments
from dci_jax.convert.__main__ import main as convert
from dci_jax.data.images import photographs
from dci_jax.inputs.mixture import Prior
from dci_jax.inputs.procedural import dead_leaves
from dci_jax.network import Network

try:
    from dci_jax.convert.source import bear_torchvision

    bear_torchvision()
    import timm
    import torch
except ImportError as error:
    raise SystemExit(f"This needs PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

SIDE, MEAN, STD = 128, 0.45, 0.225
SETTINGS = dict(
    num_images=256, num_validation=32, num_corrections=2, kernel_size=3, max_unknowns=(6000, 4000), batch_size=16
)
SENT = {
    2: [(0,), (1,), (0, 1)],
    3: [(0,), (1,), (2,), (0, 1, 2)],
    4: [(0,), (0, 1, 2, 3)],
}  # stage -> branches that are sent
CHOSEN = {}


class Branches(torch.nn.Module):
    """The network up to a stage, of which some branches are sent."""

    def __init__(self, stage: int, sent: tuple[int, ...]):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.stage, self.sent = timm.create_model("hrnet_w18_small"), stage, sent
        for module in self.net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the mean over batches
                module.reset_running_stats()
        images = np.asarray(dead_leaves(jax.random.key(5), 64, (SIDE, SIDE, 3)))
        with torch.no_grad():
            self.net.train()(torch.from_numpy(np.moveaxis((images - MEAN) / STD, 3, 1).astype(np.float32).copy()))
        self.net.eval()

    def forward(self, x):
        net = self.net
        x = net.act2(net.bn2(net.conv2(net.act1(net.bn1(net.conv1(x))))))
        x = net.layer1(x)
        y = net.stage2([transition(x) for transition in net.transition1])
        for number, (transitions, stage) in enumerate(
            ((net.transition2, net.stage3), (net.transition3, net.stage4)), 3
        ):
            if number <= self.stage:
                new = [y[i] if isinstance(t, torch.nn.Identity) else t(y[-1]) for i, t in enumerate(transitions)]
                y = stage(new)
        return [y[i] for i in self.sent] if len(self.sent) > 1 else y[self.sent[0]]


def chosen() -> Branches:
    """The network that `convert` is to make; what is sent is in `CHOSEN`."""
    return Branches(**CHOSEN)


def converted(stage: int, sent: tuple[int, ...]) -> Network:
    """Through a bundle, as a user's network."""
    CHOSEN.update(stage=stage, sent=sent)
    with tempfile.TemporaryDirectory() as folder:
        given = [
            f"--size={SIDE}",
            "--mean",
            *[str(MEAN)] * 3,
            "--std",
            *[str(STD)] * 3,
            "--random",
            f"--out={folder}/b",
        ]
        if convert(["benchmarks.hrnet:chosen", *given]):
            raise SystemExit(1)
        return dci_jax.load_network("bundle", f"{folder}/b")


def main(out: str) -> None:
    """Measure all, and write them."""
    images = np.float32(photographs((SIDE, SIDE, 3), tiles=2).pixels) / 255
    prior, rows = Prior((), (("dead_leaves", 0.8), ("pink_noise", 0.2)), (SIDE, SIDE, 3)), []
    for stage, choices in SENT.items():
        for sent in choices:
            begin, network = time.monotonic(), converted(stage, sent)
            split = network.blocks[-1].name
            chain = dci_jax.solve_chain(network, split, prior, key=jax.random.key(1), progress=False, **SETTINGS)
            features = dci_jax.features_at(network, split, images)
            found = jnp.concatenate([chain(features[i : i + 4]) for i in range(0, len(images), 4)])
            rows.append(
                {
                    "stage": f"stage {stage}",
                    "sent": " + ".join(f"1/{4 * 2**i}" for i in sent),
                    "numbers": int(np.prod(chain.feature_shape)),
                    "inverters": len(chain.inverters),
                    "psnr": round(float(dci_jax.metrics.psnr(found, images).mean()), 3),
                    "ssim": round(float(dci_jax.metrics.ssim(found, images).mean()), 5),
                    "seconds": round(time.monotonic() - begin),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
            Path(out).write_text(json.dumps({"images": len(images), "settings": str(SETTINGS), "rows": rows}, indent=1))


if __name__ == "__main__":
    from benchmarks import hrnet

    hrnet.main(*arguments(__doc__, 1, 1))  # the module that `convert` imports
