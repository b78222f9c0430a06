"""The Markdown tables of audits, for docs/audit.md: `python -m benchmarks.tables audit FOLDER`."""

import csv
import decimal
import json
from pathlib import Path


def rounded(value, decimals):
    """The number, rounded to so many decimals; a half goes up, as readers round, and not to the nearest binary number."""
    unit = decimal.Decimal(1).scaleb(-decimals)
    return decimal.Decimal(str(value)).quantize(unit, decimal.ROUND_HALF_UP)


def audit(folder):
    """The lines of the table of one run: attacks across if it has one split, splits across if it has several."""
    with (Path(folder) / "summary.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] != "any"]
    found = {(row["split"], row["defense"], row["attack"]): row for row in rows if " x" not in row["defense"]}
    cells = json.loads((Path(folder) / "audit.json").read_text())["cells"]
    # A run of before 2026-11-28 has no share of images that leak.
    leaks = {(c["split"], c["defense"]): f"{rounded(100 * c['share'][0], 0)} %" for c in cells if "share" in c}
    leaks |= {(c["split"], c["defense"]): "not judged" for c in cells if c["level"] == "not judged"}
    splits, defenses, attacks = (list(dict.fromkeys(key[i] for key in found)) for i in range(3))
    if len(splits) == 1:
        yield from _one_split(found, leaks, splits[0], defenses, attacks)
    else:
        yield from _several_splits(found, leaks, splits, defenses)


def _one_split(found, leaks, split, defenses, attacks):
    """Images that leak; PSNR in dB of each attack, the highest of a defense in bold; predictions kept; bytes of a message."""
    yield "| defense | leaks | " + " | ".join(f"`{attack}`" for attack in attacks) + " | predictions kept | bytes |"
    yield "|---" * (4 + len(attacks)) + "|"
    for defense in defenses:
        here = {attack: found[split, defense, attack] for attack in attacks if (split, defense, attack) in found}
        best = max(here, key=lambda attack: float(here[attack]["psnr"]))
        line = [f"`{defense}`", leaks.get((split, defense), "")]
        for attack in attacks:
            text = f"{rounded(here[attack]['psnr'], 1)}" if attack in here else ""
            line.append(f"**{text}**" if attack == best else text)
        first = next(iter(here.values()))
        line += [_number(first, "server_agreement", 2), _number(first, "bytes_coded", 0)]
        yield "| " + " | ".join(line) + " |"


def _several_splits(found, leaks, splits, defenses):
    """Images that leak; SSIM / PSNR of the best attack that knows the defense (PSNR of the best that does not); predictions
    kept, KiB of a message."""
    yield "| defense | " + " | ".join(f"`{split}`" for split in splits) + " |"
    yield "|---" * (1 + len(splits)) + "|"
    for defense in defenses:
        line = [f"`{defense}`"]
        for split in splits:
            here = [row for (s, d, _), row in found.items() if (s, d) == (split, defense)]
            knows = [row for row in here if row["attack"].startswith("adapted_")]
            blind = [row for row in here if row not in knows]
            knows, blind = (max(some, key=lambda row: float(row["psnr"]), default=None) for some in (knows, blind))
            best = knows or blind
            text = f"{rounded(best['ssim'], 2)} / {rounded(best['psnr'], 1)}" if best else ""
            text = f"{leaks[split, defense]}: {text}" if (split, defense) in leaks else text
            if knows and blind:
                text += f" ({rounded(blind['psnr'], 1)})"
            if knows:
                text += f"; {_number(best, 'server_agreement', 2)}, {_number(best, 'bytes_coded', 0, 1024)}"
            line.append(text)
        yield "| " + " | ".join(line) + " |"


def _number(row, field, decimals, unit=1):
    return f"{rounded(float(row[field]) / unit, decimals):,}" if row.get(field) else ""
