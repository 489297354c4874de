// Every table can be sorted by the buttons in its head, and copied as CSV or Markdown by those of `.copy` below it.
const csv = (rows) => rows.map((row) => row.map((value) => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}).join(",")).join("\n") + "\n";

const markdown = ([head, ...rows]) => {
  const line = (cells) => `| ${cells.map((text) => text.replaceAll("\\", "\\\\").replaceAll("|", "\\|").replace(/\s*\n\s*/g, " ")).join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n") + "\n";
};

const copyText = async (text, button) => {
  const before = button.dataset.text ??= button.textContent;
  const done = (words) => {
    button.textContent = words;
    setTimeout(() => { button.textContent = before; }, 2000);
  };
  try {
    await navigator.clipboard.writeText(text);
    done("Copied");
  } catch {
    // Pages opened as files may have no clipboard; the old way still works there.
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "off-screen";
    document.body.append(area);
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    button.focus();
    done(copied ? "Copied" : "Not allowed here");
  }
};

(() => {
  const textOf = (cell) => {
    const inner = cell.querySelector(".sort") ?? cell, note = cell.querySelector("small");
    const main = [...inner.childNodes].filter((node) => node !== note).map((node) => node.textContent).join("").trim();
    return note ? `${main} (${note.textContent.trim()})` : main;
  };
  for (const scroll of document.querySelectorAll("main .scroll")) {
    const table = scroll.querySelector("table");
    if (!table || scroll.id === "viewer") continue;
    const tools = document.createElement("div");
    tools.className = "copy tools";
    for (const [name, write] of [["CSV", csv], ["Markdown", markdown]]) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.setAttribute("aria-label", `Copy as ${name}: ${table.caption.textContent}`);
      button.addEventListener("click", () => copyText(write([...table.rows].map((row) => [...row.cells].map(textOf))), button));
      tools.append(button);
    }
    scroll.after(tools);
  }
})();

(() => {
  const FEWEST = 3;
  const valueOf = (cell) => {
    const number = Number(cell.dataset.v ?? NaN), text = cell.firstChild?.textContent.trim() ?? "";
    return Number.isNaN(number) ? (text === "" || text === "–" ? null : text) : number;
  };
  // Down, up, and back to the order that the report chose; what has no value stays last.
  const compare = (a, b, sign) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("main .scroll > table")) {
    const body = table.tBodies[0], rows = [...(body?.rows ?? [])];
    if (rows.length < FEWEST || table.closest("#viewer")) continue;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const values = rows.map((row) => valueOf(row.cells[column]));
      if (new Set(values).size < 2) return;
      const first = values.some((value) => typeof value === "number") ? "descending" : "ascending";
      const turns = [first, first === "descending" ? "ascending" : "descending", null];
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      button.addEventListener("click", () => {
        const next = turns[(turns.indexOf(head.getAttribute("aria-sort")) + 1) % turns.length];
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        if (next) head.setAttribute("aria-sort", next);
        const order = rows.map((_, at) => at);
        if (next) order.sort((a, b) => compare(values[a], values[b], next === "ascending" ? 1 : -1) || a - b);
        body.append(...order.map((at) => rows[at]));
      });
      head.append(button);
    });
  }
})();
