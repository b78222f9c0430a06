"""The Markdown tables of audits, for docs/audit.md: `python -m benchmarks.tables audit FOLDER`."""

import csv
import decimal
from pathlib import Path


def rounded(value, decimals):
    """The number, rounded to so many decimals; a half goes up, as readers round, and not to the nearest binary number."""
    unit = decimal.Decimal(1).scaleb(-decimals)
    return decimal.Decimal(str(value)).quantize(unit, decimal.ROUND_HALF_UP)


def audit(folder):
    """The lines of the table of one run: attacks across if it has one split, splits across if it has several."""
    with (Path(folder) / "summary.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] != "any"]
    found = {(row["split"], row["defense"], row["attack"]): row for row in rows}
    splits, defenses, attacks = (list(dict.fromkeys(key[i] for key in found)) for i in range(3))
    if len(splits) == 1:
        yield from _one_split(found, splits[0], defenses, attacks)
    else:
        yield from _several_splits(found, splits, defenses)


def _one_split(found, split, defenses, attacks):
    """PSNR in dB of each attack behind each defense, the highest of a defense in bold; answers kept; bytes of a message."""
    yield "| defense | " + " | ".join(f"`{attack}`" for attack in attacks) + " | answers kept | bytes |"
    yield "|---" * (3 + len(attacks)) + "|"
    for defense in defenses:
        here = {attack: found[split, defense, attack] for attack in attacks if (split, defense, attack) in found}
        best = max(here, key=lambda attack: float(here[attack]["psnr"]))
        line = [f"`{defense}`"]
        for attack in attacks:
            text = f"{rounded(here[attack]['psnr'], 1)}" if attack in here else ""
            line.append(f"**{text}**" if attack == best else text)
        first = next(iter(here.values()))
        line += [_number(first, "label_kept", 2), _number(first, "bytes_coded", 0)]
        yield "| " + " | ".join(line) + " |"


def _several_splits(found, splits, defenses):
    """SSIM / PSNR of the best attack that knows the defense (PSNR of the best that does not); answers kept, KiB."""
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
            if knows and blind:
                text += f" ({rounded(blind['psnr'], 1)})"
            if knows:
                text += f"; {_number(best, 'label_kept', 2)}, {_number(best, 'bytes_coded', 0, 1024)}"
            line.append(text)
        yield "| " + " | ".join(line) + " |"


def _number(row, field, decimals, unit=1):
    return f"{rounded(float(row[field]) / unit, decimals):,}" if row.get(field) else ""
