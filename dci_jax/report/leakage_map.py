"""The map of an audit: split points are columns, defenses and baselines are rows; and the sentence above it."""

import html
from collections.abc import Sequence

from dci_jax.report import page
from dci_jax.report.leaks import Policy
from dci_jax.report.pictures import named, who
from dci_jax.report.verdict import LEVELS, Cell, least

CLASSES = dict(zip(LEVELS, ("low", "doubt", "some", "read", "unknown"), strict=True))


def verdict(found: Sequence[Cell], chosen: Cell | None, policy: Policy, images: int) -> str:
    """How many cells leak, by the worst attacker of each, and the cheapest that does not; HTML."""
    count = {name: sum(c.level == name for c in found) for name in LEVELS}
    said = {
        "most": "at least half of the images leak",
        "some": "some of the images leak",
        "in doubt": "no image leaks, but some are in doubt",
        "none": "no image leaks",
    }
    parts = [f"{words} in {count[name]}" for name, words in said.items() if count[name]]
    text = f"Of {len(found)} pairs of split point and defense, " + "; ".join(parts or ["none is judged"]) + ". "
    if count["not judged"]:
        text += (
            f"<b>{count['not judged']} are not judged</b>: the attackers there were too weak to tell, see "
            "<a href=#attackers>the attackers</a>. "
        )
    worst = max(found, key=lambda c: (c.share[0], c.leak("ssim_affine") or 0))
    if worst.share[0]:
        text += (
            f"Most leaks after <b>{html.escape(worst.split)}</b> with {html.escape(named(worst.defense))}, to "
            f"{html.escape(who(worst.worst))}: {worst.share[0]:.0%} of the images"
            f" ({_number(worst.leak('psnr'), '.1f')} dB, SSIM {_number(worst.leak('ssim'), '.2f')}). "
        )
    if chosen:
        kept = f", {chosen.kept[0]:.0%} of the predictions kept" if chosen.kept else ""
        return text + (
            f"The cheapest pair that meets the policy: cut after <b>{html.escape(chosen.split)}</b> with "
            f"<b>{html.escape(named(chosen.defense))}</b> ({chosen.bytes_coded / 1024:.1f} KiB an image{kept}); of {images} "
            f"images {chosen.share[0] * images:.0f} leak, so up to {chosen.share[2]:.0%} may (95 %). Not reconstructed here "
            "is no proof of safety."
        )
    nearest = least(found, policy)
    return text + (
        f"No pair that keeps {policy.label_kept:.0%} of the server's predictions meets the policy; the one that leaks least is "
        f"<b>{html.escape(nearest.split)}</b> with <b>{html.escape(named(nearest.defense))}</b>: "
        f"{nearest.share[0]:.0%} of the images, {nearest.level}."
    )


def leakage_map(found: Sequence[Cell], chosen: Cell | None, policy: Policy, floors: Sequence[dict]) -> str:
    """A table: the colour is the level of a cell, its numbers the images that leak and SSIM and PSNR of the worst attacker.

    Args:
      found, chosen, policy: see `verdict`.
      floors: rows of summary.csv of the baselines.
    """
    splits, defenses = (list(dict.fromkeys(getattr(c, part) for c in found)) for part in ("split", "defense"))
    at = {(c.split, c.defense): c for c in found}
    head = "".join(f"<th scope=col>{html.escape(s)}</th>" for s in splits)
    lines = [f"<tr><th scope=col>defense</th>{head}</tr>"]
    for defense in defenses:
        squares = "".join(_square(at.get((split, defense)), chosen, policy) for split in splits)
        lines.append(f"<tr><th scope=row>{html.escape(named(defense))}</th>{squares}</tr>")
    for row in floors:
        text = (
            f"0%<br><small>{float(row['ssim']):.2f}, {float(row['psnr']):.1f} dB; rank 1 {float(row['rank1']):.2f}, by structure "
            f"{float(row['rank1_structure']):.2f}</small>"
        )
        lines.append(
            f"<tr><th scope=row>{html.escape(page.label(row['attack']))}</th>"
            f"<td class=low colspan={len(splits)}>{text}</td></tr>"
        )
    legend = (
        "Share of the images that leak; SSIM and PSNR in dB of the worst attacker. <b class='key read'>red</b> at least half "
        "of the images leak, <b class='key some'>orange</b> some, <b class='key doubt'>yellow</b> none, but some are in doubt, "
        "<b class='key low'>green</b> none, <b class='key unknown'>grey</b> not judged; in brackets: the defense costs more "
        "predictions than the policy allows; framed: the choice. The last rows are baselines: an image leaks where its "
        "reconstruction is better than all of them."
    )
    return (
        "<div><div class=wide role=region tabindex=0 aria-label='map of split points and defenses'>"
        f"<table class=map>{''.join(lines)}</table></div><p><small>{legend}</small></p></div>"
    )


def _square(cell, chosen, policy):
    if cell is None:
        return "<td>–</td>"
    lost = cell.kept is not None and cell.kept[0] < policy.label_kept
    share = f"{'?' if cell.level == LEVELS[4] else ''}{cell.share[0]:.0%}"
    text = f"{share}<br><small>{_number(cell.leak('ssim'), '.2f')}, {_number(cell.leak('psnr'), '.1f')}</small>"
    text = f"({text})" if lost else text
    mark = " chosen" if cell is chosen else ""
    hint = (
        f"{cell.split}, {named(cell.defense)}: {cell.level}; {cell.share[1]:.0%} to {cell.share[2]:.0%} of the images; worst "
        f"attacker {cell.worst}"
    )
    return f"<td class='{CLASSES[cell.level]}{mark}' title='{html.escape(hint, quote=True)}'>{text}</td>"


def _number(value, form):
    return "–" if value is None else format(value, form)
