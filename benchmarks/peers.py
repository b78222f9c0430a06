"""The attacks' losses in PyTorch, written from the equations: what `python -m benchmarks.side_by_side` compares with.

The target networks are those of tests/golden. Images and features are [B, C, H, W]; `port` brings the
parameters of the Flax inverters here. Channels of a pixel shuffle are counted as PyTorch counts them,
so that its own `pixel_shuffle` can be used.
"""

import re

import jax
import numpy as np

from dci_jax import models
from dci_jax.checkpoints.assign import to_torch, torch_name

try:
    import torch
    from torch import nn
    from torch.nn import functional

    from tests.golden import cifar_resnet, resnet  # which import it, too
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error


class Target(nn.Module):
    """A network of tests/golden as a row of blocks, each of which ends at a split point."""

    def __init__(self, model, mean, std):
        super().__init__()
        self.model = model
        stages = [getattr(model, f"layer{i}", ()) for i in range(1, 5)]
        self.blocks = [self.stem, *(block for stage in stages for block in stage)]
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def stem(self, x):
        x = self.model.bn1(self.model.conv1(x)).relu()
        return self.model.maxpool(x) if hasattr(self.model, "maxpool") else x

    def run(self, x, start, stop):
        """Features at split `stop` from those at split `start`; an image at split 0 is in [0, 1]."""
        for index in range(start, stop):
            x = (x - self.mean) / self.std if index == 0 else x
            x = self.blocks[index](x)
        return x

    def logits(self, features):
        last = self.model.fc if hasattr(self.model, "fc") else self.model.linear
        return last(features.mean((2, 3)))


def target(name, network, kind=Target):
    """The `Target`, of this class, with the weights of a JAX network, in evaluation mode; its weights take gradients."""
    depth, small = int(re.search(r"\d+", name)[0]), name.endswith("_cifar")
    plain = name.startswith("cifar_")
    model = cifar_resnet.ResNet(depth) if plain else resnet.ResNet(depth, small)
    prefix, state = models.MODELS[name].prefix, {}
    for block in (*network.blocks, network.head):
        for keys, leaf in jax.tree_util.tree_leaves_with_path(block.params):
            state[torch_name(prefix(block.name), keys)] = torch.tensor(to_torch(np.asarray(leaf)))
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected, unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing), missing
    return kind(model, network.mean, network.std).eval()


def tap(network):
    """Let every BatchNorm layer keep the mean and the biased variance of its input; a list of the layers."""

    def keep(layer, inputs):
        layer.found = torch.var_mean(inputs[0], (0, 2, 3), correction=0)

    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.register_forward_pre_hook(keep)
    return layers


def jittered(images, down, right, flip):
    """Shifted around the edges, and mirrored where `flip`."""
    images = images.roll((down, right), (2, 3))
    return images.flip(3) if flip else images


def total_variation(images):
    """Mean length of the pixel gradient of each image [B]."""
    corner = images[:, :, :-1, :-1]
    down = images[:, :, 1:, :-1] - corner
    right = images[:, :, :-1, 1:] - corner
    return (down**2 + right**2 + 1e-8).sqrt().mean((1, 2, 3))


def synthesis_loss(network, layers, weights, labels, images, seen):
    """DeepInversion, eqs. 2 to 4, relative as in dci_jax/losses.py: `seen` is what `jittered` made of the images."""
    scores = network.logits(network.run(seen, 0, len(network.blocks)))
    terms = []
    for layer in layers:
        (var, mean), old_mean, old_var = layer.found, layer.running_mean, layer.running_var
        terms.append(torch.linalg.vector_norm(mean - old_mean) / old_var.sum().sqrt())
        terms.append(torch.linalg.vector_norm(var - old_var) / torch.linalg.vector_norm(old_var))
    return (
        weights["statistics"] * sum(terms) / len(layers)
        + weights["cross_entropy"] * functional.cross_entropy(scores, labels)
        + weights["total_variation"] * total_variation(images).mean()
        + weights["l2"] * ((images - 0.5) ** 2).mean()
    )


def feature_loss(network, split, features, weight, images):
    """rMLE: sum over images of |F(x) - f|^2 / |f - mean f|^2 + weight * TV(x)."""
    spread = ((features - features.mean((2, 3), keepdim=True)) ** 2).sum((1, 2, 3))
    distance = ((network.run(images, 0, split) - features) ** 2).sum((1, 2, 3))
    return (distance / (spread + 1e-6) + weight * total_variation(images)).sum()


def pixel_loss(network, decoder, split, images):
    """The inverse network: mean (decoder(F(x)) - x)^2."""
    with torch.no_grad():
        features = network.run(images, 0, split)
    return ((decoder(features) - images) ** 2).mean()


def relative_l1(estimate, truth, scale=None):
    """mean |estimate - truth|, as a share of the mean deviation of the truth, or of what `scale` is."""
    scale = deviation(truth) if scale is None else scale
    return (estimate - truth).abs().mean() / (scale + 1e-6)


def deviation(truth):
    return (truth - truth.mean((0, 2, 3), keepdim=True)).abs().mean()


def trace(network, images, depth):
    """Features at the splits 0 ... depth, without gradients."""
    features = [images]
    with torch.no_grad():
        for index in range(depth):
            features.append(network.run(features[-1], index, index + 1))
    return features


def divide_loss(network, inverters, layer, cycle, images):
    """DCI, divide: the sum over inverters of layer * |R_i(f_i) - f_{i-1}| + cycle * |F_i(R_i(f_i)) - f_i|."""
    features, loss = trace(network, images, len(inverters)), 0
    scales = [deviation(f) for f in features]
    for i, inverter in enumerate(inverters):
        estimate = inverter(features[i + 1], lambda x, i=i: network.run(x, i, i + 1))
        again = network.run(estimate, i, i + 1)
        loss = loss + layer * relative_l1(estimate, features[i], scales[i])
        loss = loss + cycle * relative_l1(again, features[i + 1], scales[i + 1])
    return loss


def conquer_loss(network, inverters, weights, images):
    """DCI, conquer: group s of the batch is read back from split k - s, and the chains run together.

    Args:
      weights: (layer, image, cycle).
      images: [k B', C, H, W], group after group.
    """
    depth = len(inverters)
    rows = len(images) // depth
    features = trace(network, images, depth)
    count = [depth, *range(depth, 0, -1)]  # how many groups come through split i
    true = [f[: rows * n] for f, n in zip(features, count, strict=True)]
    estimate, layers = true[depth][:0], []
    for i in reversed(range(depth)):
        estimate = torch.cat([estimate, true[i + 1][len(estimate) :]])
        estimate = inverters[i](estimate, lambda x, i=i: network.run(x, i, i + 1))
        layers.append(relative_l1(estimate, features[i][: len(estimate)]))
    pairs = zip(estimate.split(rows), images.split(rows), strict=True)
    image = [relative_l1(found, truth) for found, truth in pairs]
    cycles, again = [], estimate
    for i in range(depth):
        again = network.run(again[: len(true[i + 1])], i, i + 1)
        cycles.append(relative_l1(again, true[i + 1]))
    terms = zip(weights, (layers, image, cycles), strict=True)
    return sum(weight * sum(term) / depth for weight, term in terms)


def invert(network, inverters, features):
    """One pass of DCI: R_1(...R_k(f_k)), images in [0, 1]."""
    for i in reversed(range(len(inverters))):
        features = inverters[i](features, lambda x, i=i: network.run(x, i, i + 1))
    return features.clamp(0, 1)


class Inverter(nn.Module):
    """x_0 = f, or a learned upsampling; x_{r+1} = relu(x_r + N_r(x_r, f, f - F(x_r)))."""

    def __init__(self, module, shape):
        """The twin of a Flax `Inverter` for features of `shape` [H, W, C]."""
        super().__init__()
        self.factor, self.nonnegative = module.downsampling, module.nonnegative
        inner, outer = module.channels * module.downsampling**2, shape[-1]
        same = module.downsampling == 1 and outer == module.channels
        self.start = None if same else _conv(outer, inner)
        widths = [inner + 2 * outer, *[module.width] * (module.depth - 1), inner]
        self.rounds = nn.ModuleList(
            nn.ModuleList(map(_conv, widths, widths[1:])) for _ in range(module.num_corrections)
        )

    def forward(self, f, block):
        x = f
        if self.start is not None:
            x = functional.pixel_shuffle(self.start(f), self.factor)
        for *hidden, last in self.rounds:
            y = torch.cat([functional.pixel_unshuffle(x, self.factor), f, f - block(x)], 1)
            for conv in hidden:
                y = functional.gelu(conv(y), approximate="tanh")
            x = x + functional.pixel_shuffle(last(y), self.factor)
            x = x.relu() if self.nonnegative else x
        return x

    def port(self, tree):
        """The Flax parameters, or their gradients, in the order of `parameters()`."""
        tree, ported = tree["params"], []
        if self.start is not None:
            ported += _ported(tree["start"], shuffled=self.factor)
        for r, convs in enumerate(self.rounds):
            names = [f"round{r}_conv{i}" for i in range(len(convs) - 1)] + [f"round{r}_last"]
            for i, name in enumerate(names):
                first, last = i == 0, i == len(names) - 1
                inner = convs[-1].out_channels
                ported += _ported(tree[name], self.factor if last else 1, (inner, self.factor) if first else None)
        return ported


class Decoder(nn.Module):
    """Two convolutions at every resolution, each doubled by pixel shuffle: the twin of the Flax `Decoder`."""

    def __init__(self, module, shape):
        super().__init__()
        levels, before = module.downsampling.bit_length() - 1, shape[-1]
        self.convs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level in range(levels + 1):
            width = module.width * 2 ** (levels - level)
            for _ in range(2):
                self.convs.append(_conv(before, width))
                before = width
            if level < levels:
                self.ups.append(_conv(width, 2 * width))
                before = width // 2
        self.last = _conv(before, module.channels)

    def forward(self, y):
        for i, conv in enumerate(self.convs):
            y = functional.gelu(conv(y), approximate="tanh")
            if i % 2 and i // 2 < len(self.ups):
                y = functional.pixel_shuffle(self.ups[i // 2](y), 2)
        return self.last(y)

    def port(self, tree):
        """The Flax parameters, or their gradients, in the order of `parameters()`."""
        tree, pairs = tree["params"], [divmod(i, 2) for i in range(len(self.convs))]
        convs = [a for i, j in pairs for a in _ported(tree[f"level{i}_conv{j}"])]
        ups = [a for i in range(len(self.ups)) for a in _ported(tree[f"level{i}_up"], shuffled=2)]
        return [*convs, *ups, *_ported(tree["last"])]


def fill(module, tree):
    """The module with the Flax parameters."""
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), module.port(tree), strict=True):
            parameter.copy_(torch.tensor(value))
    return module


def _conv(before, after):
    return nn.Conv2d(before, after, 3, padding=1)


def _ported(layer, shuffled=1, unshuffled=None):
    """[kernel OIHW, bias] of a Flax convolution.

    Args:
      shuffled: a pixel shuffle of this factor follows, whose channels Flax has as (r^2, C), PyTorch as (C, r^2).
      unshuffled: (channels, factor): so many of the inputs come out of a pixel unshuffle.
    """
    kernel, bias = to_torch(np.asarray(layer["kernel"])), np.asarray(layer["bias"])
    order = _order(len(bias), shuffled)
    kernel, bias = kernel[order], bias[order]
    if unshuffled:
        kernel = kernel[:, [*_order(*unshuffled), *range(unshuffled[0], kernel.shape[1])]]
    return [kernel, bias]


def _order(channels, factor):
    return np.arange(channels).reshape(factor**2, -1).T.ravel()
