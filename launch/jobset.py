"""A run, or a sweep, on Kubernetes: fills in launch/jobset_gpu.yaml or jobset_tpu.yaml and applies it.

    python -m launch.jobset --accelerator=gpu --hosts=2 --image=REGISTRY/dci_jax --claim=runs --name=audit \\
        [--dry_run] --config=configs/resnet50.py --workdir=/runs/resnet50

`--claim` is a PersistentVolumeClaim that all hosts can write; it is mounted at /runs. `--dry_run` prints
the manifest. Further arguments are those of `dci_jax.main`.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

PORT = 8476


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a cluster must be told."""
    parser.add_argument("--accelerator", choices=("gpu", "tpu"), default="gpu", help="which template")
    parser.add_argument("--image", required=True, help="container image, from launch/Dockerfile")
    parser.add_argument("--claim", required=True, help="PersistentVolumeClaim, mounted at /runs")
    parser.add_argument("--name", default="dci-jax", help="of the JobSet")


def run(known: argparse.Namespace, arguments: list[str]) -> dict:
    """The manifest of one run on `known.hosts` hosts."""
    manifest, job, container = _filled(known)
    job["completions"] = job["parallelism"] = known.hosts
    container["command"] = ["python", "-m", "dci_jax.main", *arguments]
    if known.accelerator == "gpu" and known.hosts > 1:
        leader = f"{known.name}-worker-0-0.{known.name}:{PORT}"
        container["command"] += [
            f"--coordinator={leader}",
            f"--processes={known.hosts}",
            "--process=$(JOB_COMPLETION_INDEX)",
        ]
    return manifest


def array(known: argparse.Namespace, command: list[str], count: int) -> dict:
    """The manifest of a sweep: one pod of one host for each point, `known.jobs` at a time."""
    manifest, job, container = _filled(known)
    job["completions"], job["parallelism"] = count, known.jobs
    # Each index on its own: bad input fails that index, a stop (75) does not count, the rest is tried again.
    del manifest["spec"]["failurePolicy"]["rules"], job["backoffLimit"]
    manifest["spec"]["failurePolicy"]["maxRestarts"] = 0
    job["backoffLimitPerIndex"], job["maxFailedIndexes"] = 3, count
    codes = {"containerName": container["name"], "operator": "In"}
    job["podFailurePolicy"]["rules"] = [
        {"action": "FailIndex", "onExitCodes": codes | {"values": [2]}},
        {"action": "Ignore", "onExitCodes": codes | {"values": [75]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    container["command"] = command
    # A point is a run of its own: its pod is not to look for others.
    alone = {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}
    if known.accelerator == "tpu":
        container["env"] = [{"name": k, "value": v} for k, v in alone.items()]
    return manifest


def start(manifest: dict, dry_run: bool) -> int:
    """Apply it with kubectl, or print it. Returns the exit code."""
    text = yaml.safe_dump(manifest, sort_keys=False, width=200)
    if dry_run:
        print(text, end="")
        return 0
    return subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True).returncode


def _filled(known):
    template = Path(__file__).with_name(f"jobset_{known.accelerator}.yaml")
    manifest = yaml.safe_load(template.read_text())
    manifest["metadata"]["name"] = known.name
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    pod["volumes"][0]["persistentVolumeClaim"]["claimName"] = known.claim
    pod["containers"][0]["image"] = known.image
    return manifest, job, pod["containers"][0]


def main(argv: list[str]) -> int:
    """The command line. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.jobset", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    add_arguments(parser)
    parser.add_argument("--hosts", type=int, default=1, help="pods, one per host")
    parser.add_argument("--dry_run", action="store_true", help="print the manifest")
    known, arguments = parser.parse_known_args(argv)
    return start(run(known, arguments), known.dry_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
