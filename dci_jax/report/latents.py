"""The files of a generator's run -> report/index.html, one self-contained page."""

import csv
import html
from pathlib import Path

import matplotlib
import numpy as np

from dci_jax.attacks.registry import find
from dci_jax.report import page
from dci_jax.results import ANY_SPLIT, VISIBLE

matplotlib.use("Agg")
from matplotlib import pyplot as plt

_SHOWN = 8  # images in a row of a grid


def write(workdir: Path) -> Path:
    """Make the report of a finished run from its files alone. Returns the page's path."""
    folder = workdir / "report"
    folder.mkdir(exist_ok=True)
    rows = list(csv.DictReader((workdir / "summary.csv").open()))
    evaluation = workdir / "evaluation"
    blocks = evaluation / "blocks.npz"
    last = max((r for r in rows if r["split"] != ANY_SPLIT), key=lambda r: float(r["depth"]))["split"]
    attacks = list(dict.fromkeys(r["attack"] for r in rows if r["split"] == last))
    sections = [
        _headline(rows, last),
        "<h2>Codes and images against depth</h2>" + _charts(rows, folder),
        "<h2>What was read back from the image</h2>" + _grid(evaluation, attacks, last),
        _by_depth(evaluation, blocks) if blocks.exists() else "",
        "<h2>What of a code an image shows</h2>" + _directions(evaluation, attacks, last, folder),
        "<h2>Repair</h2>" + _repair(rows, evaluation, attacks, last),
        "<h2>Images that the generator did not make</h2>" + _given(evaluation, attacks),
        "<h2>Every number</h2>" + page.table(rows, _COLUMNS),
        page.this_run(workdir),
    ]
    return page.write(folder / "index.html", _title(rows), sections)


def _title(rows):
    return f"How well can codes of {rows[0]['target']} be read back?"


def _headline(rows, last):
    text = f"<h1>{html.escape(_title(rows))}</h1><p class=lead>{rows[0]['n']} codes that no attack has seen."
    names = [r["attack"] for r in rows]
    shown = "dci" if "dci" in names else "dci_trained"
    for r in rows:
        if r["attack"] == shown and r["split"] == last and r["defense"] == "none":
            text += (
                f" Data-free DCI reads a code back from its image in one forward pass with a cosine similarity of "
                f"{float(r['latent_cosine']):.2f}; the image regenerated from it has {float(r['psnr']):.1f} dB PSNR."
            )
    return text + "</p>"


def _charts(rows, folder):
    plain, parts = [r for r in rows if r["defense"] == "none"], []
    for metric, label in (
        ("latent_cosine", "cosine similarity of codes"),
        ("latent_error", "relative error of codes"),
        ("psnr", "PSNR of the regenerated image, dB"),
    ):
        parts.append(page.depth_chart(plain, metric, label, folder / f"depth_{metric}.png"))
    return f"<div class='grid smooth'>{''.join(parts)}</div>"


def _captioned(pictures):
    """(label, caption, pixels uint8 [N, H, W, 3]) -> figures, each a row of images."""
    parts = []
    for label, caption, pixels in pictures:
        picture = page.encoded(page.tile(pixels[:_SHOWN], _SHOWN))
        parts.append(
            f"<figure>{page.picture(picture, label)}<figcaption><b>{html.escape(label)}</b> "
            f"{html.escape(caption)}</figcaption></figure>"
        )
    return "".join(parts)


def _loaded(evaluation, attack, name):
    with np.load(evaluation / attack / f"{name}.npz") as saved:
        return dict(saved)


def _grid(evaluation, attacks, last):
    pictures = []
    for attack in attacks:
        found = _loaded(evaluation, attack, f"{last} none")
        if not pictures:
            pictures.append(("x", "made from a private code", found["sent"]))
        caption = f"{found['psnr'].mean():.1f} dB, cosine {found['latent_cosine'].mean():.2f}"
        pictures.append((f"G(R(x)), {page.label(attack)}", caption, found["reconstruction"]))
    return _captioned(pictures)


def _by_depth(evaluation, blocks):
    with np.load(blocks) as saved:
        errors, pictures = saved["errors"].mean(0), saved["pictures"]
    rows = [
        (
            f"f'{i}" if i else "the code",
            f"relative error {error:.2f}; what the rest of the generator makes of it",
            pictures[:, i],
        )
        for i, error in reversed(list(enumerate(errors)))
    ]
    text = "<p>One inverter after the other, from the image back to the code, in the same forward pass.</p>"
    return "<h2>Every block on the way (DCI)</h2>" + text + _captioned(rows)


def _directions(evaluation, attacks, last, folder):
    with np.load(evaluation / "directions.npz") as saved:
        values, vectors = saved["values"], saved["vectors"]
        truth, unit = saved["codes"], saved["deviation"]
    count, entries = values.shape
    figure, axes = plt.subplots(figsize=(4.6, 3.6))
    axes.semilogy(255 * np.median(values, 0), color="#1e293b", label="median over codes")
    low, high = np.quantile(255 * values, (0.05, 0.95), 0)
    axes.fill_between(range(entries), low, high, alpha=0.2, color="#1e293b")
    axes.axhline(255 * VISIBLE, color="#64748b", linestyle="--", label="one level of 8 bits")
    axes.set_xlabel("direction of the code")
    axes.set_ylabel("change of the image, levels of 8 bits")
    parts = [page.figure(figure, axes, folder / "spectrum.png", "the Jacobian's spectrum")]
    seen = values >= VISIBLE
    lines = []
    figure, axes = plt.subplots(figsize=(4.6, 3.6))
    scatter, where = plt.subplots(figsize=(4.6, 3.6))
    for attack in attacks:
        code = _loaded(evaluation, attack, f"{last} none")["code"][:count]
        a, b = (np.einsum("nij,nj->ni", vectors, z) for z in (code, truth))
        error = np.sqrt(np.mean((a - b) ** 2, 0)) / unit
        axes.plot(error, color=find(attack).color, label=attack)
        where.scatter(truth[:8].ravel(), code[:8].ravel(), s=3, color=find(attack).color, label=attack)
        shown = np.sqrt(np.sum((a - b) ** 2 * seen) / np.sum(b**2 * seen))
        hidden = np.sqrt(np.sum((a - b) ** 2 * ~seen) / max(np.sum(b**2 * ~seen), 1e-12))
        cosine = np.sum(a * b * seen, 1) / np.sqrt(np.sum(a**2 * seen, 1) * np.sum(b**2 * seen, 1) + 1e-12)
        lines.append((attack, cosine.mean(), shown, hidden))
    axes.axhline(1, color="#64748b", linestyle="--", label="knowing nothing")
    axes.set_xlabel("direction of the code")
    axes.set_ylabel("error, standard deviations of the prior")
    parts.append(page.figure(figure, axes, folder / "errors.png", "error along each direction"))
    where.set_xlabel("entry of the true code")
    where.set_ylabel("as read back")
    parts.append(page.figure(scatter, where, folder / "scatter.png", "true codes and those read back"))
    body = "".join(
        f"<tr><td>{html.escape(a)}</td><td>{c:.3f}</td><td>{s:.3f}</td><td>{h:.3f}</td></tr>" for a, c, s, h in lines
    )
    return (
        f"<p>The singular vectors of the image's Jacobian at {count} codes. Along {seen.mean(0).sum():.0f} of {entries} directions a step of one "
        "of the prior's standard deviations changes a pixel by at least one level of 8 bits (root mean square); along the others an "
        "image shows hardly anything, and quite different codes give nearly the same image.</p>"
        f"<div class='grid smooth'>{''.join(parts)}</div>"
        "<table><tr><th>attack</th><th>cosine, visible directions</th><th>relative error, visible</th><th>relative error, the others</th></tr>"
        f"{body}</table>"
    )


def _repair(rows, evaluation, attacks, last):
    head = "<th>damage</th><th>damaged, dB</th>" + "".join(f"<th>G(R(x)), {html.escape(a)}, dB</th>" for a in attacks)
    damages = list(dict.fromkeys(r["defense"] for r in rows if r["split"] == last))
    lines, pictures = [], []
    for damage in damages:
        cells = {r["attack"]: r for r in rows if (r["split"], r["defense"]) == (last, damage)}
        sent = next(iter(cells.values()))["psnr_sent"]
        lines.append(
            f"<tr><td>{html.escape(damage)}</td><td>{float(sent):.1f}</td>"
            + "".join(f"<td>{float(cells[a]['psnr']):.1f}</td>" for a in attacks)
            + "</tr>"
        )
        if damage != "none":
            found = _loaded(evaluation, attacks[0], f"{last} {damage}")
            pictures.append((damage, "given to the attack", found["sent"]))
            pictures.append((damage, f"G(R(x)), {attacks[0]}", found["reconstruction"]))
    text = (
        "<p>Images are damaged, read back to a code and made anew. PSNR is against the undamaged image; a repair is worth "
        "having where it is above that of the damaged one.</p>"
    )
    text += f"<table><tr>{head}</tr>{''.join(lines)}</table>" + _captioned(pictures)
    if not (evaluation / "unlikeliness.npz").exists():  # without BatchNorm there is no telling
        return text
    with np.load(evaluation / "unlikeliness.npz") as saved:
        before = saved["before"]
        worst = np.argsort(before)[-max(1, round(0.05 * len(before))) :]
        scores = "".join(
            f"<li>{html.escape(a)}: {before[worst].mean():.2f} before, {saved[a][worst].mean():.2f} after; all codes "
            f"{before.mean():.2f} before, {saved[a].mean():.2f} after</li>"
            for a in attacks
        )
    found = _loaded(evaluation, attacks[0], f"{last} none")
    text += (
        "<h3>The generator's own defective samples</h3><p>The 5 % of the samples whose features are least like those of "
        f"training (distance of BatchNorm statistics), and what becomes of the distance in G(R(x)):</p><ul>{scores}</ul>"
    )
    return text + _captioned(
        [
            ("x", "the most unlike", found["sent"][worst[::-1]]),
            (f"G(R(x)), {attacks[0]}", "", found["reconstruction"][worst[::-1]]),
        ]
    )


def _given(evaluation, attacks):
    with np.load(evaluation / "given.npz") as saved:
        pictures = [("x", "given", saved["pixels"])]
    for attack in attacks:
        found = _loaded(evaluation, attack, "given images")
        pictures.append(
            (
                f"G(R(x)), {page.label(attack)}",
                f"{found['psnr'].mean():.1f} dB",
                found["reconstruction"],
            )
        )
    return (
        "<p>No code makes these images, so what comes back is the generator's idea of them, no reconstruction.</p>"
        + _captioned(pictures)
    )


_COLUMNS = (
    ("split", "split"),
    ("attack", "attack"),
    ("defense", "damage"),
    ("n", "n"),
    ("latent_cosine", "cosine"),
    ("latent_error", "relative l2"),
    ("psnr", "PSNR dB"),
    ("ssim", "SSIM"),
    ("psnr_sent", "PSNR given"),
)
