"""What is to be converted: a timm name, a function of one's own, or a .pt2 file, as a program of core ATen operators."""

import logging
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dci_jax import import_from_string
from dci_jax.checkpoints import read
from dci_jax.convert.answers import one_answer
from dci_jax.errors import InputError, reason
from dci_jax.tensors import Layout

log = logging.getLogger("dci_jax")


@dataclass(frozen=True)
class Source:
    """An exported program, and what it does not say itself.

    Attributes:
      program: `torch.export`'s, in core ATen operators, with any batch size.
      name: of the network.
      shape: (H, W, C) of one input.
      mean, std: per channel, of the normalisation of images in [0, 1].
      crop: as `dci_jax.network.Network.crop`.
      tensors: how several features lie in its answer (`dci_jax.tensors`); () of one.
    """

    program: Any
    name: str
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop: float
    tensors: Layout = ()


def load(
    what: str,
    *,
    weights: str = "",
    random: bool = False,
    size: tuple[int, ...] = (),
    channels: int = 0,
    classes: int = 0,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    crop: float = 0.0,
) -> Source:
    """Find and export a network.

    Args:
      what: "timm:NAME", "module.path:function" (a function without arguments that returns an `nn.Module`), or a file
        FILE.pt2 of `torch.export.save`.
      weights: a checkpoint with the model's own names, read as `dci_jax.checkpoints.read` reads it; empty: of timm the
        published ones, which are downloaded, of a function those that it sets.
      random: timm's random weights (seed 0) instead of the published ones.
      size: side of the images in pixels, or (height, width); (): timm's own, or that of the .pt2 file's example, or 224.
      channels: of an image; 0: timm's own, or that of the .pt2 file's example, or 3.
      classes: of a timm network; 0: as published.
      mean, std, crop: () and 0: timm's own, or no normalisation and the whole image.

    Raises:
      InputError: it cannot be had, is no such network, or cannot be exported.
    """
    if what.startswith("timm:"):
        model, found = _timm(what.removeprefix("timm:"), random or bool(weights), size, classes)
    elif what.endswith(".pt2"):
        model, found = _pt2(Path(what))
    else:
        model, found = _own(what), {}
    if classes and not what.startswith("timm:"):
        raise InputError(f"--classes is {classes}, but only timm's networks can be given another head; leave it out.")
    if weights:
        _fill(model, weights)
    sides = (2 * size)[:2] if len(size) == 1 else size or found.get("size", (224, 224))
    if found.get("fixed", sides) != sides:
        raise InputError(
            f"--size is {' '.join(map(str, size))}, but {what} was exported for {' x '.join(map(str, found['fixed']))} pixels; leave --size out."
        )
    own = found.get("channels", channels or 3)
    if channels not in (0, own):
        raise InputError(f"--channels is {channels}, but {what} takes images of {own}; leave it out.")
    channels = own
    if channels not in (1, 3):
        raise InputError(
            f"{what} takes images of {channels} channels, but pictures have 3, or 1 if they are grey; begin it with a layer that makes its own of these."
        )
    mean, std = mean or found.get("mean", (0.0,)), std or found.get("std", (1.0,))
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels) or not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
            raise InputError(
                f"--{name} is {values}; give {channels} finite numbers, or one{' above 0' * (name == 'std')}."
            )
    crop = crop or found.get("crop", 1.0)
    if not 0 < crop <= 1:
        raise InputError(f"--crop is {crop}; give a share of the image's side, above 0 and at most 1.")
    if not what.startswith("timm:") and mean == (0.0,) and std == (1.0,):
        log.warning("no --mean and --std: images go into %s as they are, in [0, 1]", what)
    name = what.removeprefix("timm:").rpartition(":")[2]
    name = Path(name).stem if what.endswith(".pt2") else name
    program, lay = _exported(model, what, (channels, *sides))
    return Source(program, name, (*sides, channels), mean, std, crop, lay)


def _timm(name, random, size, classes):
    try:
        bear_torchvision()
        import timm
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"timm:NAME needs timm, which cannot be imported ({error}): pip install 'dci_jax[torch]', with torch and torchvision "
            "of one build."
        ) from error
    if not name.startswith(("hf-hub:", "hf_hub:")) and not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*")[:5]
        raise InputError(
            f"timm has no network {name!r}; {'perhaps ' + ', '.join(near) if near else 'see timm.list_models()'}."
        )
    timm.layers.set_fused_attn(False)  # attention as matrix products, which core ATen has
    torch.manual_seed(0)
    more = {"num_classes": classes} if classes else {}
    sized = {"img_size": size[0] if len(size) == 1 else size} if size else {}
    try:
        try:
            model = timm.create_model(name, pretrained=not random, **more, **sized)
        except TypeError:  # most convolutional networks take images of any size and have no such argument
            model = timm.create_model(name, pretrained=not random, **more)
    except Exception as error:  # of every kind: the hub's, timm's, PyTorch's
        raise InputError(
            f"timm could not make {name} ({type(error).__name__}: {reason(error)}); give --weights=PATH of its "
            "checkpoint, or --random."
        ) from error
    config = timm.data.resolve_model_data_config(model)
    found = {"size": tuple(config["input_size"][1:]), "channels": config["input_size"][0], "crop": config["crop_pct"]}
    return model.eval(), found | {"mean": tuple(config["mean"]), "std": tuple(config["std"])}


def bear_torchvision() -> None:
    """Let timm import a torchvision of another build than torch, whose operators, which no network here uses, cannot be loaded."""
    for _ in range(100):  # each time as far as the next operator that it registers something for
        try:
            import torchvision  # noqa: F401
        except ImportError:
            return
        except RuntimeError as error:
            missing = re.search(r"operator (torchvision::\w+) does not exist", str(error))
            if not missing:
                return
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            torch.library.define(missing[1], "(Tensor input) -> Tensor")
        else:
            return


def _pt2(path):
    if not path.is_file():
        raise InputError(f"No file at {path}; give one that torch.export.save wrote.")
    try:
        program = torch.export.load(path)
        (example,) = program.example_inputs[0]
        channels, *sides = example.shape[1:]
        model = program.module()
    except Exception as error:  # of every kind, by where the damage is
        raise InputError(
            f"{path} cannot be read ({type(error).__name__}: {reason(error)}); save it by "
            "torch.export.save, with one example image [B, C, H, W]."
        ) from error
    return model, {"size": tuple(sides), "fixed": tuple(sides), "channels": channels}


def _own(what):
    if ":" not in what:
        raise InputError(f"{what!r} is no network; give timm:NAME, module.path:function or FILE.pt2.")
    try:
        model = import_from_string.function(what)()
    except InputError:
        raise
    except Exception as error:  # of every kind: it is the user's function
        raise InputError(f"{what} failed ({type(error).__name__}: {error}); correct it.") from error
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"{what} returned a {type(model).__name__}; let it return a torch.nn.Module.")
    return _unwrapped(model).eval()


def _unwrapped(model):
    """The network in what DataParallel or torch.compile made of it."""
    while isinstance(inner := getattr(model, "_orig_mod", None) or getattr(model, "module", None), torch.nn.Module):
        model = inner
    return model


def _fill(model, weights):
    state = model.state_dict()
    counters = {key for key, tensor in state.items() if not tensor.is_floating_point()}
    tensors = read.without_prefix(read.read(weights), state.keys() - counters, weights)
    wrong = sorted((state.keys() - counters) ^ tensors.keys())
    if wrong:
        where = "lacks" if wrong[0] in state else "has, but the network has not,"
        raise InputError(
            f"{weights} {where} {wrong[0]!r} ({len(wrong)} such names); give the checkpoint of this network."
        )
    for key, tensor in tensors.items():
        if tuple(state[key].shape) != tensor.shape:
            raise InputError(
                f"{weights}: {key!r} is {list(tensor.shape)}, but the network's is {list(state[key].shape)}; give the "
                "checkpoint of this network, and --classes if its head is another."
            )
    model.load_state_dict({key: torch.from_numpy(np.array(tensor)) for key, tensor in tensors.items()}, strict=False)


def _exported(model, what, shape):
    for path, module in model.named_modules():
        if getattr(module, "track_running_stats", True) is False and isinstance(
            module, torch.nn.modules.batchnorm._BatchNorm
        ):
            raise InputError(
                f"{what}: the BatchNorm layer {path!r} has no running statistics, so features depend on the batch; give one with "
                "track_running_stats=True."
            )
    model, example = model.float(), torch.zeros(2, *shape)
    try:
        with torch.no_grad():
            answer = model(example)
    except Exception as error:  # of every kind: it is the user's network
        raise InputError(
            f"{what} does not take images of {list(shape)} ({reason(error)}); give --size or --channels if the images are others, or correct the network."
        ) from error
    lay = one_answer(model, answer, tuple(shape[1:]), what)
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export's, of its own parts
            program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
            return program.run_decompositions(), lay
    except Exception as error:  # torch.export's own, of many kinds
        raise InputError(
            f"{what} cannot be exported for any batch size ({type(error).__name__}: {reason(error)}); a .pt2 file has to be "
            "made with dynamic_shapes for the batch, and a network without control flow that looks at values."
        ) from error
