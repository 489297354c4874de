// Marks of figures that say their numbers: hover, tap, or Tab to a figure and use the arrow keys. A figure's
// `g.points` (see points.py) holds one `g[data-series]` per method with a circle per mark; what is drawn for a method
// carries the same `data-series`. Ids and classes: `point-tip`, `.point-show` (a toggle per method), `.point-how`.
(() => {
  const REACH = 28; // pixels from pointer to mark
  const tip = document.createElement("div"), told = new Set();
  tip.id = "point-tip";
  tip.hidden = true;
  document.body.append(tip);
  let shown = null;

  const place = () => {
    if (!shown) return;
    const mark = shown.getBoundingClientRect(), box = shown.ownerSVGElement.parentElement.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const middle = mark.left + mark.width / 2;
    tip.classList.toggle("away", middle < box.left - 4 || middle > box.right + 4);
    const left = Math.max(8, Math.min(wide - tip.offsetWidth - 8, middle - tip.offsetWidth / 2));
    const above = mark.top - tip.offsetHeight - 6;
    const top = above > 8 ? above : mark.bottom + 6;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${top + scrollY}px`;
  };
  const hide = () => {
    shown?.classList.remove("here");
    shown?.ownerSVGElement.classList.remove("asked");
    shown = null;
    tip.hidden = true;
  };
  const show = (circle) => {
    if (shown === circle) return;
    hide();
    shown = circle;
    circle.classList.add("here");
    const svg = circle.ownerSVGElement, { series } = circle.parentElement.dataset;
    svg.classList.add("asked");
    svg.querySelectorAll("[data-series]").forEach((each) => each.classList.toggle("same", each.dataset.series === series));
    const [head, ...lines] = circle.getAttribute("aria-label").split("\n");
    const first = document.createElement("b");
    first.textContent = head;
    tip.replaceChildren(first, ...lines.map((line) => {
      const node = document.createElement("span");
      node.textContent = line;
      return node;
    }));
    tip.hidden = false;
    place();
  };
  addEventListener("scroll", place, { passive: true, capture: true });
  addEventListener("resize", place, { passive: true });

  const centre = (circle) => [Number(circle.getAttribute("cx")), Number(circle.getAttribute("cy"))];
  const nearest = (circles, [x, y]) => circles.reduce((best, circle) => {
    const [cx, cy] = centre(circle), away = Math.hypot(cx - x, cy - y);
    return best && best.away <= away ? best : { circle, away };
  }, null);

  document.querySelectorAll("figure svg:has(.points)").forEach((svg) => {
    const figure = svg.closest("figure"), points = svg.querySelector(".points");
    const series = [...points.children];
    const open = () => series.filter((each) => !each.classList.contains("off") && each.children.length);
    const marks = () => open().flatMap((each) => [...each.children]);
    points.querySelectorAll("circle").forEach((circle) => {
      // The words move from the title, which browsers show by themselves, to a label.
      circle.setAttribute("aria-label", circle.textContent);
      circle.replaceChildren();
      circle.setAttribute("role", "img");
      circle.setAttribute("tabindex", "-1");
    });
    if (!marks().length) return;
    svg.setAttribute("role", "group");
    const enter = (circle) => {
      points.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
      circle?.setAttribute("tabindex", "0");
    };
    enter(marks()[0]);

    const under = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const found = nearest(marks(), [at.x, at.y]);
      return found && found.away * svg.getScreenCTM().a <= REACH ? found.circle : null;
    };
    const back = () => {
      if (points.contains(document.activeElement)) show(document.activeElement);
      else hide();
    };
    svg.addEventListener("pointermove", (event) => {
      if (event.pointerType === "touch") return;
      const found = under(event);
      if (found) show(found);
      else back();
    });
    svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") back(); });
    svg.addEventListener("click", (event) => {
      const found = under(event);
      if (found) found.focus({ preventScroll: true });
      else document.activeElement?.blur?.();
    });
    // At the figure: an SVG element that listens for focus can have it itself in Chromium.
    figure.addEventListener("focusin", (event) => {
      if (!points.contains(event.target)) return;
      enter(event.target);
      show(event.target);
    });
    figure.addEventListener("focusout", hide);
    svg.addEventListener("keydown", (event) => {
      const here = event.target.parentElement, same = [...here.children], all = open();
      const along = { ArrowRight: 1, ArrowLeft: -1 }[event.key], across = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      let next = null;
      if (along) next = same[(same.indexOf(event.target) + along + same.length) % same.length];
      else if (across) {
        const other = [...all[(all.indexOf(here) + across + all.length) % all.length].children];
        // Series of one length have a mark for the same thing at the same place in their order.
        next = other.length === same.length ? other[same.indexOf(event.target)] : nearest(other, centre(event.target)).circle;
      }
      else if (event.key === "Home") next = same[0];
      else if (event.key === "End") next = same.at(-1);
      else if (event.key === "Escape") return event.target.blur();
      else return undefined;
      event.preventDefault();
      return next.focus();
    });

    if (points.classList.contains("toggled")) {
      const box = document.createElement("fieldset"), legend = document.createElement("legend");
      box.className = "point-show tools";
      legend.textContent = "Show";
      box.append(legend, ...series.map((each) => {
        const node = document.createElement("button"), swatch = document.createElement("i");
        node.type = "button";
        swatch.style.background = each.getAttribute("color");
        node.append(swatch, each.dataset.title);
        node.setAttribute("aria-pressed", "true");
        node.addEventListener("click", () => {
          const off = node.getAttribute("aria-pressed") === "true";
          node.setAttribute("aria-pressed", String(!off));
          svg.querySelectorAll(`[data-series="${each.dataset.series}"]`).forEach((part) => part.classList.toggle("off", off));
          enter(marks()[0]);
        });
        return node;
      }));
      figure.append(box);
    }
    const section = figure.closest("section");
    if (!told.has(section)) {
      told.add(section);
      const how = document.createElement("span");
      how.className = "point-how tools";
      how.textContent = " Hover, tap or focus a mark for its numbers; arrow keys lead to the next one.";
      figure.querySelector("figcaption").append(how);
    }
  });
})();
