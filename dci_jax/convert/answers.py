"""What a PyTorch network returns, as one tensor: its logits, or all of its features side by side (`dci_jax.tensors`)."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dci_jax.errors import InputError
from dci_jax.tensors import Layout, layout

log = logging.getLogger("dci_jax")


def one_answer(model: torch.nn.Module, answer: Any, sides: tuple[int, int], what: str) -> Layout:
    """Make `model` return one tensor instead of `answer`, and say how several features lie in it; () of one alone.

    Logits [B, classes] that come first are the answer. Else all features [B, C, h, w] or [B, h, w, C] are, and what comes first
    where there are none.

    Args:
      model: gets a forward hook.
      answer: what it returned.
      sides: (height, width) of the images.
      what: the network, for messages.

    Raises:
      InputError: it returns no tensor, or features on grids of which the smallest does not divide the others.
    """
    if isinstance(answer, torch.Tensor):
        return ()
    found = list(tensors(answer))
    if not found:
        raise InputError(
            f"{what} returns a {type(answer).__name__} without a tensor [B, ...]; give a network that returns one."
        )
    features = [i for i, (_, tensor) in enumerate(found) if tensor.ndim == 4]
    chosen = features if features and found[0][1].ndim != 2 else [0]
    named = ", ".join(found[i][0] for i in chosen)
    if len(chosen) > 1:
        log.info("%s returns features %s: all of them are sent at the last split point, outputs", what, named)
    if len(found) > len(chosen):
        log.warning(
            "%s returns %d tensors (%s): %s is taken for its answer, and places are what this one is computed from. Where the others "
            "are computed from something else, a device sends that, too",
            what,
            len(found),
            ", ".join(name for name, _ in found),
            named,
        )
    if len(chosen) == 1:
        model.register_forward_hook(lambda module, given, answer: list(tensors(answer))[chosen[0]][1])
        return ()
    last = [_channels_last(found[i][1].shape, sides) for i in chosen]
    shapes = [tuple(found[i][1].shape[1:]) for i in chosen]
    lay = layout([s if turned else (*s[1:], s[0]) for s, turned in zip(shapes, last, strict=True)])

    def joined(module, given, answer):
        every = list(tensors(answer))
        images = [
            every[i][1].permute(0, 3, 1, 2) if turned else every[i][1] for i, turned in zip(chosen, last, strict=True)
        ]
        folded = [
            torch.nn.functional.pixel_unshuffle(t, factor) if factor > 1 else t
            for t, (_, factor) in zip(images, lay, strict=True)
        ]
        return torch.cat(folded, 1)

    model.register_forward_hook(joined)
    return lay


def tensors(answer: Any, name: str = "answer") -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of all floating-point tensors in a network's answer, in their order."""
    if isinstance(answer, torch.Tensor):
        if answer.is_floating_point() and answer.ndim > 1:
            yield name, answer
    elif isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from tensors(value, f"{name}[{key!r}]")
    elif isinstance(answer, list | tuple):
        for number, value in enumerate(answer):
            yield from tensors(value, f"{name}[{number}]")


def _channels_last(shape, sides):
    """Whether [B, a, b, c] has the images' proportions in its first two axes and not in its last."""
    (_, a, b, c), (height, width) = shape, sides
    first, last = (abs(h * width - w * height) < max(height, width) for h, w in ((a, b), (b, c)))
    return first and not last
