"""README.md and docs/ beside the files of measurements: every table, and every PSNR in the prose."""

import json
import re

import pytest

from benchmarks import pages, tables
from tests.conftest import ROOT

# docs/fields.md is generated, and compared with its source in tests/settings/fields_test.py.
PAGES = [
    ROOT / "README.md",
    *sorted(
        p for p in [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "notes").glob("*.md")] if p.name != "fields.md"
    ),
]
# What stands for a measurement that nobody can repeat, or for one that a later one has replaced.
BANNED = (
    "not committed",
    "had read",
    "before calibration",
    "before that, ",
    "earlier run",
    "earlier version",
    "no attack learned from",
    "nobody learned from",
    "no attack trained on",
)
RESULT = re.compile(r"benchmarks/results(?:/[\w.*+-]+)+(?![{\w])")
LEVEL = re.compile(r"(?<![\d.±])\d\d+\.\d+(?![\d.]|\d* ?(?:%|s\b|ms\b|min|MB|kB|GiB|times|hours))")


@pytest.fixture(params=PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def page(request):
    return request.param.read_text()


def test_every_table_has_the_numbers_of_its_files(page):
    for table in pages.read(page):
        assert pages.wrong(table) == [], f"the table {table.rows[0]}"


def perturbed(page, which):
    """The page's text with digit `which` of every measured cell one higher, and how many cells that are."""
    lines, changed = page.splitlines(), 0
    for table in pages.read(page):
        if table.kind == "no measurements":
            continue
        columns = table.source.partition("columns:")[2].split("|")
        for r, row in enumerate(table.rows[1:], 1):
            new = []
            for c, cell in enumerate(row):
                digits = [m.start() for m in re.finditer(r"\d", cell)]
                if table.kind == "numbers":
                    digits = measured_digits(columns[c].strip(), cell)
                if which < len(digits):
                    at = digits[which]
                    cell = cell[:at] + str((int(cell[at]) + 1) % 10) + cell[at + 1 :]
                    changed += 1
                new.append(cell)
            lines[table.line + 1 + r] = "| " + " | ".join(new) + " |"
    return "\n".join(lines), changed


def measured_digits(column, cell):
    if not pages.measured(column, cell):
        return []
    plain = re.sub(r"`[^`]*`", lambda code: " " * len(code[0]), cell).replace("*", " ")
    return [m.start() + i for m in pages.NUMBER.finditer(plain) for i, sign in enumerate(m[0]) if sign.isdigit()]


def test_a_changed_digit_is_found():
    changes = found = 0
    for path in PAGES:
        for which in range(24):
            text, changed = perturbed(path.read_text(), which)
            if not changed:
                break
            changes += changed
            found += sum(len({(r, c) for r, c, _ in pages.wrong(table)}) for table in pages.read(text))
    assert changes > 1000
    assert found >= 0.95 * changes, f"{found} of {changes}"


def test_changed_digits_are_put_right():
    text = (ROOT / "docs" / "speed.md").read_text()
    broken, changed = perturbed(text, 0)
    assert changed > 50
    assert pages.rewritten(broken).split() == text.split()
    assert pages.rewritten(text) == text


def test_a_table_without_a_source_is_wrong():
    table = "| after | `dci` |\n|---|---|\n| `stem` | 33.0 dB |\n"
    source = "<!-- numbers: benchmarks/results/resnet50\n     columns: =split | psnr of dci -->\n"
    of = lambda text: [reason for table in pages.read(text) for *_, reason in pages.wrong(table)]  # noqa: E731
    assert "no comment" in of("A paragraph.\n\n" + table)[0]
    assert "has dB" in of("<!-- no measurements -->\n" + table)[0]
    assert of(source + table) == []
    assert "33.046" in of(source + table.replace("33.0", "33.1"))[0]
    assert "no record" in of(source + table.replace("stem", "layer9"))[0]
    assert "columns" in of(source.replace("=split", "- | =split") + table)[0]


def sections(page):
    """The text below each heading, without fenced code."""
    page = re.sub(r"^```.*?^```", "", page, flags=re.S | re.M)
    return re.split(r"^#+ ", page, flags=re.M)


def test_no_page_has_figures_that_nobody_can_repeat(page):
    found = [words for words in BANNED if words in re.sub(r"\s+", " ", page).lower()]
    assert not found


def test_results_that_a_page_names_exist(page):
    missing = [name for name in RESULT.findall(page) if not list(ROOT.glob(name.rstrip(".")))]
    assert not missing


def known(name):
    """All PSNR of a summary.csv, or of that in a folder; all numbers of another file."""
    for path in ROOT.glob(name.rstrip(".")):
        for file in sorted(path.glob("*.csv")) if path.is_dir() else [path]:
            if file.suffix == ".csv":
                yield from (
                    row[field] for row in pages.records(file) for field in ("psnr", "psnr_sent") if field in row
                )
            elif file.suffix in (".json", ".txt"):
                yield from re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", file.read_text())


def test_every_psnr_in_the_prose_is_in_a_file_that_its_section_names(page):
    for section in sections(page):
        prose = "\n".join(line for line in section.splitlines() if not line.startswith("|"))
        prose = re.sub(r"<!-- no measurements -->\n\S.*?(?:\n\n|$)", "", prose, flags=re.S)  # thresholds
        prose = re.sub(r"<!--.*?-->", "", prose, flags=re.S)
        paragraphs = [text for text in prose.split("\n\n") if re.search(r"\d dB\b", text)]
        if not paragraphs:
            continue
        named = RESULT.findall(section)
        assert named, f"names no file of results: {paragraphs[0]}"
        values = [value for name in named for value in known(name)]
        for paragraph in paragraphs:
            levels = LEVEL.findall(re.sub(r"`[^`]*`", "", paragraph))
            assert not [level for level in levels if not any(pages.equal(level, value) for value in values)], paragraph


ROWS = (
    "split,attack,defense,psnr,ssim,server_agreement,bytes_coded",
    "any,mean_image,none,12.0,0.1,,",
    "stem,dci,none,40.25,0.995,1.0,50870.3",
    "stem,dci,gaussian 1,12.0,0.3,0.955,2048",
    "stem,adapted_dci,gaussian 1,26.6,0.7,0.955,2048",
    "stem,adapted_dci+refine,gaussian 1,27.7,0.8,0.955,2048",
)


def of_audit(folder, rows, shares):
    """The lines that `benchmarks.tables audit` prints of a run with these rows and {(split, defense): share that leaks}."""
    (folder / "summary.csv").write_text("\n".join(rows))
    cells = [
        {"split": s, "defense": d, "share": [v, 0, 1], "level": "most" if v else "not judged"}
        for (s, d), v in shares.items()
    ]
    (folder / "audit.json").write_text(json.dumps({"cells": cells}))
    return tables.TABLES["audit"]([folder]).splitlines()


def test_an_audit_with_one_split_has_a_column_for_each_attack(tmp_path):
    table = of_audit(tmp_path, ROWS, {("stem", "none"): 1.0, ("stem", "gaussian 1"): 0.965})
    assert table[0] == "| defense | leaks | `dci` | `adapted_dci` | `adapted_dci+refine` | predictions kept | bytes |"
    assert table[2:] == [
        "| `none` | 100 % | **40.3** |  |  | 1.00 | 50,870 |",
        "| `gaussian 1` | 97 % | 12.0 | 26.6 | **27.7** | 0.96 | 2,048 |",
    ]


def test_an_audit_with_several_splits_has_a_column_for_each(tmp_path):
    rows = (*ROWS, "layer1,dci,none,30.0,0.9,1.0,100")
    shares = {("stem", "none"): 1.0, ("stem", "gaussian 1"): 0.5, ("layer1", "none"): 0}
    table = of_audit(tmp_path, rows, shares)
    assert table[0] == "| defense | `stem` | `layer1` |"
    assert table[2:] == [
        "| `none` | 100 %: 1.00 / 40.3 | not judged: 0.90 / 30.0 |",
        "| `gaussian 1` | 50 %: 0.80 / 27.7 (12.0); 0.96, 2 |  |",
    ]
