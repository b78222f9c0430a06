"""Where a network can be split, and how what is sent there lies: one tensor, or several that are alive at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp

from dci_jax.tensors import Layout, join, layout, separate
from dci_jax.typing import Array


@dataclass(frozen=True)
class Place:
    """A set of tensors, often one, that everything after it is computed from.

    Attributes:
      name: by PyTorch's module path, such as "layer1.0"; "" of the input and of the output.
      value: the tensor; of several the one that is computed last.
      layout: how it lies in PyTorch: "image" [B, C, H, W], "grid" [B, H, W, C], "tokens" [B, N, C], "vector", or "several".
      grid: (height, width) of the tokens' grid; of several tensors the smallest.
      before: tokens before those of the grid, such as the class token.
      channels: of a token, and of each of several tensors.
      default: a split point where none is asked for by name.
      parts: the tensors where there are several, each a place of one.
    """

    name: str
    value: str
    layout: str
    grid: tuple[int, int] = (0, 0)
    before: int = 0
    channels: int = 0
    default: bool = True
    parts: tuple["Place", ...] = ()

    @property
    def beside(self) -> int:
        """Channels behind those of the grid that hold the tokens before it (`to_grid`)."""
        return -(-self.before * self.channels // math.prod(self.grid)) if self.before else 0

    @property
    def values(self) -> tuple[str, ...]:
        """The names of its tensors."""
        return tuple(part.value for part in self.parts) or (self.value,)

    @property
    def tensors(self) -> Layout:
        """How several tensors lie in one array (`dci_jax.tensors`); () of one."""
        return layout([(*part.grid, part.channels) for part in self.parts]) if self.parts else ()


def together(parts: Sequence[Place], value: str) -> Place:
    """The place of several tensors, of which `value` is computed last.

    Raises:
      InputError: a grid is no whole multiple of the smallest.
    """
    layout([(*part.grid, part.channels) for part in parts])
    smallest = min(part.grid for part in parts)
    return Place(value, value, "several", smallest, default=False, parts=tuple(replace(p, name="") for p in parts))


def as_data(place: Place) -> dict[str, Any]:
    """A place as JSON; `from_data` is the inverse."""
    found = {key: value for key, value in vars(place).items() if key != "parts"}
    return found | ({"parts": [as_data(part) for part in place.parts]} if place.parts else {})


def from_data(data: Mapping[str, Any]) -> Place:
    """The inverse of `as_data`."""
    parts = tuple(from_data(part) for part in data.get("parts", ()))
    return Place(**{**data, "grid": tuple(data.get("grid", (0, 0))), "parts": parts})


def sent(place: Place, values: Mapping[str, Array]) -> Array:
    """Features [B, H, W, C] of the network's values by name."""
    if place.parts:
        return join([to_grid(part, values[part.value]) for part in place.parts])
    return to_grid(place, values[place.value])


def received(place: Place, x: Array) -> dict[str, Array]:
    """The inverse of `sent`: the network's values by name, of features [B, H, W, C]."""
    if place.parts:
        found = separate(x, place.tensors)
        return {part.value: from_grid(part, tensor) for part, tensor in zip(place.parts, found, strict=True)}
    return {place.value: from_grid(place, x)}


def to_grid(place: Place, x: Array) -> Array:
    """PyTorch's tensor as features: [B, C, H, W], [B, H, W, C] or [B, N, C] -> [B, H, W, C].

    Tokens before the grid's, p of them, are laid beside it: their p C numbers fill the channels behind the C of
    the grid, position by position, and zeros what is left of the last. Nothing is lost, and nothing counted twice.
    """
    if place.layout == "image":
        return jnp.moveaxis(x, 1, -1)
    if place.layout != "tokens":
        return x
    (h, w), before, channels = place.grid, place.before, place.channels
    grid = x[:, before:].reshape(-1, h, w, channels)
    if not before:
        return grid
    beside = jnp.pad(x[:, :before].reshape(len(x), -1), ((0, 0), (0, place.beside * h * w - before * channels)))
    return jnp.concatenate([grid, jnp.moveaxis(beside.reshape(-1, place.beside, h, w), 1, -1)], -1)


def from_grid(place: Place, x: Array) -> Array:
    """The inverse of `to_grid`."""
    if place.layout == "image":
        return jnp.moveaxis(x, -1, 1)
    if place.layout != "tokens":
        return x
    (h, w), before, channels = place.grid, place.before, place.channels
    if not before:
        return x.reshape(-1, h * w, channels)
    beside = jnp.moveaxis(x[..., channels:], -1, 1).reshape(len(x), -1)[:, : before * channels]
    return jnp.concatenate([beside.reshape(-1, before, channels), x[..., :channels].reshape(-1, h * w, channels)], 1)
