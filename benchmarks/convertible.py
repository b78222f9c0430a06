"""Which of timm's families can be converted: the smallest network of each, random weights, exported, and compared with PyTorch.

    python -m benchmarks.convertible --out=benchmarks/results/convertible.json

Each is tried once, at --side pixels or, where it takes no other, at its own size. Families whose smallest network has more than
--most million weights are left out, and so are those that timm cannot make here. The same line goes on after a stop.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

import jax

from dci_jax.convert.__main__ import from_torch
from dci_jax.errors import InputError
from dci_jax.importers import bundle

try:
    from dci_jax.convert.source import bear_torchvision

    bear_torchvision()
    import timm
    import torch
except ImportError as error:
    raise SystemExit(f"This compares with PyTorch ({error}): pip install 'dci_jax[torch]'.") from error


def smallest(module: str) -> tuple[float, str] | None:
    """(million weights, name) of the smallest network in one of timm's modules."""
    found = []
    for name in timm.list_models(module=module):
        try:
            with torch.device("meta"):
                found.append((sum(p.numel() for p in timm.create_model(name).parameters()) / 1e6, name))
        except Exception:  # some cannot be made without numbers
            continue
    return min(found, default=None)


PATIENCE = 400  # seconds for one network


def attempt(name: str, side: int) -> dict:
    """What became of one network."""
    begin, found = time.monotonic(), {}
    signal.signal(signal.SIGALRM, _late)
    for size in ((side,), ()):
        try:
            signal.alarm(PATIENCE)
            found = converted(name, size)
        except InputError as error:
            found = {"refused": str(error)}
        except Exception as error:  # a fault of ours: to be found
            found = {"crashed": repr(error)[:300]}
        finally:
            signal.alarm(0)
            jax.clear_caches()
        if "splits" in found:
            break
    return {"name": name, **found, "seconds": round(time.monotonic() - begin, 1)}


def converted(name: str, size: tuple[int, ...]) -> dict:
    """Split points and parity of a network that is converted for images of that size; () is its own."""
    given = dict(weights="", random=True, size=size, channels=0, classes=0, mean=(), std=(), crop=0.0, all_splits=False)
    with tempfile.TemporaryDirectory() as folder:
        given |= {"network": f"timm:{name}", "out": Path(folder)}
        from_torch(argparse.Namespace(**given), Path(folder))
        manifest = json.loads((Path(folder) / bundle.MANIFEST).read_text())
    return {
        "splits": [place["name"] for place in manifest["places"] if place["default"]],
        "places": len(manifest["places"]),
        "side": manifest["shape"][0],
        "parity": manifest["parity"],
    }


def _late(*_):
    raise TimeoutError(f"not converted in {PATIENCE} seconds")


def main() -> int:
    """Prints a line for each family, and writes all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=float, default=40, help="million weights")
    parser.add_argument("--side", type=int, default=64, help="pixels, where the network takes them")
    settings = parser.parse_args()
    rows = json.loads(settings.out.read_text())["families"] if settings.out.exists() else {}
    for module in timm.list_modules():
        if module in rows:
            continue
        size = smallest(module)
        if size is None or size[0] > settings.most:
            rows[module] = {"left_out": size}
        else:
            rows[module] = attempt(size[1], settings.side) | {"million_weights": round(size[0], 2)}
        print(module, rows[module], flush=True)
        settings.out.write_text(
            json.dumps({"timm": timm.__version__, "torch": torch.__version__, "families": rows}, indent=1)
        )
    tried = [row for row in rows.values() if "left_out" not in row]
    print(f"{sum('splits' in row for row in tried)} of {len(tried)} families are converted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
