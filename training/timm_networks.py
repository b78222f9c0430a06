"""Forms for 32 px of timm's own classes, trained in PyTorch: a MobileNet, a ConvNeXt and a ViT that bundles are made of.

    python -m training.timm_networks mobilenet --train_images=jpeg_train_50000.zip --test_images=jpeg_test_5000.zip \\
        --out=mobilenet.pth
    python -m dci_jax.convert training.timm_networks:mobilenet --weights=mobilenet.pth --size=32 --out=bundles/mobilenet \\
        --mean .485 .456 .406 --std .229 .224 .225
"""

import argparse
import math
import sys
import time

import numpy as np

from dci_jax.data import images as data
from training.arguments import check_file, finish, number, whole

try:
    from dci_jax.convert.source import bear_torchvision

    bear_torchvision()
    import timm
    import torch
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def mobilenet() -> torch.nn.Module:
    """MobileNetV2 (Sandler et al., CVPR 2018) of half the width; the stem does not halve, so that 2 px are left."""
    model = timm.create_model("mobilenetv2_050", num_classes=10)
    model.conv_stem.stride = (1, 1)
    return model


def convnext() -> torch.nn.Module:
    """ConvNeXt (Liu et al., CVPR 2022): a stem of 2 px patches, 2, 2, 3 and 1 blocks of 32, 64, 96 and 128 channels."""
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(num_classes=10, depths=(2, 2, 3, 1), dims=(32, 64, 96, 128), patch_size=2)


def vit() -> torch.nn.Module:
    """ViT (Dosovitskiy et al., ICLR 2021): patches of 4 px, four blocks of 64 channels, a class token."""
    from timm.layers import set_fused_attn
    from timm.models.vision_transformer import VisionTransformer

    set_fused_attn(False)  # attention as matrix products, which core ATen has
    return VisionTransformer(img_size=32, patch_size=4, embed_dim=64, depth=4, num_heads=2, num_classes=10)


NETWORKS = {"mobilenet": mobilenet, "convnext": convnext, "vit": vit}


def augmented(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Shifted by up to four pixels and mirrored at random: [B, C, 32, 32]."""
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4), mode="reflect")
    y, x0 = (int(torch.randint(9, (1,), generator=rng)) for _ in range(2))
    x = padded[:, :, y : y + 32, x0 : x0 + 32]
    mirrored = torch.rand(len(x), generator=rng) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(-1), x)


def prepared(path: str, flag: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images [N, C, 32, 32] and labels."""
    found = data.load(path, (32, 32, 3), flag=flag)
    pixels = (found.pixels / np.float32(255) - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(pixels).movedim(-1, 1).contiguous(), torch.from_numpy(np.int64(found.labels))


def accuracy(model: torch.nn.Module, x: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of right answers, evaluated."""
    model.eval()
    with torch.no_grad():
        right = sum(int((model(a).argmax(1) == b).sum()) for a, b in zip(x.split(500), labels.split(500), strict=True))
    return right / len(x)


def main() -> int:
    """AdamW along one cosine with warm-up, label smoothing .1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--train_images", required=True, help="folder, zip or npz, with labels")
    parser.add_argument("--test_images", required=True, help="the same")
    parser.add_argument("--out", required=True, help=".pth to write, a state_dict")
    parser.add_argument("--epochs", type=whole(1), default=8)
    parser.add_argument("--batch", type=whole(2), default=128)
    parser.add_argument("--learning_rate", type=number(0, 1, above=True), default=2e-3)
    settings = parser.parse_args()
    check_file(settings.out, "--out")
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    x, labels = prepared(settings.train_images, "--train_images")
    test = prepared(settings.test_images, "--test_images")
    model = NETWORKS[settings.network]()
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=0.05)
    steps, warm = settings.epochs * (len(x) // settings.batch), 200
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / warm, 0.5 * (1 + math.cos(math.pi * i / steps)))
    )
    begin = time.monotonic()
    for epoch in range(settings.epochs):
        model.train()
        for batch in torch.randperm(len(x), generator=rng)[: steps // settings.epochs * settings.batch].split(
            settings.batch
        ):
            optimizer.zero_grad()
            answer = model(augmented(x[batch], rng))
            loss = torch.nn.functional.cross_entropy(answer, labels[batch], label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            schedule.step()
        found = accuracy(model, *test)
        print(f"epoch {epoch + 1}: {100 * found:.1f} % after {time.monotonic() - begin:.0f} s", flush=True)
    torch.save(model.state_dict(), settings.out)
    return 0


if __name__ == "__main__":
    sys.exit(finish(main, "training.timm_networks"))
