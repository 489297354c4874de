// The generations: prompts by models. Ids: `generations` (data), `viewer`, `v-controls`, the filters `v-split`,
// `v-start`, `v-seed` (empty is every one), `v-family`, `v-step` (0 is the first of `points`, the last the finished models), `v-at`, `v-query`, `v-score-from`, `v-score-to`, `v-tokens-from`, `v-tokens-to`, `v-disagree`,
// `v-starred`, `v-diff`, `v-columns`; `v-place` (how many fit), `v-table`, `v-more`, `v-export`, `v-import`, `v-said`,
// `v-help`, `v-keys`. A row has `data-prompt="SPLIT.ROW"` and holds `.open`, `.star`, and while open `.note` and `.link`.
(() => {
  const source = document.getElementById("generations");
  const viewer = document.getElementById("viewer");
  if (!source || !viewer) return;
  const data = JSON.parse(source.textContent);
  const find = (id) => document.getElementById(id);
  const marks = openMarks(source.dataset.study);
  const section = find("responses");
  const BATCH = 20;
  const TEXTS = ["split", "start", "seed", "family", "step", "query", "score-from", "score-to", "tokens-from", "tokens-to"];
  const FLAGS = ["disagree", "starred", "diff"];
  const control = Object.fromEntries([...TEXTS, ...FLAGS].map((name) => [name, find(`v-${name}`)]));
  const hidden = new Set(["chosen", "rejected"]), unfolded = new Set();
  const state = { items: [], limit: BATCH, at: "" };

  // Model text reaches the page through textContent only: it can never become markup.
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const id = (item) => `${item.split}.${item.row}`;
  const on = (name) => Boolean(control[name] && control[name].checked);
  const number = (name) => (control[name] && control[name].value !== "" ? Number(control[name].value) : null);
  const wanted = () => control.query.value.trim().toLowerCase();

  // How far along the training the answers are that the page shows, in per cent; null is the finished models.
  const point = () => (control.step ? data.points[Number(control.step.value)] ?? null : null);
  const answerAt = (item, group, k, at) => {
    if (at === null || !group.method) return item.responses[k];
    const n = group.at.findLastIndex((other) => other <= at);
    const found = n >= 0 && item.earlier ? item.earlier[k][n] : null;
    return found && [...found, group.steps[n]];
  };
  const seed = () => (control.seed && control.seed.value !== "" ? Number(control.seed.value) : null);
  const alike = (a, b) => a.start === b.start && a.method === b.method;
  // A method without a run of the chosen seed, such as one that diverged, is there with its lowest seed, and says so.
  const inSeed = (group) => !control.seed || control.seed.value === "" || group.seed === seed() ||
    (group.first && !data.groups.some((other) => alike(group, other) && other.seed === seed()));
  const seedOf = (group) => (control.seed && group.seed >= 0 && group.seed !== seed() ? `, seed ${group.seed}` : "");
  const startOf = (group) => {
    const starts = data.groups.map((other, k) => [other, k]).filter(([other]) => other.start === group.start && !other.method);
    return (starts.find(([other]) => other.seed === group.seed) ?? starts[0] ?? [])[1];
  };
  const columns = (at = point()) => [
    { key: "chosen", title: "Data: chosen", cell: (item) => item.chosen && [item.chosen, null, false, item.chosen_reward] },
    { key: "rejected", title: "Data: rejected", cell: (item) => item.rejected && [item.rejected, null, false, null] },
    ...data.groups.map((group, k) => ({ group, k })).filter(({ group }) => group.start === control.start.value && inSeed(group)).map(({ group, k }) => ({
      key: group.method || "start", name: group.title, title: group.title + seedOf(group), model: true, trained: Boolean(group.method), steps: group.n_steps,
      start: startOf(group), cell: (item) => answerAt(item, group, k, at),
    })),
  ].filter((column) => column.model || data.items.some(column.cell));
  const shown = () => columns().filter((column) => !hidden.has(column.key));
  const answers = (item) => shown().filter((column) => column.model).map((column) => column.cell(item)).filter(Boolean);
  const spread = (item) => {
    const scores = answers(item).map((answer) => answer[3]).filter((score) => score !== null);
    return scores.length > 1 ? Math.max(...scores) - Math.min(...scores) : 0;
  };
  const disagree = (item) => {
    if (data.apart !== null) return spread(item) >= data.apart;
    return new Set(answers(item).map((answer) => answer[0].toLowerCase().replace(/\s+/g, " ").trim())).size > 1;
  };
  const within = (item, at, from, to) => (from === null && to === null) || answers(item).some((answer) =>
    answer[at] !== null && (from === null || answer[at] >= from) && (to === null || answer[at] <= to));
  const mentions = (item, words) => [item.prompt, ...shown().map((column) => (column.cell(item) || [""])[0])]
    .some((text) => text.toLowerCase().includes(words));

  const filter = () => {
    const words = wanted();
    state.items = data.items.filter((item) =>
      (!control.split.value || item.split === control.split.value) &&
      (point() === null || item.earlier) &&
      (!control.family.value || item.family === control.family.value) &&
      within(item, 3, number("score-from"), number("score-to")) &&
      within(item, 1, number("tokens-from"), number("tokens-to")) &&
      (!on("starred") || marks.of(id(item)).star || marks.of(id(item)).note) &&
      (!on("disagree") || disagree(item)) &&
      (!words || mentions(item, words)));
    if (on("disagree")) state.items.sort((a, b) => spread(b) - spread(a));
    state.limit = BATCH;
    draw();
  };

  const marked = (node, text) => {
    const words = wanted(), folded = text.toLowerCase();
    if (!words || folded.length !== text.length) { node.append(text); return; }
    let from = 0;
    for (let hit = folded.indexOf(words); hit >= 0; hit = folded.indexOf(words, from)) {
      node.append(text.slice(from, hit), make("mark", "", text.slice(hit, hit + words.length)));
      from = hit + words.length;
    }
    node.append(text.slice(from));
  };
  const words = (text, before) => {
    const node = make("p", text ? "words" : "words empty");
    node.dir = "auto";
    if (before !== undefined) {
      for (const [kind, run] of wordDiff(before, text)) node.append(kind === "same" ? run : make(kind, "", run));
      if (before === text) node.append(make("small", "", " (the same)"));
    } else if (text) marked(node, text);
    else node.textContent = "(empty)";
    return node;
  };
  const cell = (column, item) => {
    const node = make("td");
    node.setAttribute("role", "cell");
    node.dataset.title = column.title;
    const answer = column.cell(item);
    if (!answer) { node.append(make("p", "empty", "none")); return node; }
    const [text, tokens, truncated, score, step] = answer;
    const facts = make("div", "facts");
    if (score !== null) facts.append(make("b", "", score.toFixed(2)));
    if (tokens !== null) facts.append(make("span", "", `${tokens} tokens`));
    if (step !== undefined) facts.append(make("span", "", `step ${step} of ${column.steps}`));
    if (truncated) facts.append(make("span", "cut", "cut at the limit"));
    const before = on("diff") && column.trained && item.responses[column.start];
    node.append(facts, words(text, before ? before[0] : undefined));
    return node;
  };
  const button = (name, text, label, act) => {
    const node = make("button", name, text);
    node.type = "button";
    if (label) node.setAttribute("aria-label", label);
    node.addEventListener("click", act);
    return node;
  };
  const row = (item) => {
    const key = id(item), mark = marks.of(key), open = unfolded.has(key);
    const node = make("tr", open ? "unfolded" : "");
    node.setAttribute("role", "row");
    node.dataset.prompt = key;
    const head = make("th");
    head.scope = "row";
    head.setAttribute("role", "rowheader");
    const title = make("div", "facts");
    const fold = button("open", `${open ? "▾" : "▸"} ${item.split} ${item.row}`, "", () => { toggle(key); });
    fold.setAttribute("aria-expanded", String(open));
    const star = button("star", mark.star ? "★" : "☆", "Star", () => { turn(key, ".star"); });
    star.setAttribute("aria-pressed", String(mark.star));
    title.append(fold, star);
    if (item.family) title.append(make("span", "", item.family));
    head.append(title, words(item.prompt));
    if (open) {
      const note = make("textarea", "note");
      note.value = mark.note;
      note.rows = 3;
      note.placeholder = "note";
      note.setAttribute("aria-label", `Note on ${item.split} ${item.row}`);
      note.addEventListener("change", () => { marks.set(key, { note: note.value.trim() }); });
      head.append(note, button("link", "Copy link", "", () => { share(key); }));
    } else if (mark.note) head.append(make("p", "noted", mark.note));
    node.append(head, ...shown().map((column) => cell(column, item)));
    return node;
  };

  const draw = () => {
    if (control.step) {
      const at = point();
      find("v-at").textContent = at === null ? "finished models" : `${at} % of the training`;
      control.step.setAttribute("aria-valuetext", find("v-at").textContent);
    }
    find("v-place").textContent = `${state.items.length} of ${data.items.length} prompts`;
    const table = make("table");
    table.id = "v-table";
    table.setAttribute("role", "table");
    table.append(make("caption", "", "Responses by prompt and model"));
    const head = make("tr");
    head.setAttribute("role", "row");
    for (const title of ["Prompt", ...shown().map((column) => column.title)]) {
      const node = make("th", "", title);
      node.scope = "col";
      node.setAttribute("role", "columnheader");
      head.append(node);
    }
    const groups = [make("thead"), make("tbody")];
    groups.forEach((node) => node.setAttribute("role", "rowgroup"));
    groups[0].append(head);
    groups[1].append(...state.items.slice(0, state.limit).map(row));
    table.append(...groups);
    viewer.replaceChildren(table);
    if (!state.items.length) viewer.append(make("p", "empty", "No prompt fits these filters."));
    find("v-more").hidden = state.items.length <= state.limit;
    find("v-columns").replaceChildren(make("legend", "", "Columns"), ...columns().filter((column, k, all) => all.findIndex((other) => other.key === column.key) === k).map((column) => {
      const node = button("", column.name ?? column.title, "", () => {
        if (!hidden.delete(column.key)) hidden.add(column.key);
        remember();
        filter();
      });
      node.setAttribute("aria-pressed", String(!hidden.has(column.key)));
      return node;
    }));
  };

  const rowOf = (key) => [...viewer.querySelectorAll("tr[data-prompt]")].find((node) => node.dataset.prompt === key);
  const itemOf = (key) => data.items.find((item) => id(item) === key);
  const redraw = (key, focus) => {
    rowOf(key)?.replaceWith(row(itemOf(key)));
    if (focus) rowOf(key)?.querySelector(focus)?.focus();
  };
  const toggle = (key) => {
    if (!unfolded.delete(key)) unfolded.add(key);
    state.at = key;
    redraw(key, ".open");
    remember();
  };
  // Whoever stars by a key stays where Enter unfolds the prompt.
  const turn = (key, focus) => {
    if (!marks.set(key, { star: !marks.of(key).star })) say("This browser does not let the page store anything: save marks to a file before you leave.");
    redraw(key, focus);
  };
  const say = (text) => { find("v-said").textContent = text; };

  const go = (key) => {
    const at = state.items.findIndex((item) => id(item) === key);
    if (at < 0) return false;
    if (at >= state.limit) {
      state.limit = Math.ceil((at + 1) / BATCH) * BATCH;
      draw();
    }
    state.at = key;
    rowOf(key).querySelector(".open").focus({ preventScroll: true });
    rowOf(key).scrollIntoView({ block: "nearest" });
    return true;
  };
  const step = (by) => {
    const at = state.items.findIndex((item) => id(item) === state.at);
    const to = state.items[at < 0 ? 0 : at + by];
    if (to) { go(id(to)); remember(); }
  };

  const move = (by) => {
    if (!control.step) return;
    control.step.value = String(Number(control.step.value) + by);
    const key = state.at;
    filter();
    if (rowOf(key)) go(key);
    remember();
  };

  // Links: #r=SPLIT.ROW with the filters and columns that differ from those of a fresh page.
  const fresh = Object.fromEntries([...TEXTS.map((name) => [name, control[name]?.value ?? ""]), ...FLAGS.map((name) => [name, on(name)])]);
  const address = (key) => {
    const parts = new URLSearchParams({ r: key });
    for (const name of TEXTS) if (control[name] && control[name].value !== fresh[name]) parts.set(name, control[name].value);
    for (const name of FLAGS) if (on(name) !== fresh[name]) parts.set(name, on(name) ? "1" : "0");
    parts.set("without", [...hidden].join(","));
    if (unfolded.has(key)) parts.set("open", "1");
    return `#${parts}`;
  };
  const remember = () => {
    try { history.replaceState(null, "", address(state.at)); } catch { /* some browsers refuse this for files */ }
  };
  const share = async (key) => {
    state.at = key;
    remember();
    const link = location.href.replace(/#.*/, "") + address(key);
    try {
      await navigator.clipboard.writeText(link);
      say("Link copied.");
    } catch { say("The link to this prompt stands in the address bar."); }
  };
  const restore = () => {
    if (!location.hash.startsWith("#r=")) return;
    const parts = new URLSearchParams(location.hash.slice(1));
    for (const name of TEXTS) {
      if (!control[name]) continue;
      control[name].value = parts.get(name) ?? fresh[name];
      if (control[name].selectedIndex === -1) control[name].value = fresh[name];
    }
    for (const name of FLAGS) if (control[name]) control[name].checked = parts.has(name) ? parts.get(name) === "1" : fresh[name];
    hidden.clear();
    (parts.get("without") ?? "chosen,rejected").split(",").filter(Boolean).forEach((key) => hidden.add(key));
    if (parts.get("open") === "1") unfolded.add(parts.get("r"));
    filter();
    if (go(parts.get("r"))) rowOf(parts.get("r")).scrollIntoView({ block: "center" });
    else {
      section.scrollIntoView();
      if (parts.get("r")) say("The prompt of this link is not on this page, or the filters hide it.");
    }
  };

  const changed = () => { remember(); filter(); };
  [...TEXTS, ...FLAGS].forEach((name) => {
    control[name]?.addEventListener(control[name].matches("select, [type=checkbox]") ? "change" : "input", changed);
  });
  find("v-more").addEventListener("click", () => {
    const next = state.items[state.limit];
    state.limit += BATCH;
    draw();
    if (next) go(id(next));
  });
  find("v-export").addEventListener("click", () => {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([marks.text(source.dataset.study)], { type: "application/json" }));
    link.download = "preflab-marks.json";
    link.click();
    URL.revokeObjectURL(link.href);
    say(`${marks.size()} marked prompts written to preflab-marks.json.`);
  });
  find("v-import").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (!file) return;
    try {
      say(`${marks.read(await file.text())} marks read from the file.`);
      filter();
    } catch { say("This file holds no marks of a preflab report; choose one that this page wrote."); }
    event.target.value = "";
  });
  const keys = {
    j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1),
    "/": () => control.query.focus(),
    "[": () => move(-1), "]": () => move(1),
    "?": () => { find("v-help").open = !find("v-help").open; },
    s: () => { if (rowOf(state.at)) turn(state.at, ".open"); },
    n: () => {
      if (!rowOf(state.at)) return;
      if (!unfolded.has(state.at)) toggle(state.at);
      rowOf(state.at).querySelector(".note").focus();
    },
  };
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !find("v-keys").checked) return;
    if (event.key === "Escape" && event.target.matches("textarea.note")) { event.target.closest("tr").querySelector(".open").focus(); return; }
    if (event.key === "Escape" && event.target === control.query) { event.target.blur(); return; }
    if (event.target.closest("input, select, textarea")) return;
    const box = section.getBoundingClientRect();
    const inView = box.top < innerHeight * 0.8 && box.bottom > innerHeight * 0.2;
    if (!section.contains(event.target) && !(event.target === document.body && inView)) return;
    if (event.key.startsWith("Arrow") && !event.target.matches(".open")) return;
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  });
  viewer.addEventListener("focusin", (event) => { state.at = event.target.closest("tr[data-prompt]")?.dataset.prompt ?? state.at; });
  addEventListener("hashchange", restore);
  find("v-controls").hidden = false;
  find("v-tools").hidden = false;
  filter();
  restore();
})();
