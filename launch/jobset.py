"""A run, or a sweep, on Kubernetes: fills in launch/jobset_gpu.yaml or jobset_tpu.yaml and applies it.

    python -m launch.jobset --accelerator=gpu --hosts=2 --image=REGISTRY/dci_jax --claim=runs --name=audit \\
        [--dry_run] --config=configs/resnet50.py --workdir=/runs/resnet50

`--claim` is a PersistentVolumeClaim that all hosts can write; it is mounted at /runs. `--dry_run` prints
the manifest. Further arguments are those of `dci_jax.main`.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

PORT, MOUNT = 8476, "/runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a cluster must be told."""
    parser.add_argument("--accelerator", choices=("gpu", "tpu"), default="gpu", help="which template")
    parser.add_argument("--image", required=True, help="container image, from launch/Dockerfile")
    parser.add_argument("--claim", required=True, help="PersistentVolumeClaim, mounted at /runs")
    parser.add_argument("--name", default="dci-jax", help="of the JobSet")


def wrong(known: argparse.Namespace) -> str:
    """What Kubernetes would refuse of the names, in a sentence; "" of none."""
    label, image = r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", r"[a-z0-9]+([._/:-][a-zA-Z0-9_-]+)*(@sha256:[0-9a-f]{64})?"
    if not re.fullmatch(label, known.name):  # a pod's name has it, "-worker-0-" and more, and may have 63 characters
        return f"--name is {known.name!r}; give at most 40 small letters, digits and hyphens, the first and last no hyphen."
    if not re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", known.claim):
        return f"--claim is {known.claim!r}; give the name of a PersistentVolumeClaim: small letters, digits, hyphens and dots."
    if not re.fullmatch(image, known.image):
        return f"--image is {known.image!r}; give a container image, such as registry/dci_jax:1."
    return ""


def _wrong_run(known, arguments):
    """The same, of hosts and of the run's own flags, which would fail in every pod."""
    if not 1 <= known.hosts <= 10_000:
        return f"--hosts is {known.hosts}; give 1 to 10000."
    known_flags = ("--config", "--workdir", "--profile")
    given = {}
    for argument in arguments:
        name, _, value = argument.partition("=")
        if not (name in known_flags or name.startswith("--config.")):
            return f"Unexpected argument {argument!r}; give flags of dci_jax.main as --name=value."
        given[name] = value
    config = given.get("--config", "").partition(":")[0]
    if not config:
        return "There is no --config; give one, such as --config=configs/resnet50.py."
    if not Path(config).is_absolute() and not (Path(__file__).parent.parent / config).is_file():
        return f"--config is {config!r}, which is no file of this checkout, from which the image is made."
    workdir = given.get("--workdir", "")
    if not workdir.startswith(MOUNT + "/") or ".." in Path(workdir).parts:
        return f"--workdir is {workdir!r}; give a folder below {MOUNT}, where --claim is mounted."
    return ""


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
    if shutil.which("kubectl") is None:
        print("launch.jobset: there is no kubectl on the PATH; install it, or take --dry_run.", file=sys.stderr)
        return 2
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
    if found := wrong(known) or _wrong_run(known, arguments):
        print(f"launch.jobset: {found}", file=sys.stderr)
        return 2
    return start(run(known, arguments), known.dry_run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
