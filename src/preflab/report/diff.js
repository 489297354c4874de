// Word differences: the longest common subsequence of two texts, as runs [kind, text] with kind "same", "del" or "ins".
const wordDiff = (before, after) => {
  const split = (text) => text.match(/\S+\s*|^\s+/g) || [];
  const a = split(before), b = split(after);
  let head = 0, tail = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const n = a.length - head - tail, m = b.length - head - tail, width = m + 1;
  const longest = new Uint16Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i -= 1) {
    for (let j = m - 1; j >= 0; j -= 1) {
      longest[i * width + j] = a[head + i] === b[head + j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const runs = [];
  const add = (kind, text) => {
    const last = runs[runs.length - 1];
    if (last && last[0] === kind) last[1] += text;
    else if (text) runs.push([kind, text]);
  };
  add("same", a.slice(0, head).join(""));
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && a[head + i] === b[head + j]) {
      add("same", a[head + i]);
      i += 1;
      j += 1;
    } else if (i < n && (j === m || longest[(i + 1) * width + j] >= longest[i * width + j + 1])) {
      add("del", a[head + i]);
      i += 1;
    } else {
      add("ins", b[head + j]);
      j += 1;
    }
  }
  add("same", tail ? a.slice(-tail).join("") : "");
  return runs;
};
