// Stars and notes on prompts: kept by this browser for this study, written to and read from a JSON file.
const openMarks = (study) => {
  const key = `preflab:${study}`;
  const found = new Map();

  const clean = (mark) => ({ star: mark.star === true, note: typeof mark.note === "string" ? mark.note.slice(0, 10000) : "" });
  const put = (id, mark) => {
    if (mark.star || mark.note) found.set(id, mark);
    else found.delete(id);
  };
  const save = () => {
    // A page opened as a file may not be allowed to store anything; then marks last as long as the page.
    try { localStorage.setItem(key, JSON.stringify([...found])); } catch { return false; }
    return true;
  };
  const take = (entries) => {
    let n = 0;
    for (const entry of entries) {
      if (!Array.isArray(entry) || typeof entry[0] !== "string" || !entry[1] || typeof entry[1] !== "object") continue;
      put(entry[0], clean(entry[1]));
      n += 1;
    }
    return n;
  };
  try { take(JSON.parse(localStorage.getItem(key) || "[]")); } catch { /* nothing stored, or nothing readable */ }

  return {
    of: (id) => found.get(id) || { star: false, note: "" },
    set(id, change) {
      put(id, { ...this.of(id), ...change });
      return save();
    },
    size: () => found.size,
    text: (name) => JSON.stringify({
      preflab: "marks", study: name,
      marks: [...found].map(([id, mark]) => ({ prompt: id, star: mark.star, note: mark.note })),
    }, null, 2) + "\n",
    /** Add the marks of a file; returns how many it held. Throws where it is no such file. */
    read(text) {
      const data = JSON.parse(text);
      if (data === null || data.preflab !== "marks" || !Array.isArray(data.marks)) throw new Error("not a file of marks");
      const n = take(data.marks.map((mark) => [mark && mark.prompt, mark]));
      save();
      return n;
    },
  };
};
