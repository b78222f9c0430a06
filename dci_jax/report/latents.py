"""The files of a generator's run -> report/index.html, one self-contained page."""

import csv
from pathlib import Path

import numpy as np

from dci_jax.report import labels, page
from dci_jax.results import ANY_SPLIT, VISIBLE

_SHOWN = 8  # images in a row of a grid
_COLUMNS = (
    ("split", "split"),
    ("attack", "attack"),
    ("defense", "corruption"),
    ("n", "n"),
    ("latent_cosine", "cosine"),
    ("latent_error", "relative l2"),
    ("psnr", "PSNR dB"),
    ("ssim", "SSIM"),
    ("psnr_sent", "PSNR of the input"),
)


def write(workdir: Path) -> Path:
    """Make the report of a finished run from its files alone. Returns the page's path."""
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    rows = list(csv.DictReader((workdir / "summary.csv").open()))
    evaluation = workdir / "evaluation"
    last = max((r for r in rows if r["split"] != ANY_SPLIT), key=lambda r: float(r["depth"]))["split"]
    attacks = list(dict.fromkeys(r["attack"] for r in rows if r["split"] == last))
    shown = "dci" if "dci" in {r["attack"] for r in rows} else "dci_trained"
    return page.write(
        folder / "index.html",
        "latents.html.jinja",
        title=f"How well can the latents of {rows[0]['target']} be reconstructed?",
        count=rows[0]["n"],
        headline=next((r for r in rows if (r["attack"], r["split"], r["defense"]) == (shown, last, "none")), None),
        charts=_charts(rows, folder),
        reconstructions=_grid(evaluation, attacks, last),
        blocks=_by_depth(evaluation),
        directions=_directions(evaluation, attacks, last, folder),
        repair=_repair(rows, evaluation, attacks, last),
        defective=_defective(evaluation, attacks, last),
        given=_given(evaluation, attacks),
        rows=rows,
        columns=_COLUMNS,
        run=page.this_run(workdir),
    )


def _charts(rows, folder):
    plain = [r for r in rows if r["defense"] == "none"]
    return [
        page.depth_chart(plain, metric, label, folder / f"depth_{metric}.png")
        for metric, label in (
            ("latent_cosine", "cosine similarity of latents"),
            ("latent_error", "relative error of latents"),
            ("psnr", "PSNR of the regenerated image, dB"),
        )
    ]


def _row(label, caption, pixels):
    """A row of images, uint8 [N, H, W, 3], as one picture."""
    content = page.encoded(page.tile(pixels[:_SHOWN], _SHOWN))
    return page.picture(content, label, label, [caption] if caption else [])


def _loaded(evaluation, attack, name):
    with np.load(evaluation / attack / f"{name}.npz") as saved:
        return dict(saved)


def _grid(evaluation, attacks, last):
    pictures = []
    for attack in attacks:
        found = _loaded(evaluation, attack, f"{last} none")
        if not pictures:
            pictures.append(_row("x", "generated from a private latent", found["sent"]))
        caption = f"{found['psnr'].mean():.1f} dB, cosine {found['latent_cosine'].mean():.2f}"
        pictures.append(_row(f"G(R(x)), {labels.attack(attack)}", caption, found["reconstruction"]))
    return pictures


def _by_depth(evaluation):
    """What the generator makes of the features reconstructed after each of its blocks, the last one first."""
    file = evaluation / "blocks.npz"
    if not file.exists():
        return []
    with np.load(file) as saved:
        errors, pictures = saved["errors"].mean(0), saved["pictures"]
    return [
        _row(
            f"f'{i}" if i else "the latent",
            f"relative error {error:.2f}; output of the rest of the generator",
            pictures[:, i],
        )
        for i, error in reversed(list(enumerate(errors)))
    ]


def _directions(evaluation, attacks, last, folder):
    """The charts along the singular vectors of the image's Jacobian, and each attack's errors along them."""
    with np.load(evaluation / "directions.npz") as saved:
        values, vectors = saved["values"], saved["vectors"]
        truth, unit = saved["latents"], saved["deviation"]
    count, entries = values.shape
    figure, axes = page.subplots()
    axes.semilogy(255 * np.median(values, 0), color="#1e293b", label="median over latents")
    low, high = np.quantile(255 * values, (0.05, 0.95), 0)
    axes.fill_between(range(entries), low, high, alpha=0.2, color="#1e293b")
    axes.axhline(255 * VISIBLE, color="#64748b", linestyle="--", label="one 8-bit level")
    axes.set_xlabel("direction of the latent")
    axes.set_ylabel("change of the image, 8-bit levels")
    charts = [page.figure(figure, axes, folder / "spectrum.png", "the Jacobian's spectrum")]
    seen = values >= VISIBLE
    lines = []
    figure, axes = page.subplots()
    scatter, where = page.subplots()
    for attack in attacks:
        latent = _loaded(evaluation, attack, f"{last} none")["latent"][:count]
        a, b = (np.einsum("nij,nj->ni", vectors, z) for z in (latent, truth))
        error = np.sqrt(np.mean((a - b) ** 2, 0)) / unit
        axes.plot(error, color=labels.color(attack), label=attack)
        where.scatter(truth[:8].ravel(), latent[:8].ravel(), s=3, color=labels.color(attack), label=attack)
        shown = np.sqrt(np.sum((a - b) ** 2 * seen) / np.sum(b**2 * seen))
        hidden = np.sqrt(np.sum((a - b) ** 2 * ~seen) / max(np.sum(b**2 * ~seen), 1e-12))
        cosine = np.sum(a * b * seen, 1) / np.sqrt(np.sum(a**2 * seen, 1) * np.sum(b**2 * seen, 1) + 1e-12)
        lines.append((attack, *(f"{x:.3f}" for x in (cosine.mean(), shown, hidden))))
    axes.axhline(1, color="#64748b", linestyle="--", label="no knowledge")
    axes.set_xlabel("direction of the latent")
    axes.set_ylabel("error, standard deviations of the prior")
    charts.append(page.figure(figure, axes, folder / "errors.png", "error along each direction"))
    where.set_xlabel("entry of the true latent")
    where.set_ylabel("entry of its reconstruction")
    charts.append(page.figure(scatter, where, folder / "scatter.png", "true latents and their reconstructions"))
    return {"latents": count, "entries": entries, "visible": seen.mean(0).sum(), "charts": charts, "lines": lines}


def _repair(rows, evaluation, attacks, last):
    """A table of PSNRs, corruptions down and attacks across, and what the first attack makes of corrupted images."""
    lines, pictures = [], []
    for corruption in dict.fromkeys(r["defense"] for r in rows if r["split"] == last):
        cells = {r["attack"]: r for r in rows if (r["split"], r["defense"]) == (last, corruption)}
        sent = next(iter(cells.values()))["psnr_sent"]
        lines.append((corruption, *(f"{float(x):.1f}" for x in (sent, *(cells[a]["psnr"] for a in attacks)))))
        if corruption != "none":
            found = _loaded(evaluation, attacks[0], f"{last} {corruption}")
            pictures.append(_row(corruption, "input of the attack", found["sent"]))
            pictures.append(_row(corruption, f"G(R(x)), {attacks[0]}", found["reconstruction"]))
    head = ("corruption", "corrupted, dB", *(f"G(R(x)), {a}, dB" for a in attacks))
    return {"head": head, "lines": lines, "pictures": pictures}


def _defective(evaluation, attacks, last):
    """The samples that are least like the training data, and what G(R(x)) makes of them; None without BatchNorm."""
    if not (evaluation / "unlikeliness.npz").exists():
        return None
    with np.load(evaluation / "unlikeliness.npz") as saved:
        before = saved["before"]
        worst = np.argsort(before)[-max(1, round(0.05 * len(before))) :]
        scores = [(a, *(x.mean() for x in (before[worst], saved[a][worst], before, saved[a]))) for a in attacks]
    found = _loaded(evaluation, attacks[0], f"{last} none")
    pictures = [
        _row("x", "least like the training data", found["sent"][worst[::-1]]),
        _row(f"G(R(x)), {attacks[0]}", "", found["reconstruction"][worst[::-1]]),
    ]
    return {"scores": scores, "pictures": pictures}


def _given(evaluation, attacks):
    with np.load(evaluation / "given.npz") as saved:
        pictures = [_row("x", "given", saved["pixels"])]
    for attack in attacks:
        found = _loaded(evaluation, attack, "given images")
        label = f"G(R(x)), {labels.attack(attack)}"
        pictures.append(_row(label, f"{found['psnr'].mean():.1f} dB", found["reconstruction"]))
    return pictures
