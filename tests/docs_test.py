"""The documentation: its links lead somewhere, its site builds without a warning, its notebooks run."""

import re
import subprocess
import sys

import pytest

from tests.command_line import ROOT

PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("[CS]*.md")]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.md"))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_of_a_page_leads_to_a_file_and_a_heading_of_it(page):
    for file, heading in LINK.findall(page.read_text()):
        target = page.parent / file if file else page
        assert target.exists(), f"{page.name} links to {file}"
        if heading:
            assert heading[1:] in headings(target.read_text()), f"{page.name} links to {file}{heading}"


def headings(text):
    """The anchors that GitHub and the site give to the headings of a page."""
    found = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", line.replace("`", "")).strip().lower().replace(" ", "-") for line in found}


def test_every_page_is_in_the_table_of_contents():
    listed = set()
    for block in re.findall(r"```{toctree}\n(.*?)```", (ROOT / "docs" / "index.md").read_text(), re.S):
        listed |= {line for line in block.splitlines() if line and not line.startswith(":")}
    docs = ROOT / "docs"
    pages = {str(page.relative_to(docs).with_suffix("")) for page in docs.rglob("*.md") if "_build" not in page.parts}
    assert listed == pages - {"index"}


SMALL = {
    "dci.num_images": 16,
    "dci.num_corrections": 1,
    "dci.kernel_size": 3,
    "data.count": 4,
    "prior_fitting.steps": 2,
}
# A test needs no good pictures: a few inputs instead of the notebooks' own number.
FEWER = {
    '("layer1.2", "layer3.0")': '("stem", "layer1.0")',
    '"layer2.2"': '"layer1.0"',
    '"layer1.2"': '"layer1.0"',
    "num_images=256": "num_images=64, num_validation=32, batch_size=32, num_corrections=1, kernel_size=3",
    "start=first)": "start=first, num_steps=1, num_conjugate=2)",
    "key=jax.random.key(0), progress=False": "key=jax.random.key(0), num_steps=5, progress=False",
    "    progress=False,\n)": f"    progress=False,\n    settings={SMALL},\n)",
}


def cells(notebook):
    """The code of a text notebook."""
    text = notebook.read_text()
    for many, few in FEWER.items():
        text = text.replace(many, few)
    return re.findall(r"```{code-cell} ipython3\n(.*?)```", text, re.S)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[notebook.stem for notebook in NOTEBOOKS])
def test_a_notebook_runs(notebook, tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setattr(matplotlib, "get_backend", lambda: "agg")
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, code in enumerate(cells(notebook)):
        exec(compile(code, f"{notebook.name}, cell {number}", "exec"), names)
    if notebook.stem == "reconstruct":
        assert names["psnr"].min() > 15
    else:
        assert "pairs of split point and defense" in names["report"].verdict


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[notebook.stem for notebook in NOTEBOOKS])
def test_a_notebook_and_its_text_are_one(notebook):
    jupytext = pytest.importorskip("jupytext", reason="compares notebooks: pip install 'dci_jax[docs]'")
    text, paired = jupytext.read(notebook), jupytext.read(notebook.with_suffix(".ipynb"))
    assert [(c.cell_type, c.source) for c in text.cells] == [(c.cell_type, c.source) for c in paired.cells]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("myst_nb", reason="builds the site: pip install 'dci_jax[docs]'")
    build = ["-b", "html", "-W", "--keep-going", "-q", "-D", "nb_execution_mode=off", "docs", str(tmp_path / "site")]
    done = subprocess.run([sys.executable, "-m", "sphinx", *build], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    api = (tmp_path / "site" / "api.html").read_text()
    import dci_jax

    assert [name for name in dci_jax._PUBLIC if f'id="dci_jax.{name}"' not in api] == []


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_no_line_of_prose_is_longer_than_120_characters(page):
    text = re.sub(r"```.*?```|<!--.*?-->", "", page.read_text(), flags=re.S)
    if page.name == "fields.md":  # made from the settings
        return
    long = [line for line in text.splitlines() if len(line) > 120 and not line.lstrip().startswith(("|", "![", "#"))]
    assert long == []
