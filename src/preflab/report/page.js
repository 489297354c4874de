"use strict";
// What people and tests may hold on to: ids `contents`, `contents-here`, `theme`, one `section` per id of the
// navigation (see _GROUPS in page.py); those of the matrix and of the charts stand at the top of their files.
(() => {
  const details = document.querySelector("#contents details");
  const wide = matchMedia("(min-width: 75rem)");
  const fold = () => { details.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  details.addEventListener("click", (event) => {
    if (!wide.matches && event.target.closest("a")) details.open = false;
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !wide.matches) details.open = false;
  });

  // The section being read is the last one that begins in the upper third of the window.
  const links = [...details.querySelectorAll("a")];
  const sections = links.map((link) => document.getElementById(link.hash.slice(1)));
  const here = document.getElementById("contents-here");
  let waiting = false;
  const mark = () => {
    waiting = false;
    const line = innerHeight / 3;
    const atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
    let at = sections.reduce((found, node, k) => (node.getBoundingClientRect().top <= line ? k : found), 0);
    if (atEnd && scrollY > 0) at = sections.length - 1;
    links.forEach((link, k) => {
      if (k === at) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    here.textContent = links[at] ? links[at].textContent : "";
  };
  addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(mark);
    waiting = true;
  }, { passive: true });
  mark();
})();
