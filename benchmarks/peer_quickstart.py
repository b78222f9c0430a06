"""What the quickstart computes, in PyTorch, written from the same equations: what `python -m benchmarks.quickstart` compares with.

Images are [B, C, H, W], random numbers those of `dci_jax.inputs.procedural`: uniform in [0, 1), [B, N], so that the same numbers give
the same images (`tests/side_by_side_test.py`). Losses and solved chains are those of `peers.py` and `peer_solve.py`.
"""

import itertools
import math

import numpy as np

from benchmarks import peers
from dci_jax.inputs import spectrum

try:
    import torch
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error

LEAVES, SMOOTH, EPSILON = 90, 1e-3, 1e-5  # for each 32 pixels of the side; as in dci_jax/inputs/prior.py


def numbers(kind, shape):
    """How many random numbers an image takes, by what they are for."""
    height, width, channels = shape
    white = (height, width, 1 + channels)
    if kind == "pink_noise":
        return (1, 1, 1), (2 + channels,), white
    leaves = LEAVES * max(1, max(height, width) // 32)
    return (leaves, 11 + channels), (2,), (2 + channels,), (2 + channels,), white


def parts(uniform, shapes):
    """(uniform, normal) numbers [B, *shape] for each shape."""
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    normal = math.sqrt(2) * torch.erfinv(2 * uniform.clamp(min=2**-24) - 1)
    pairs = zip(*(numbers.tensor_split(ends[:-1], 1) for numbers in (uniform, normal)), strict=True)
    return [tuple(a.reshape(-1, *shape) for a in pair) for pair, shape in zip(pairs, shapes, strict=True)]


def dead_leaves(uniform, shape):
    """Opaque shapes that occlude one another, [B, C, H, W] in [0, 1]."""
    height, width, _ = shape
    of_leaf, of_image, ground, exposure, (_, white) = parts(uniform, numbers("dead_leaves", shape))
    leaves, side = of_leaf[0].shape[1], max(height, width)
    u, _, angle, square, y, x, _, _, grain = of_leaf[0][..., :9].unbind(2)
    _, aspect, _, _, _, _, shade_y, shade_x, _ = of_leaf[1][..., :9].unbind(2)
    low, high = 1.5, 0.6 * side
    radius = (low**-2 + u * (high**-2 - low**-2)) ** -0.5
    radius = torch.where(torch.arange(leaves) < leaves // 8, high * (0.3 + 0.7 * u), radius)
    a, b = radius * torch.exp(0.25 * aspect), radius / torch.exp(0.25 * aspect)
    cos, sin = torch.cos(math.pi * angle), torch.sin(math.pi * angle)
    softness = (0.7 + 1.8 * of_image[0][:, 0])[:, None, None]
    number = leaves ** (0.4 + 0.6 * of_image[0][:, 1])
    texture = spectral_noise(white, 1.0)
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    color = colors(of_leaf[0][..., 9:], of_leaf[1][..., 9:])[..., None, None]
    images = colors(*ground)[..., None, None] + 0.1 * texture
    per_leaf = (
        a,
        b,
        cos,
        sin,
        height * y,
        width * x,
        0.25 * shade_y / side,
        0.25 * shade_x / side,
        -torch.log1p(-grain),
    )
    for i in range(leaves):
        a, b, cos, sin, y, x, down, right, grain = (value[:, i, None, None] for value in per_leaf)
        y, x = rows - y, columns - x
        along, across = (cos * x + sin * y) / a, (cos * y - sin * x) / b
        box, ring = torch.maximum(along.abs(), across.abs()), (along**2 + across**2).sqrt()
        inside = (1 - torch.where(square[:, i, None, None] < 0.4, box, ring)) * torch.minimum(a, b)
        cover = ((inside / softness + 0.5).clamp(0, 1) * (i < number)[:, None, None])[:, None]
        shade = color[:, i] + (down * y + right * x)[:, None] + 0.12 * grain[:, None] * texture
        images = images + cover * (shade - images)
    return expose(*exposure, images)


def pink_noise(uniform, shape):
    """Noise of amplitude 1 / f^a, [B, C, H, W] in [0, 1]."""
    (slope, _), exposure, (_, white) = parts(uniform, numbers("pink_noise", shape))
    return expose(*exposure, 0.5 + 0.35 * spectral_noise(white, 0.7 + 1.3 * slope))


def colors(uniform, normal):
    return 1.1 * uniform[..., :1] - 0.05 - 0.1 * torch.log1p(-uniform[..., 1:2]) * normal[..., 2:]


def expose(uniform, normal, images):
    contrast, shift, tint = (a[..., None, None] for a in (uniform[:, :1], normal[:, 1:2], normal[:, 2:]))
    return (0.5 + 0.15 * shift + 0.05 * tint + (0.3 + 0.7 * contrast) * (images - 0.5)).clamp(0, 1)


def spectral_noise(white, slope):
    white = (white[..., :1] + 0.4 * white[..., 1:]).permute(0, 3, 1, 2)
    height, width = white.shape[2:]
    frequency = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width) ** 2).sqrt()
    frequency[0, 0] = 1
    gain = frequency ** -torch.as_tensor(slope)
    gain[..., 0, 0] = 0
    noise = torch.fft.irfft2(torch.fft.rfft2(white) * gain, (height, width))
    return noise / noise.std((1, 2, 3), correction=0, keepdim=True)


def mixture(count, shape, shares, generator):
    """[count, C, H, W]: procedural images in these shares ((kind, share), ...), flipped at random, in random order."""
    found, left = [], count
    for kind, share in shares:
        some = left if kind == shares[-1][0] else round(share * count)
        drawn = torch.rand(some, sum(map(math.prod, numbers(kind, shape))), generator=generator)
        found.append({"dead_leaves": dead_leaves, "pink_noise": pink_noise}[kind](drawn, shape))
        left -= some
    images = torch.cat(found)[torch.randperm(count, generator=generator)]
    flip = torch.rand(count, 1, 1, 1, generator=generator) < 0.5
    return torch.where(flip, images.flip(3), images)


def filtered(images, bands, shift):
    """`spectrum.filtered`: a matrix of colours for each octave, [7, C, C], and a shift [C]."""
    height, width = images.shape[2:]
    rows, columns = (torch.tensor(spectrum._cosines(size)) for size in (height, width))
    gains = torch.einsum("yxk,kij->yxij", torch.tensor(spectrum._shares(height, width)), bands)
    coefficients = rows @ (images - 0.5) @ columns.T
    coefficients = torch.einsum("yxij,njyx->niyx", gains, coefficients)
    return (rows.T @ coefficients @ columns + 0.5 + shift[:, None, None]).clamp(0, 1)


def fitted(target, drawn, depth, settings, generator):
    """(bands, shift) for the border that fits best; settings: those of the config's section `prior_fitting`."""
    inputs, candidates = {}, []
    layers = [layer for layer in target.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    hooks = [layer.register_forward_pre_hook(lambda layer, x: inputs.update({layer: x[0]})) for layer in layers]
    halved = torch.tensor(spectrum.halved(drawn[0].shape[1]))
    same = torch.tensor(spectrum.identity(drawn[0].shape[1])), torch.zeros(drawn[0].shape[1])

    def mismatch(bands, shift, border, number):
        images = drawn[number % len(drawn)]
        inputs.clear()
        target.run(crops(filtered(images, bands, shift), border, generator), 0, depth)
        terms = []
        for layer, x in inputs.items():
            var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
            known = layer.running_var + EPSILON
            terms.append(((mean - layer.running_mean) ** 2 / known).mean())
            terms.append((((var + EPSILON) / known).log() ** 2).mean())
        return 2 * torch.stack(terms).mean()

    def measured(found, border):
        with torch.no_grad():
            return np.mean([mismatch(*found, border, number).item() for number in range(len(drawn))])

    before = {border: measured(same, border) for border in settings["padding"]}
    for border in settings["padding"]:
        if before[border] > 2 * min(before.values()):
            continue
        found = halved.clone().requires_grad_(), torch.zeros_like(same[1]).requires_grad_()
        optimizer = torch.optim.Adam(found, settings["learning_rate"], fused=True)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings["steps"])
        for number in range(settings["steps"]):
            optimizer.zero_grad(set_to_none=True)
            rough = (found[0] - halved).diff(dim=0).square().mean()
            (mismatch(*found, border, number) + SMOOTH * rough).backward()
            optimizer.step()
            cosine.step()
        found = tuple(a.detach() for a in found)
        candidates.append((measured(found, border), found))
    for hook in hooks:
        hook.remove()
    return min(candidates, key=lambda pair: pair[0])[1]


def crops(images, border, generator):
    """Images with a black border around them, cut to their size at random places."""
    if not border:
        return images
    side = images.shape[2:]
    padded = torch.nn.functional.pad(images, (border,) * 4)
    places = torch.randint(0, 2 * border + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack([a[:, y : y + side[0], x : x + side[1]] for a, (y, x) in zip(padded, places, strict=True)])


def matched(target, split, features, images, settings, b2):
    """Images that match their features, by Adam, from `images` on: rMLE, or refinement."""
    features, images = (a.contiguous(memory_format=torch.channels_last) for a in (features, images))
    images, weight = images.clone().requires_grad_(), settings["total_variation"]
    optimizer = torch.optim.Adam([images], settings["learning_rate"], (0.9, b2), fused=True)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings["steps"])
    for _ in range(settings["steps"]):
        optimizer.zero_grad(set_to_none=True)
        peers.feature_loss(target, split, features, weight, images).backward()
        optimizer.step()
        cosine.step()
        with torch.no_grad():
            images.clamp_(0, 1)
    return images.detach()
