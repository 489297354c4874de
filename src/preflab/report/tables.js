// Every table can be copied as CSV or Markdown: `.copy` holds the two buttons, `.said` what became of it.
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
    const note = cell.querySelector("small");
    const main = [...cell.childNodes].filter((node) => node !== note).map((node) => node.textContent).join("").trim();
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
