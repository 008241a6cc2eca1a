// The chosen theme, before anything is painted; "auto" leaves it to the system. A plain script, as modules run later.
(() => {
  try {
    const theme = localStorage.getItem("chorus.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // No storage here: the system's theme it is.
  }
})();
