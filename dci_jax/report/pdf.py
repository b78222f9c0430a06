"""The page of a report as a PDF, printed by a browser without a window."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from dci_jax.errors import InputError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NAME = "report.pdf"
PATIENCE = 120  # seconds


def write(page: Path) -> Path:
    """Print a page to report.pdf beside it; returns its path.

    Raises:
      InputError: there is no Chromium or Chrome, or it prints nothing.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise InputError(
            "--pdf needs Chromium or Chrome on the PATH; install one, or print report/index.html from any browser."
        )
    made = page.with_name(NAME)
    made.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as profile:
        line = [browser, "--headless=new", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={profile}"]
        line += ["--no-sandbox"] * (os.geteuid() == 0)  # Chromium's sandbox refuses root
        try:
            subprocess.run(
                [*line, f"--print-to-pdf={made.resolve()}", page.resolve().as_uri()],
                capture_output=True,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InputError(f"--pdf: {browser} did not print {page} ({error}); print it from any browser.") from error
    if not made.exists():
        raise InputError(f"--pdf: {browser} printed nothing; print {page} from any browser.")
    return made
