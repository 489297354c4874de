"use strict";
// Asks the process that serves this page how far the study is; all text goes through textContent.
(() => {
  const EVERY_MS = 3000;
  const byId = (id) => document.getElementById(id);
  let shown = null;

  function duration(seconds) {
    if (seconds < 60) return `${Math.round(seconds)} s`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
    return `${(seconds / 3600).toFixed(1)} h`;
  }

  function sentence(status) {
    const stages = `${status.done} of ${status.total} stages`;
    if (status.state === "running") {
      const now = status.running.map((task) => task.label).filter(Boolean);
      const sign = status.last_sign_s === null ? "" : `; last sign of life ${duration(status.last_sign_s)} ago`;
      const doing = now.length ? `; now ${now.join(", ")}` : "";
      return `Running: ${stages}, about ${duration(status.seconds_left)} left${doing}${sign}.`;
    }
    if (status.state === "stopped") return `Stopped at ${stages}; no process is running it. The same command continues.`;
    return `Complete: ${stages}.`;
  }

  async function look() {
    try {
      const answer = await fetch("status", { cache: "no-store" });
      if (!answer.ok) throw new Error(await answer.text());
      const status = await answer.json();
      shown ??= status.shown;
      byId("live-bar").max = Math.max(1, status.total);
      byId("live-bar").value = status.done;
      byId("live-bar").hidden = status.state === "complete";
      byId("live-text").textContent = sentence(status);
      const troubles = status.failed.length + status.troubled.length;
      byId("live-trouble").textContent = troubles ? `${troubles} failed or diverged.` : "";
      byId("live-new").hidden = status.version === shown;
    } catch (error) {
      byId("live-text").textContent = error instanceof TypeError ? "preflab view has ended; the page stays readable." : error.message;
    }
    setTimeout(look, EVERY_MS);
  }

  byId("live-new").addEventListener("click", (event) => {
    event.target.textContent = "Reading the new results …";
    location.reload();
  });
  look();
})();
