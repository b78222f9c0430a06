"""Compares the numbers in the tables of Markdown pages with the files of measurements that the tables name.

python -m benchmarks.pages README.md docs/*.md     prints every number that differs, and every table without a source
python -m benchmarks.pages --write docs/speed.md   puts the numbers of the files into the tables first

A comment directly before a table says where its numbers come from:

<!-- no measurements -->                                  settings, names, links, published numbers
<!-- table: kills benchmarks/results/soak_kills.json -->  the table that `python -m benchmarks.tables kills ...` prints
<!-- numbers: benchmarks/results/resnet50 benchmarks/results/resnet50_layer1
     columns: =split | - | psnr/ssim of dci run=resnet50 | rank1 -->

`numbers` lists folders (their summary.csv) or files: CSV, or JSON with "rows". `columns` has one entry for each column:
`-` is not a measurement; `=field` selects records whose field is the cell's `code`, or else its text (an empty cell repeats
the one above); any other entry names the fields of the numbers in the cell, in order, and after "of" the record: a value of
one of its fields, or field=value,value instead of a key. All numbers of a cell have to come from one record, rounded as they are
printed. A blind baseline belongs to no split, so in a column of splits its own name selects it (`mean_image`).
"""

import argparse
import csv
import dataclasses
import decimal
import functools
import itertools
import json
import re
import shlex
from pathlib import Path

from benchmarks import audit_tables, tables

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<![\w.])-?(?:\d+\.\d+|\d+|\.\d+)(?![\w])(?!\.\d)")
COMMENT = re.compile(r"<!-- (no measurements|table|numbers)\b:?(.*?)-->", re.S)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page: `kind` and `source` of the comment before it ("" if there is none), its rows of cells."""

    kind: str
    source: str
    line: int  # of the page, of the header
    rows: tuple  # of tuples of str, the header first, without the line of dashes


def cells(line):
    """The cells of one line of a table; a pipe in `code` is no border."""
    line = re.sub(r"`[^`]*`", lambda code: code[0].replace("|", "\0"), line.strip())
    return tuple(cell.strip().replace("\0", "|") for cell in line.strip("|").split("|"))


def read(page):
    """The tables of a page's text."""
    lines, line, found = page.splitlines(), 0, []
    fenced = False
    while line < len(lines):
        fenced ^= lines[line].startswith("```")
        if fenced or not lines[line].startswith("|"):
            line += 1
            continue
        rows = list(itertools.takewhile(lambda text: text.startswith("|"), lines[line:]))
        before = "\n".join(lines[:line])
        comment = COMMENT.match(before, before.rfind("<!--")) if before.endswith("-->") else None
        kind, source = (comment[1], comment[2]) if comment else ("", "")
        found.append(Table(kind, source, line, tuple(map(cells, rows[:1] + rows[2:]))))
        line += len(rows)
    return found


@functools.cache
def records(name):
    """The records of a file, or of a folder's summary.csv; each has the folder's name as `run`, unless it has a run."""
    path = ROOT / name
    path = path / "summary.csv" if path.is_dir() else path
    if path.suffix == ".csv":
        with path.open() as stream:
            found = list(csv.DictReader(stream))
    else:
        found = json.loads(path.read_text())["rows"]
    return [{"run": path.parent.name} | {key: value for key, value in row.items() if value != ""} for row in found]


@functools.cache
def generated(source):
    """The tables that `python -m benchmarks.tables` prints."""
    name, *files = source.split()
    return read(tables.TABLES[name]([ROOT / file for file in files]))


def equal(printed, value):
    """Whether a number, rounded to the digits that are printed, is the printed one."""
    return audit_tables.rounded(value, len(printed.partition(".")[2])) == decimal.Decimal(printed)


def wrong(table):
    """(row, column, reason) of each cell that its sources do not have; (0, 0, reason) of a table without any."""
    if table.kind == "no measurements":
        return [(0, 0, "says no measurements, and has dB")] if "dB" in str(table.rows) else []
    if table.kind == "table":
        return min((_differences(table, other) for other in generated(table.source)), key=len)
    if table.kind == "numbers":
        return list(_unfound(table))
    return [(0, 0, "has no comment that says where its numbers come from")]


def _differences(table, other):
    if tuple(map(len, table.rows)) != tuple(map(len, other.rows)):
        return [(0, 0, f"is not as large as the table of {table.source.strip()}")]
    pairs = ((r, c, table.rows[r][c], other.rows[r][c]) for r, row in enumerate(table.rows) for c in range(len(row)))
    return [(r, c, f"{ours!r} is not {theirs!r}") for r, c, ours, theirs in pairs if ours != theirs]


def _unfound(table):
    columns = _columns(table)
    if any(len(row) != len(columns) for row in table.rows):
        yield 0, 0, f"has not as many columns as its comment, {len(columns)}"
        return
    for r, c, fields, candidates, wanted in _measurements(table):
        cell, numbers = table.rows[r][c], measured(columns[c], table.rows[r][c])
        if not candidates:
            yield r, c, f"{cell!r}: no record of {wanted}"
        elif len(numbers) > len(fields) or not any(_has(record, fields, numbers) for record in candidates):
            values = [[record.get(field) for field in fields] for record in candidates]
            yield r, c, f"{cell!r} is not {values[:3]}"


def _columns(table):
    return [column.strip() for column in table.source.partition("columns:")[2].split("|")]


def _measurements(table):
    """(row, column, fields, records that they may be of, what was looked for) of each cell that has measurements."""
    known = [record for file in table.source.partition("columns:")[0].split() for record in records(file)]
    keys, columns = {}, _columns(table)
    for r, row in enumerate(table.rows[1:], 1):
        for column, cell in zip(columns, row, strict=True):
            if column.startswith("=") and cell:
                code = re.search(r"`([^`]*)`", cell)
                keys[column[1:]] = code[1] if code else cell.strip("*")
        for c, (column, cell) in enumerate(zip(columns, row, strict=True)):
            if measured(column, cell):
                fields, *of = shlex.split(column.replace(" of ", " "))
                yield r, c, fields.split("/"), [record for record in known if _is(record, keys, of)], f"{keys} {of}"


def rewritten(page):
    """The page's text with the numbers of the files in its tables, where one record or table is what a cell or table names."""
    lines = page.splitlines()
    for table in reversed([table for table in read(page) if wrong(table)]):
        first = table.line
        if table.kind == "table":
            same = [other.rows for other in generated(table.source) if other.rows[0] == table.rows[0]]
            if len(same) == 1:
                header, *rows = ("| " + " | ".join(row) + " |" for row in same[0])
                lines[first : first + 1 + len(table.rows)] = [header, lines[first + 1], *rows]
        elif table.kind == "numbers":
            for r, c, fields, candidates, _ in _measurements(table):
                parts = lines[first + 1 + r].split("|")
                if len(candidates) == 1 and len(parts) == len(table.rows[r]) + 2:
                    parts[c + 1] = _filled(parts[c + 1], fields, candidates[0])
                    lines[first + 1 + r] = "|".join(parts)
    return "\n".join(lines) + "\n"


def _filled(cell, fields, record):
    """The cell with the numbers of a record's fields in place of its own, with as many digits."""
    fields = iter(fields)

    def number(found):
        field = next(fields, None)
        if field not in record:
            return found[0]
        text = str(audit_tables.rounded(record[field], len(found[0].partition(".")[2])))
        return text.removeprefix("0") if found[0].startswith(".") else text

    return "".join(part if part.startswith("`") else NUMBER.sub(number, part) for part in re.split(r"(`[^`]*`)", cell))


def measured(column, cell):
    """The numbers of a cell that a file must have."""
    if column == "-" or column.startswith("="):
        return []
    return NUMBER.findall(re.sub(r"`[^`]*`", "", cell).replace("*", " "))


def _has(record, fields, numbers):
    pairs = zip(fields, numbers, strict=False)
    return all(field in record and equal(number, record[field]) for field, number in pairs)


def _is(record, keys, of):
    blind = record.get("split") == "any"
    named = {word.partition("=")[0] for word in of if "=" in word}
    for field, name in ((field, name) for field, name in keys.items() if field not in named):
        field = "attack" if blind and field == "split" else field
        if str(record.get(field)) != name:
            return False
    for word in of:
        field, equals, values = word.partition("=")
        if equals:
            if str(record.get(field)) not in values.split(","):
                return False
        elif not blind and word not in map(str, record.values()):
            return False
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true", help="put the numbers of the files into the tables first")
    given = parser.parse_args()
    for page in given.pages:
        if given.write:
            page.write_text(rewritten(page.read_text()))
        for table in read(page.read_text()):
            for row, column, reason in wrong(table):
                # the line of dashes is one of the page's, too
                print(f"{page}:{table.line + 1 + row + (row > 0)}, column {column + 1}: {reason}")


if __name__ == "__main__":
    main()
