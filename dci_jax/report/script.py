"""The fixed parts of an audit's page: its script, which sorts and filters the table, and its threat model and limits."""

SORT_AND_FILTER = """<script>
const table = document.getElementById("numbers"), body = table.tBodies[0];
table.querySelectorAll("th button").forEach((button, column) => button.addEventListener("click", () => {
  const head = button.parentElement, up = head.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("th").forEach(th => th.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = row => row.cells[column].textContent, number = text => text === "" ? -Infinity : Number(text);
  const rows = [...body.rows], numeric = rows.every(row => !Number.isNaN(Number(value(row))));
  rows.sort((a, b) => numeric ? number(value(a)) - number(value(b)) : value(a).localeCompare(value(b)));
  if (!up) rows.reverse();
  body.append(...rows);
}));
document.getElementById("filter").addEventListener("input", event => {
  const words = event.target.value.toLowerCase().split(" ").filter(Boolean);
  for (const row of body.rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
});
</script>"""

# Why a measure is null everywhere.
MISSING = {
    "lpips": "LPIPS is null: no weights of its backbone were given (--config.lpips.backbone and .linear).",
    "ms_ssim": "MS-SSIM is null: its five scales need images of 176 pixels.",
    "label_agreement": "Label agreement is null: the network has no head.",
    "top1": "Top-1 is null: the true labels were not given (--config.data.labels).",
}

THREAT = """<h2>Threat model</h2>
<p>In the vocabulary of NIST AI 100-2 (named as an analogy; this audit certifies nothing): a <b>privacy</b> attack by
<b>data reconstruction</b> at inference time. The attacker is the server, or whoever reads what it receives.</p>
<ul>
<li><b>Knows</b>: the network and its weights, the split point, the features of each input; the adapted attackers the
defense and what it has learned, but not its random numbers.</li>
<li><b>Has not</b>: any private image, any image of their kind, labels, influence on training, influence on the device.</li>
<li>All attackers learned from procedural images, or images synthesised from the network; the defenses that learn had
{trained}.</li>
</ul>
<h2>The policy, and what it is worth</h2>
<ul>
<li>The thresholds are <b>ours</b>; no published ones exist. <b>An image leaks</b> where a reconstruction of it has, after a fit
of brightness and contrast (negatives, too), SSIM {ssim:g} or {psnr:g} dB, or structure {structure:g} (the correlation of its
detail, or of its edges, with the image's at 16, 32 or 64 pixels, mirrored or not), or a quarter of it is a copy; <b>and</b>
where it is better by a margin (.1, 2 dB, .1) than every baseline of that image: the mean of the others, another image, and 4 x 4
of its own colors. Where more images are re-identified by structure than chance allows ({chance:.1%} each), these leak, too.
<b>In doubt</b>: within a margin of that. The policy allows {leaking:.0%} of the images to leak. A choice keeps at least
{kept:.0%} of the server's predictions.</li>
<li><b>How sure</b>: {images}. Where none leaks, up to {bound:.0%} of such images may, with 95 % confidence (rule of three, over
photographs). Intervals are 95 %, over photographs: Student's t, of shares Wilson's. {seeds}; more seeds are more runs, joined
by <code>python -m dci_jax.report W1 W2</code>.</li>
<li><b>A low number does not prove safety.</b> It is a lower bound on what can be reconstructed: a stronger attacker, with real
images, a learned prior or more queries, may reconstruct more. A high number is an existence proof.</li>
<li>Bytes are of a lossless payload through deflate, positions counted; they do not count what the transport adds.</li>
<li>Re-identification is among the private images of this run, nearly equal ones taken for one: rank 1 by distance of pixels,
and by structure. Among few candidates it is easy.</li>
</ul>"""
