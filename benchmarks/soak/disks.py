"""Faults of the disk that a run writes to, by small file systems of their own; where mounting is allowed."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path


def mount(workdir: Path, rng: random.Random) -> bool:
    """A small disk of its own in place of the workdir, with what was there on it. False where that is not allowed."""
    content = sum(f.stat().st_size for f in workdir.rglob("*") if f.is_file()) if workdir.exists() else 0
    size = (content + rng.randrange(2**21)) // 4096 + 8
    held = workdir.with_name(workdir.name + " held")
    if workdir.exists():
        workdir.rename(held)
    workdir.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={4 * size}k,nr_inodes=100000", "tmpfs", workdir]
    done = subprocess.run(options, capture_output=True, check=False).returncode == 0
    if done and held.exists():
        try:
            shutil.copytree(held, workdir, dirs_exist_ok=True)
        except (OSError, shutil.Error):  # not even that fits
            subprocess.run(["umount", workdir], check=True)
            done = False
    if not done:
        workdir.rmdir()
        if held.exists():
            held.rename(workdir)
    elif held.exists():
        shutil.rmtree(held)
    return done


def unmount(workdir: Path) -> None:
    """What the disk holds stays, on an ordinary one."""
    held = workdir.with_name(workdir.name + " held")
    shutil.copytree(workdir, held)
    subprocess.run(["umount", workdir], check=True)
    workdir.rmdir()
    held.rename(workdir)


def set_back(workdir: Path) -> None:
    """The clock goes back a day: whatever is there is of tomorrow."""
    tomorrow = time.time() + 86400
    for file in workdir.rglob("*"):
        os.utime(file, (tomorrow, tomorrow))
