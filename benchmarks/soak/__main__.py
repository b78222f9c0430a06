"""Faults by the thousand: each number names its case, the same line goes on where it stopped.

python -m benchmarks.soak inputs --count=10000 --out=benchmarks/results/soak_inputs.json
python -m benchmarks.soak inputs --only=17      # that case alone, with its traceback
python -m benchmarks.soak known --count=4000 --out=benchmarks/results/soak_known.json
python -m benchmarks.soak kills --count=1000 --minutes=60 --out=benchmarks/results/soak_kills.json
"""

import argparse
import sys
from pathlib import Path

from benchmarks.soak import inputs, kills, known, runs


def main() -> int:
    """Returns 1 if there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    for name, module in (("inputs", inputs), ("known", known)):
        bad = kinds.add_parser(name, help=module.__doc__.split("\n")[0])
        bad.add_argument("--count", type=int, default=1000)
        bad.add_argument("--start", type=int, default=0, help="number of the first case")
        bad.add_argument("--jobs", type=int, default=1, help="processes at a time")
        bad.add_argument("--only", type=int, help="one case")
        bad.add_argument("--out", type=Path, help="JSON")
    again = kinds.add_parser("runs", help=runs.__doc__.split("\n")[0])
    again.add_argument("--count", type=int, default=60)
    again.add_argument("--out", type=Path, help="JSON")
    killed = kinds.add_parser("kills", help=kills.__doc__.split("\n")[0])
    killed.add_argument("--count", type=int, default=20)
    killed.add_argument("--minutes", type=float, default=60.0, help="none is begun after so many")
    killed.add_argument("--jobs", type=int, default=1, help="runs at a time")
    killed.add_argument("--seed", type=int, default=0)
    killed.add_argument("--out", type=Path, help="JSON; what is there counts, and is gone on with")
    given = parser.parse_args()
    command = " ".join(["python -m benchmarks.soak", *sys.argv[1:]])
    if given.kind in inputs.SETS:
        return inputs.soak(
            given.kind, range(given.start, given.start + given.count), given.only, given.jobs, given.out, command
        )
    if given.kind == "runs":
        return runs.soak(given.count, given.out, command)
    return kills.soak(given.count, given.minutes, given.jobs, given.seed, given.out, command)


if __name__ == "__main__":
    sys.exit(main())
