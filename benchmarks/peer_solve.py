"""A chain of solved inverters in PyTorch, written from the same equations: what `python -m benchmarks.solved_peer` compares with.

Images, features and regressors are [B, C, H, W]. The sums of the normal equations are made in two ways: as one would write them
first, by `unfold` and one product of matrices (`by_unfolding`), and as `dci_jax.dci.normal_equations` makes them, by one product
of channels for each frequency (`by_frequencies`). The ridge is looked for by the same code (`dci_jax.dci.ridge`).
"""

import math

import numpy as np

from benchmarks import peers
from dci_jax.dci import inverter as linear_inverter
from dci_jax.dci import normal_equations, precision, ridge
from dci_jax.dci.solve_inverter import HELPS

try:
    import torch
    from torch.nn import functional
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error


class Staged(peers.Target):
    """A `peers.Target` whose stem is two blocks where it has a pooling, as a chain undoes it."""

    def __init__(self, model, mean, std):
        super().__init__(model, mean, std)
        if hasattr(model, "maxpool"):
            self.blocks = [lambda x: model.bn1(model.conv1(x)).relu(), model.maxpool, *self.blocks[1:]]


def neighbourhoods(u, size):
    """[B, C, H, W] -> [B H W, C size^2], with zeros around the image."""
    return functional.unfold(u, size, padding=size // 2).transpose(1, 2).flatten(0, 1)


def with_ones(f):
    return torch.cat([f, torch.ones_like(f[:, :1])], 1)


def by_unfolding(pairs, size):
    """The normal equations of batches of (regressors, targets): float32 in a batch, float64 between them."""
    total = None
    for u, t in pairs:
        rows, targets = neighbourhoods(u, size), t.permute(0, 2, 3, 1).flatten(0, 2)
        new = [(rows.T @ b).double().numpy() for b in (rows, targets)]
        total = new if total is None else [a + b for a, b in zip(total, new, strict=True)]
    return normal_equations.Normal(*total)


def by_frequencies(pairs, size):
    """The same, from `moments`; taps come first in a solution, then channels."""
    total = None
    for u, t in pairs:
        total = normal_equations.added(total, {name: v.numpy() for name, v in moments(u, t, size).items()})
    return normal_equations.assemble(size, total)


def moments(u, t, size):
    """What `dci_jax.dci.normal_equations.moments` returns, for one batch."""
    if size == 1:
        columns, targets = (a.permute(1, 0, 2, 3).flatten(1) for a in (u, t))
        return {"shifts": (columns @ columns.T)[None], "cross": columns @ targets.T}
    r, reach, channels = size // 2, size - 1, u.shape[1]
    shape = u.shape[2] + reach, u.shape[3] + reach
    spectra, others = (torch.fft.rfft2(a, shape).permute(2, 3, 1, 0).contiguous() for a in (u, t))
    taps = [(y - r, x - r) for y, x in normal_equations.taps(size)]
    shifts = correlations(spectra, spectra, normal_equations.half_plane(size), shape)
    cross = correlations(spectra, others, taps, shape)
    strips = [strip(side[:, :, :r], size) for side in (u, u.flip(2), u.mT, u.mT.flip(2))]
    corners = [a.mT[:, :, :r, :r].permute(0, 2, 3, 1).flatten(1) for a in (u, u.flip(2), u.flip(3), u.flip(2, 3))]
    return {
        "shifts": shifts.view(-1, channels, channels),
        "cross": cross.view(-1, t.shape[1]),
        "strips": torch.stack(strips),
        "corners": torch.stack([a.T @ a for a in corners]),
    }


def correlations(u, t, shifts, shape):
    """sum_q u(q + d) t(q)^T for each shift d, [shifts, C T], of spectra [f, g, C, B], of half of the columns' frequencies g."""
    height, width = shape
    rows, columns = (np.array(part) for part in zip(*shifts, strict=True))
    counts = np.full(u.shape[1], 2.0)  # each stands for itself and for its negative one
    counts[0] = 1
    if width % 2 == 0:
        counts[-1] = 1
    total = 0
    for f, (a, b) in enumerate(zip(u, t, strict=True)):
        phase = np.add.outer(rows * f / height, np.zeros(u.shape[1])) + np.outer(columns, np.arange(u.shape[1])) / width
        wave = torch.tensor(np.exp(2j * np.pi * phase) * counts / (height * width), dtype=torch.complex64)
        products = torch.bmm(a, b.mH).flatten(1)
        total = total + wave.real @ products.real - wave.imag @ products.imag
    return total


def strip(rows, size):
    """Products of the rows [B, C, r, W] along a side with themselves, shifted by 0 to size - 1: [size, r C, r C]."""
    lines, width = rows.permute(2, 1, 0, 3), rows.shape[3]
    pairs = [(lines[..., d:], lines[..., : width - d]) for d in range(size)]
    return torch.stack([a.flatten(0, 1).flatten(1) @ b.flatten(0, 1).flatten(1).T for a, b in pairs])


def applied(u, kernel, size):
    """A * u, of [B, C, H, W]; kernel [C size^2, T], its rows in the order of `by_frequencies`."""
    weights = kernel.view(size, size, u.shape[1], -1).permute(3, 2, 0, 1)
    return functional.conv2d(u, weights, padding=size // 2)


def regressors(target, g, seen, f, x, precisions):
    """[x, f - F(x), J^T P (f - F(x)), J'^T P' (seen - F'(x)), f, 1], where the block halves the image on the smaller grid."""
    x, answers, errors = answered(target, g, seen, f, x)
    pairs = zip(answers, errors, precisions, strict=True)
    gradients = [torch.autograd.grad(a, x, weighted(e, p), retain_graph=True)[0] for a, e, p in pairs]
    residual = errors[0]
    folded = [functional.pixel_unshuffle(a, g.downsampling) for a in (x.detach(), *gradients)]
    return with_ones(torch.cat([folded[0], residual, *folded[1:], f], 1))


def answered(target, g, seen, f, x):
    """(x, [F(x), F'(x)], [f - F(x), seen - F'(x)]), without the second where F' is F."""
    x = x.detach().requires_grad_()
    answers = [target.run(x, g.index, g.index + 1)]
    if g.stop > g.index + 1:
        answers.append(target.run(answers[0], g.index + 1, g.stop))
    return x, answers, [(a - answer).detach() for a, answer in zip((f, seen), answers, strict=False)]


def weighted(error, precision):
    return torch.einsum("bchw,cd->bdhw", error, precision)


def precisions_of(target, g, part, x):
    """The inverse covariances of both errors, of as many batches as `dci_jax.dci.precision` takes."""
    totals, count = None, 0
    for (seen, f, _), guess in zip(part, x, strict=True):
        rows = [e.transpose(0, 1).flatten(1) for e in answered(target, g, seen, f, guess)[2]]
        new = [(a @ a.T).double().numpy() for a in rows]
        totals = new if totals is None else [a + b for a, b in zip(totals, new, strict=True)]
        count += min(a.shape[1] for a in rows)
        if count >= precision.PIXELS * max(map(len, rows)):
            break
    return [torch.tensor(precision._inverse(total)) for total in totals]


def step(g, kernel, size, u, x):
    """x + A * u, in the range of the block's input."""
    moved = functional.pixel_shuffle(applied(u, kernel, size), g.downsampling)
    return (x + moved).clamp(g.low, g.high)


def inverter(target, g, parts, settings, sums):
    """(maps, precisions, estimates of both parts); parts: (to be solved on, held out), lists of (seen, f, true)."""
    maps, precisions, worst, start = [], None, None, 1e-3
    sizes = linear_inverter.kernel_sizes(g, settings["kernel_size"], settings["max_unknowns"])
    x = [[f if g.same else torch.zeros_like(true) for _, f, true in part] for part in parts]
    for r in range(settings["num_corrections"] + 1):
        size = sizes[min(r, 1)]
        if r == 1:
            precisions = precisions_of(target, g, parts[0], x[0])
        u = [
            [
                regressors(target, g, seen, f, guess, precisions) if r else with_ones(f)
                for (seen, f, _), guess in zip(part, guesses, strict=True)
            ]
            for part, guesses in zip(parts, x, strict=True)
        ]

        def kernel(solution, size=size):
            found = torch.tensor(solution, dtype=torch.float32)
            if sums is by_unfolding:  # channels first, then taps
                found = found.unflatten(0, (-1, size**2)).transpose(0, 1).flatten(0, 1)
            return found

        def judge(solution, u=u, size=size, before=x):
            new = [step(g, kernel(solution, size), size, *pair) for pair in zip(u[1], before[1], strict=True)]
            return sum(float(((a - true) ** 2).sum()) for a, (_, _, true) in zip(new, parts[1], strict=True))

        known = [
            (a, functional.pixel_unshuffle(true - guess, g.downsampling))
            for a, (_, _, true), guess in zip(u[0], parts[0], x[0], strict=True)
        ]
        normal = sums(known, size)
        worst = judge(np.zeros(normal.cross.shape)) if worst is None else worst
        solution, start = ridge.best(normal, judge, worst, start or 1e-3, settled=r > 1)
        if solution is None:
            break
        before, worst = worst, judge(solution)
        x = [
            [step(g, kernel(solution), size, *pair) for pair in zip(*both, strict=True)]
            for both in zip(u, x, strict=True)
        ]
        maps.append((kernel(solution), size))
        if r and worst > HELPS * before:
            break
    return maps, precisions, x


def chain(target, specs, made, settings, sums):
    """The inverters of a chain from the deepest block of `specs`, the deepest first: (spec, maps, precisions).

    Args:
      specs: `InverterSpec` of each block, the shallowest first.
      made: inputs (to solve on, held out), lists of batches.
      settings: as for `dci_jax.dci.solve_chain.dci`.
      sums: `by_frequencies` or `by_unfolding`.
    """
    found, batch, split = [], len(made[0][0]), len(specs)
    ks = [linear_inverter.kernel_sizes(g, settings["kernel_size"], settings["max_unknowns"]) for g in specs]
    most, least = (len(part) * batch for part in made)
    counts = linear_inverter.enough(specs, ks, most, least, settings["samples_per_unknown"])
    with torch.no_grad():
        seen = estimates = [[target.run(x, 0, split) for x in part] for part in made]
    for g in reversed(specs):
        # As many as this inverter or a shallower one needs; the rest of what it needs itself is not solved on.
        need, own = (math.ceil(count / batch) for count in (max(counts[: g.index + 1]), counts[g.index]))
        used = [made[0][:need], made[1][: math.ceil(need * len(made[1]) / len(made[0]))]]
        with torch.no_grad():
            true = [[target.run(x, 0, g.index) for x in part] for part in used]
        parts = [list(zip(*columns, strict=False)) for columns in zip(seen, estimates, true, strict=True)]
        few = [parts[0][:own], parts[1][: math.ceil(own * len(made[1]) / len(made[0]))]]
        maps, precisions, solved = inverter(target, g, few, settings, sums)
        rest = [part[len(some) :] for part, some in zip(parts, few, strict=True)]
        estimates = [
            some + [undone(target, g, maps, precisions, seen, f) for seen, f, _ in more]
            for some, more in zip(solved, rest, strict=True)
        ]
        found.append((g, maps, precisions))
    return found


def undone(target, g, maps, precisions, seen, f):
    """The estimate of a block's input from its output f."""
    for r, (kernel, size) in enumerate(maps):
        if r == 0:
            x = f if g.same else 0
            x = step(g, kernel, size, with_ones(f), x)
        else:
            x = step(g, kernel, size, regressors(target, g, seen, f, x, precisions), x)
    return x


def read_back(target, inverters, seen):
    """Images from features at the chain's split."""
    f = seen
    for g, maps, precisions in inverters:
        f = undone(target, g, maps, precisions, seen, f)
    return f.detach()
