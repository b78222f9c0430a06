"""Faults of the disk that a run writes to, by small file systems of their own; where mounting is allowed."""

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

SLOW = 300_000  # bytes a second
_GROUP = Path(f"/sys/fs/cgroup/blkio/dci_jax_soak_{os.getpid()}")


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


def own(workdir: Path, slow: bool) -> bool:
    """A disk of 256 MiB in place of the workdir, with what was there on it; False where that is not allowed.

    It is an ext4 image, so that the kernel can take back the right to write (`only_readable`); a slow one writes at once,
    and a process that `slowed` took `SLOW` bytes a second.
    """
    image, held = (workdir.with_name(f"{workdir.name} {what}") for what in ("disk", "held"))
    with image.open("wb") as stream:
        stream.truncate(2**28)
    if workdir.exists():
        workdir.rename(held)
    workdir.mkdir()
    options = "loop,sync,dirsync" if slow else "loop"
    commands = [["mkfs.ext4", "-q", image], ["mount", "-o", options, image, workdir]]
    done = shutil.which("mkfs.ext4") and all(_works(command) for command in commands)
    if done:
        (workdir / "lost+found").rmdir()
        if held.exists():
            shutil.copytree(held, workdir, dirs_exist_ok=True)
            shutil.rmtree(held)
    else:
        image.unlink()
        workdir.rmdir()
        if held.exists():
            held.rename(workdir)
    return bool(done)


def only_readable(workdir: Path) -> None:
    """The kernel stops writing to a disk of its `own`, as after a fault, whatever is open on it."""
    subprocess.run(["mount", "-o", "remount,abort", workdir], capture_output=True, check=False)


def slowed(workdir: Path, process: int) -> None:
    """The process writes to a slow disk of its `own` at `SLOW` bytes a second; where control groups cannot, at once."""
    device = os.stat(workdir).st_dev
    try:
        _GROUP.mkdir(exist_ok=True)
        limit = f"{os.major(device)}:{os.minor(device)} {SLOW}"
        (_GROUP / "blkio.throttle.write_bps_device").write_text(limit)
        (_GROUP / "cgroup.procs").write_text(str(process))
    except OSError:
        pass


def moved_away(workdir: Path) -> bool:
    """Whether there was a workdir, which has another name now."""
    try:
        workdir.rename(workdir.with_name(f"{workdir.name} away"))
    except FileNotFoundError:  # it has not been made yet
        return False
    return True


def moved_back(workdir: Path) -> list[str]:
    """What had been put in its place, which is removed."""
    found = [str(path.relative_to(workdir)) for path in workdir.rglob("*")] if workdir.exists() else []
    shutil.rmtree(workdir, ignore_errors=True)
    workdir.with_name(f"{workdir.name} away").rename(workdir)
    return found


def unmount(workdir: Path) -> None:
    """What the disk holds stays, on an ordinary one; a disk that the kernel gave up may have lost what it had not written."""
    held, image = (workdir.with_name(f"{workdir.name} {what}") for what in ("held", "disk"))
    try:
        shutil.copytree(workdir, held)
    except shutil.Error as error:
        for _, copy, _ in error.args[0]:
            if Path(copy).is_file():  # cut where reading failed
                Path(copy).unlink()
    subprocess.run(["umount", workdir], check=True)
    image.unlink(missing_ok=True)
    _without_group()
    workdir.rmdir()
    held.rename(workdir)


def _without_group():
    """A process that was killed may stay in its control group for a moment; a group that is never left stays behind."""
    for _ in range(50):
        try:
            _GROUP.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.1)


def _works(command):
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def set_back(workdir: Path) -> None:
    """The clock goes back a day: whatever is there is of tomorrow."""
    tomorrow = time.time() + 86400
    for file in workdir.rglob("*"):
        os.utime(file, (tomorrow, tomorrow))
