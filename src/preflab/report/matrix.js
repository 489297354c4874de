"use strict";
(() => {
  const source = document.getElementById("generations");
  const viewer = document.getElementById("viewer");
  if (!source || !viewer) return;
  const data = JSON.parse(source.textContent);
  const find = (id) => document.getElementById(id);
  const split = find("v-split"), start = find("v-start"), family = find("v-family");
  const disputed = find("v-disputed"), query = find("v-query");
  const state = { items: [], at: 0 };

  // Model text reaches the page through textContent only: it can never become markup.
  const make = (tag, name, text) => {
    const node = document.createElement(tag);
    if (name) node.className = name;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const words = (text) => {
    const node = make("p", text ? "words" : "words empty");
    node.dir = "auto";
    node.tabIndex = 0;
    const wanted = query.value.trim().toLowerCase();
    if (!text) node.textContent = "(empty)";
    else if (!wanted) node.textContent = text;
    else {
      let from = 0;
      const folded = text.toLowerCase();
      if (folded.length !== text.length) { node.textContent = text; return node; }
      for (let hit = folded.indexOf(wanted); hit >= 0; hit = folded.indexOf(wanted, from)) {
        node.append(text.slice(from, hit), make("mark", "", text.slice(hit, hit + wanted.length)));
        from = hit + wanted.length;
      }
      node.append(text.slice(from));
    }
    return node;
  };
  const card = (title, facts, text, reward, kind) => {
    const node = make("article", "card" + (kind ? " " + kind : ""));
    const head = make("h4", "", title);
    head.append(make("small", "", facts.filter(Boolean).join(" · ")));
    node.append(head);
    if (typeof reward === "number" && reward >= 0 && reward <= 1) {
      const meter = make("div", "meter"), bar = make("i");
      bar.style.width = (reward * 100).toFixed(1) + "%";
      meter.setAttribute("aria-hidden", "true");
      meter.append(bar);
      node.append(meter);
    }
    node.append(words(text));
    return node;
  };
  const rewardText = (value) => (typeof value === "number" ? "reward " + value.toFixed(3) : "");
  const spread = (item) => {
    const rewards = data.groups.map((group, k) => [group, item.responses[k]])
      .filter(([group, response]) => group.start === start.value && response && response[3] !== null)
      .map(([, response]) => response[3]);
    return rewards.length ? Math.max(...rewards) - Math.min(...rewards) : 0;
  };
  const mentions = (item, wanted) =>
    [item.prompt, item.chosen, item.rejected, ...item.responses.map((response) => (response ? response[0] : ""))]
      .some((text) => text.toLowerCase().includes(wanted));

  const filter = () => {
    const wanted = query.value.trim().toLowerCase();
    state.items = data.items.filter((item) =>
      (!split.value || item.split === split.value) &&
      (!family.value || item.family === family.value) &&
      (!wanted || mentions(item, wanted)));
    if (disputed && disputed.checked) {
      state.items = state.items.filter((item) => spread(item) > 0).sort((a, b) => spread(b) - spread(a));
    }
    state.at = 0;
    show();
  };
  const show = () => {
    const item = state.items[state.at];
    find("v-place").textContent = item ? `${state.at + 1} of ${state.items.length}` : "none";
    find("v-previous").disabled = state.at <= 0;
    find("v-next").disabled = state.at >= state.items.length - 1;
    viewer.replaceChildren();
    if (!item) {
      viewer.append(make("p", "empty", "No prompt fits these filters."));
      return;
    }
    const prompt = make("div", "prompt");
    const head = make("h4", "", "Prompt");
    head.append(make("small", "", [item.split, item.family, "row " + item.row].filter(Boolean).join(" · ")));
    prompt.append(head, words(item.prompt));
    const cards = make("div", "cards");
    if (item.chosen) cards.append(card("data: chosen", [rewardText(item.chosen_reward)], item.chosen, item.chosen_reward, "data"));
    if (item.rejected) cards.append(card("data: rejected", [], item.rejected, null, "data"));
    data.groups.forEach((group, k) => {
      const response = item.responses[k];
      if (group.start !== start.value || !response) return;
      const [text, tokens, truncated, reward] = response;
      const facts = [rewardText(reward), tokens === null ? "" : tokens + " tokens", truncated ? "cut" : ""];
      cards.append(card(group.title, facts, text, reward, group.method ? "" : "data"));
    });
    viewer.append(prompt, cards);
  };
  const step = (by) => {
    const to = state.at + by;
    if (to < 0 || to >= state.items.length) return;
    state.at = to;
    show();
  };

  find("v-previous").addEventListener("click", () => step(-1));
  find("v-next").addEventListener("click", () => step(1));
  [split, start, family, disputed].forEach((node) => node && node.addEventListener("change", filter));
  query.addEventListener("input", filter);
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea, .scroll, .words")) return;
    if (event.key === "j" || event.key === "ArrowRight") step(1);
    if (event.key === "k" || event.key === "ArrowLeft") step(-1);
  });
  find("v-controls").hidden = false;
  filter();
})();
