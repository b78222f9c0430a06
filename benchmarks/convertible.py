"""Which of timm's families can be converted: the smallest network of each, random weights, exported and read.

    python -m benchmarks.convertible --out=benchmarks/results/convertible.json

Each is tried once at its own image size; the answers are not compared (`python -m dci_jax.convert` does that). Families whose
smallest network has more than --most million weights are left out, and so are those that timm cannot make here.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from dci_jax.convert import graph, source
from dci_jax.errors import InputError

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


def attempt(name: str) -> dict:
    """What became of one network."""
    begin = time.monotonic()
    try:
        places = graph.read(source.load(f"timm:{name}", random=True).program).places
        if not places:
            raise InputError("no place where one tensor alone is alive")
        found = {"splits": [place.name for place in places if place.default], "places": len(places)}
    except InputError as error:
        found = {"refused": str(error)}
    except Exception as error:  # a fault of ours: to be found
        found = {"crashed": repr(error)[:300]}
    return {"name": name, **found, "seconds": round(time.monotonic() - begin, 1)}


def main() -> int:
    """Prints a line for each family, and writes all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=float, default=40, help="million weights")
    settings = parser.parse_args()
    rows = {}
    for module in timm.list_modules():
        size = smallest(module)
        if size is None or size[0] > settings.most:
            rows[module] = {"left_out": size}
        else:
            rows[module] = attempt(size[1]) | {"million_weights": round(size[0], 2)}
        print(module, rows[module], flush=True)
        settings.out.write_text(
            json.dumps({"timm": timm.__version__, "torch": torch.__version__, "families": rows}, indent=1)
        )
    tried = [row for row in rows.values() if "left_out" not in row]
    print(f"{sum('splits' in row for row in tried)} of {len(tried)} families are converted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
