"use strict";
const PAGE = 15;
const VALUES = new Set(["measured", "predicted", "stderr"]);
const order = new Intl.Collator("en", { numeric: true }).compare;

function shown(value) {
  if (value === null) return "";
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) && Math.abs(value) < 1e7 ? String(value) : String(Number(value.toPrecision(6)));
}

const missing = (value) => value === null || value === "" || value === "nan";

/** Numbers by size, texts in natural order; missing values last in either direction. */
function compare(a, b, direction) {
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  const numbers = typeof a === "number" && typeof b === "number";
  return direction * (numbers ? a - b || 0 : order(String(a), String(b)));
}

function parse(value) {
  return value === "inf" ? Infinity : value === "-inf" ? -Infinity : value;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

function csv(names, rows) {
  const cell = (value) => {
    const text = value === null ? "" : value === Infinity ? "inf" : value === -Infinity ? "-inf" : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows].map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

async function build(box) {
  const { names, columns } = await unpack(box.dataset.table);
  const all = columns[0].map((_, i) => columns.map((column) => parse(column[i])));
  let rows = all, page = 0, sorted = -1, direction = 1;
  const search = element("input", { type: "search", placeholder: "Filter: every word must match", ariaLabel: "Filter rows" });
  const save = element("button", { type: "button", textContent: "Download CSV" });
  const body = element("tbody"), count = element("span");
  const back = element("button", { type: "button", textContent: "Previous" });
  const next = element("button", { type: "button", textContent: "Next" });
  const heads = names.map((name, at) => {
    const button = element("button", { type: "button", textContent: name });
    const head = element("th", { scope: "col" }, button);
    button.onclick = () => {
      direction = sorted === at ? -direction : 1;
      sorted = at;
      page = 0;
      heads.forEach((other, i) => (i === at ? other.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending") : other.removeAttribute("aria-sort")));
      draw();
    };
    return head;
  });
  function choose() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows = all.filter((row) => words.every((word) => row.some((value) => shown(value).toLowerCase().includes(word))));
    page = 0;
    draw();
  }
  function ordered() {
    return sorted < 0 ? rows : [...rows].sort((a, b) => compare(a[sorted], b[sorted], direction));
  }
  function draw() {
    const part = ordered().slice(page * PAGE, (page + 1) * PAGE);
    body.replaceChildren(...part.map((row) => element("tr", {}, ...row.map((value, i) =>
      element("td", { className: typeof value === "number" || VALUES.has(names[i]) ? "n" : "", textContent: value === Infinity ? "∞" : value === -Infinity ? "−∞" : shown(value) })))));
    count.textContent = rows.length ? `${page * PAGE + 1}–${Math.min((page + 1) * PAGE, rows.length)} of ${rows.length}` : "no rows";
    back.disabled = page === 0;
    next.disabled = (page + 1) * PAGE >= rows.length;
  }
  search.oninput = choose;
  back.onclick = () => { page -= 1; draw(); };
  next.onclick = () => { page += 1; draw(); };
  save.onclick = () => {
    const url = URL.createObjectURL(new Blob([csv(names, ordered())], { type: "text/csv" }));
    element("a", { href: url, download: `${box.dataset.name}.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
  box.replaceChildren(
    element("div", { className: "tools" }, search, save),
    element("div", { className: "scroll" }, element("table", { className: "data" }, element("thead", {}, element("tr", {}, ...heads)), body)),
    element("div", { className: "pages" }, back, next, count));
  draw();
}

document.querySelectorAll(".table").forEach((box) => build(box));
