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
