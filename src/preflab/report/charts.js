// Training curves, drawn by uPlot (MIT licence, (c) 2022 Leon Sorokin). Ids: `c-data`, `c-explorer`, `c-metric`,
// `c-start`, `c-methods` (a toggle per method, aria-pressed), `c-chart`, `c-values` (what stands under the cursor),
// `c-copy`.
(() => {
  const source = document.getElementById("c-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const find = (id) => document.getElementById(id);
  const metric = find("c-metric"), start = find("c-start"), place = find("c-chart"), values = find("c-values");
  const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3]];
  const HEIGHT = 340, PAPER = 680; // pixels
  const off = new Set();
  let chart = null, panel = null, present = [], printing = false;

  const option = (select, value, text) => {
    const node = document.createElement("option");
    node.value = value;
    node.textContent = text;
    select.append(node);
  };
  data.metrics.forEach((each, k) => option(metric, k, each.title));
  [...new Set(data.panels.map((each) => each.start))].forEach((name) => option(start, name, name));
  // A canvas takes no variables: an element that uses one knows its colour in this theme, on paper the light one.
  const ink = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    if (printing) probe.style.colorScheme = "light";
    place.append(probe);
    const colour = getComputedStyle(probe).color;
    probe.remove();
    return colour;
  };
  const written = (value) => (value === null || value === undefined ? "–" : String(Number(value.toPrecision(4))));

  const axis = (label) => ({
    label, stroke: ink("--muted"), grid: { stroke: ink("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui",
    labelFont: "12px system-ui", labelSize: 22,
  });
  const series = (k) => {
    const { title, colour } = data.methods[k];
    const dash = DASHES[Math.floor(k / 2) % DASHES.length];
    const bound = { stroke: "transparent", points: { show: false }, show: !off.has(k) };
    return [
      { label: title, stroke: colour, width: 2, dash, spanGaps: true, points: { size: 5 }, show: !off.has(k) },
      { ...bound, label: `${title} low` }, { ...bound, label: `${title} high` },
    ];
  };
  const read = (at) => {
    values.replaceChildren();
    if (at === null || at === undefined) return;
    const head = document.createElement("b");
    head.textContent = `${data.metrics[panel.metric].x} ${panel.x[at].toLocaleString("en")}`;
    values.append(head, ...present.filter((k) => !off.has(k)).map((k) => {
      const line = panel.series[k], node = document.createElement("span");
      node.textContent = `${data.methods[k].title} ${written(line.mean[at])}` +
        (line.mean[at] === null || line.low[at] === line.high[at] ? "" : ` (${written(line.low[at])} to ${written(line.high[at])})`);
      return node;
    }));
  };
  const draw = () => {
    chart?.destroy();
    chart = null;
    values.replaceChildren();
    panel = data.panels.find((each) => each.start === start.value && String(each.metric) === metric.value);
    present = panel ? panel.series.map((line, k) => (line ? k : -1)).filter((k) => k >= 0) : [];
    const legend = find("c-methods").firstElementChild;
    find("c-methods").replaceChildren(legend, ...present.map((k) => {
      const node = document.createElement("button"), swatch = document.createElement("i");
      node.type = "button";
      swatch.style.background = data.methods[k].colour;
      node.append(swatch, data.methods[k].title);
      node.setAttribute("aria-pressed", String(!off.has(k)));
      node.addEventListener("click", () => {
        if (!off.delete(k)) off.add(k);
        draw();
        find("c-methods").querySelectorAll("button")[present.indexOf(k)].focus();
      });
      return node;
    }));
    if (!panel) {
      values.textContent = "Not followed from this start point.";
      return;
    }
    const about = data.metrics[panel.metric];
    place.setAttribute("aria-label", `${about.title} from ${panel.start}: ${present.map((k) => data.methods[k].title).join(", ")}.`);
    chart = new uPlot({
      width: printing ? PAPER : place.clientWidth, height: HEIGHT, legend: { show: false }, scales: { x: { time: false } },
      axes: [{ ...axis(about.x), size: 30 }, { ...axis(about.unit), size: 64 }],
      series: [{}, ...present.flatMap(series)],
      bands: present.map((k, n) => ({ series: [3 * n + 3, 3 * n + 2], fill: `${data.methods[k].colour}26` })),
      cursor: { y: false },
      hooks: { setCursor: [(each) => read(each.cursor.idx)] },
    }, [panel.x, ...present.flatMap((k) => [panel.series[k].mean, panel.series[k].low, panel.series[k].high])], place);
  };
  const move = (by) => {
    const at = chart.cursor.idx;
    const to = at === null || at === undefined ? 0 : Math.min(panel.x.length - 1, Math.max(0, at + by));
    chart.setCursor({ left: chart.valToPos(panel.x[to], "x"), top: 0 });
  };

  place.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!by || !chart) return;
    event.preventDefault();
    move(by);
  });
  metric.addEventListener("change", draw);
  start.addEventListener("change", draw);
  find("c-copy").addEventListener("click", () => {
    if (!panel) return;
    const heads = present.flatMap((k) => ["mean", "low", "high"].map((part) => `${data.methods[k].title} ${part}`));
    const rows = panel.x.map((x, at) => [x, ...present.flatMap((k) => ["mean", "low", "high"].map((part) => panel.series[k][part][at]))]);
    copyText(csv([[data.metrics[panel.metric].x, ...heads], ...rows]), find("c-copy"));
  });
  new ResizeObserver(() => chart?.setSize({ width: place.clientWidth, height: HEIGHT })).observe(place);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("themechange", draw);
  for (const event of ["beforeprint", "afterprint"]) addEventListener(event, () => { printing = event === "beforeprint"; draw(); });
  find("c-explorer").hidden = false;
  draw();
})();
