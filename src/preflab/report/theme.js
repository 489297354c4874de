// The switch between the system's theme, light and dark (`theme`, in the header); the choice is kept where the browser lets pages keep things.
(() => {
  const KEY = "preflab:theme";
  const ORDER = ["system", "light", "dark"];
  const button = document.getElementById("theme");
  const root = document.documentElement;
  const show = (theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    dispatchEvent(new Event("themechange"));
  };
  let theme = "system";
  try { theme = ORDER.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : theme; } catch { /* then the system's */ }
  button.addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length];
    try { localStorage.setItem(KEY, theme); } catch { /* it lasts as long as the page */ }
    show(theme);
  });
  button.hidden = false;
  show(theme);
})();
