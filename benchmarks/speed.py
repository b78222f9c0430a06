"""Makes docs/speed.md anew: every measurement of that page, one after the other, then its tables: an hour on two idle cores.

    python -m benchmarks.speed resnet18.safetensors                              # all
    python -m benchmarks.speed resnet18.safetensors steps quickstart             # these
    python -m benchmarks.speed                                                   # without ResNet-18's rows: not for the page

Each is a process of its own, on an otherwise idle machine. `steps` needs jemalloc (Debian's `libjemalloc2`). What tables do not have
(dates, the sentences about them) is the author's: `git diff docs/speed.md` shows what moved.
"""

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

from benchmarks import pages
from benchmarks.usage import arguments

RESULTS, PAGE = pages.ROOT / "benchmarks" / "results", pages.ROOT / "docs" / "speed.md"
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
JEMALLOC = {
    "LD_PRELOAD": "libjemalloc.so.2",
    "MALLOC_CONF": "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1",
}
# Name -> (variables, module, file); those that take the weights of ResNet-18 take them last.
MEASUREMENTS = {
    "steps": (JEMALLOC, "side_by_side", "side_by_side/cpu.json"),
    "steps_glibc": (HUGE, "side_by_side", "side_by_side/cpu_glibc.json"),
    "quickstart": (HUGE, "quickstart", "side_by_side/quickstart.json"),
    "solve": (HUGE, "solved_peer", "solved_peer.json"),
    "one_image": (HUGE, "end_to_end", "side_by_side/end_to_end.json"),
}


def main(*given: str) -> str | None:
    weights = [word for word in given if Path(word).suffix]
    names = [word for word in given if word not in weights] or list(MEASUREMENTS)
    for name in set(names) - set(MEASUREMENTS):
        return f"No measurement is called {name!r}; choose from: {', '.join(MEASUREMENTS)}."
    for file in weights:
        if not Path(file).exists():
            return f"There is no file {file}; give the weights of torchvision's ResNet-18."
    if "steps" in names and not ctypes.util.find_library("jemalloc"):
        return "steps needs jemalloc: apt-get install libjemalloc2."
    for name in names:
        variables, module, file = MEASUREMENTS[name]
        given = weights if name == "solve" else []
        clean = {key: value for key, value in os.environ.items() if key not in {*HUGE, *JEMALLOC}}
        print(f"{name}: python -m benchmarks.{module}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{module}", str(RESULTS / file), *given]
        if subprocess.run(command, env=clean | variables, check=False).returncode:
            return f"{name} failed; its lines are above."
        PAGE.write_text(pages.rewritten(PAGE.read_text()))
    return None


if __name__ == "__main__":
    sys.exit(main(*arguments(__doc__, 0)))
