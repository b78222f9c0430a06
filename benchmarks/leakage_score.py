"""How well the score without an attack (`dci_jax.leakage_scores`) ranks split points: beside what `dci` reconstructs there.

    python -m benchmarks.leakage_score --out=benchmarks/results/leakage_score.json \\
        cifar_resnet20,,benchmarks/results/audit resnet50,resnet50.safetensors,benchmarks/results/resnet50

Each argument is a network, its weights (empty: those in the package), and the folders, joined by a colon, of the results that it is
compared with. The file has score, PSNR and numbers sent of every split point, and Spearman's rank correlation of PSNR with score, in
each network and over all of them; beside it that with the numbers sent, as a share of the image's.
"""

import argparse
import csv
import json
import time
from pathlib import Path

from scipy.stats import spearmanr

import dci_jax


def measured(folders: str) -> dict[str, float]:
    """Split point -> PSNR in dB of `dci` without a defense."""
    found = {}
    for folder in folders.split(":"):
        with (Path(folder) / "summary.csv").open() as stream:
            rows = [r for r in csv.DictReader(stream) if (r["attack"], r["defense"]) == ("dci", "none")]
        found |= {row["split"]: round(float(row["psnr"]), 4) for row in rows}
    return found


def correlations(rows: list[dict]) -> dict[str, float | None]:
    """Spearman's rank correlation of the rows' PSNR with their score, and with the share of numbers sent; None where all are equal."""
    psnr, found = [row["psnr"] for row in rows], {}
    for by in ("score", "share_of_input"):
        values = [row[by] for row in rows]
        found[by] = round(float(spearmanr(psnr, values).statistic), 3) if len(set(values)) > 1 else None
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NAME,WEIGHTS,RESULTS")
    parser.add_argument("--out", type=Path, required=True)
    settings = parser.parse_args()
    rows, networks = [], {}
    for each in settings.networks:
        name, weights, folders = each.split(",")
        psnr, network = measured(folders), dci_jax.load_network(name, weights)
        begin = time.monotonic()
        scores = dci_jax.leakage_scores(network, tuple(psnr))
        seconds = (time.monotonic() - begin) / len(psnr)
        sent = {row["name"]: row["share_of_input"] for row in dci_jax.split_points(network)}
        own = [
            {
                "network": network.name,
                "split": split,
                "psnr": psnr[split],
                "score": round(scores[split], 2),
                "share_of_input": round(sent[split], 4),
            }
            for split in psnr
        ]
        rows += own
        networks[network.name] = {
            "rank_correlation": correlations(own),
            "seconds_per_split": round(seconds, 1),
            "results": folders,
        }
        print(network.name, json.dumps(own, indent=1), flush=True)
        found = {"rows": rows, "rank_correlation": correlations(rows), "networks": networks}
        settings.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
