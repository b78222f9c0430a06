"""Remake the report of a finished run: `python -m dci_jax.report WORKDIR`.

Several workdirs make one joint report: `python -m dci_jax.report W1 W2 ... [--out=FOLDER]`; audits that differ
only in their seed make one audit's page.
"""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dci_jax.errors import InputError
from dci_jax.report import audit, evidence, gate, images, joint, latents, pdf, recorded
from dci_jax.report.finished import check
from dci_jax.runtime.files import differences


def again(workdir: Path) -> Path:
    """Make the report of a finished run again: an audit's, a classifier's or a generator's. Returns the page's path."""
    config = json.loads((workdir / "config.json").read_text())
    if config.get("features") and not config["data"]["images"]:
        return recorded.write(workdir)
    if config.get("audit", {}).get("page"):
        return audit.write(workdir)
    with (workdir / "summary.csv").open() as stream:
        of_codes = any(row["latent_cosine"] for row in csv.DictReader(stream))
    return (latents if of_codes else images).write(workdir)


def together(workdirs: Sequence[Path], folder: Path) -> Path:
    """One page of several finished runs: an audit's, where they are one audit with several seeds; else a joint one."""
    configs = [json.loads((w / "config.json").read_text()) for w in workdirs]
    seeds = {config["seed"] for config in configs}
    same = all(set(differences(configs[0], config)) <= {"seed"} for config in configs)
    if same and len(seeds) == len(configs) and configs[0].get("audit", {}).get("page"):
        return audit.write_together(workdirs, folder)
    return joint.write(workdirs, folder)


def check_folder(out: Path) -> None:
    """Make the folder of a joint report, or raise InputError where that cannot be."""
    if str(out) == ".":
        raise InputError("--out is the current folder; give a separate one, such as runs/together.")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise InputError(f"--out: {out} cannot be written ({error.strerror}); give another folder.") from error


def main(argv: list[str]) -> int:
    """The command line. Returns the exit code: 2 if no workdir given holds a finished run, 3 where --gate finds the policy not met."""
    parser = argparse.ArgumentParser(prog="python -m dci_jax.report", description=__doc__.split("\n")[0])
    parser.add_argument("workdirs", nargs="+", type=Path, help="one: remake its report; several: one joint report")
    parser.add_argument(
        "--gate", action="store_true", help="exit code 3 where an audit's policy is not met; writes junit.xml"
    )
    parser.add_argument("--pdf", action="store_true", help="also print the page to report.pdf, by Chromium or Chrome")
    parser.add_argument("--out", type=Path, help="folder of the joint report; default: beside the workdirs")
    given = parser.parse_args(argv)
    finished = [w for w in given.workdirs if (w / "summary.csv").exists()]
    for workdir in given.workdirs:
        if workdir not in finished:
            print(
                f"{workdir} holds no finished run (no summary.csv); it is skipped.",
                file=sys.stderr,
            )
    if not finished:
        return 2
    out = given.out or (None if len(given.workdirs) == 1 else joint.beside(finished))
    try:
        for workdir in finished:
            check(workdir)
        if len(given.workdirs) == 1 and given.out:
            raise InputError(f"--out is {given.out}, but the report of one run stays in its workdir; omit --out.")
        if out is not None:
            check_folder(out)
        page = again(finished[0]) if out is None else together(finished, out)
        print(page)
        if given.pdf:
            print(pdf.write(page))
            evidence.sign(page.parent)
        if given.gate and (missed := gate.gate(page.parent)):
            print(f"dci_jax.report: {missed}", file=sys.stderr)
            return gate.CODE
    except InputError as error:
        print(f"dci_jax.report: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # there is one of its own for every place that can be damaged
        print(
            f"A file of {', '.join(map(str, finished))} is damaged or missing ({error!r}); give the command "
            "of that run again to remake what is missing.",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
