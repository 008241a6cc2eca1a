// What has to be there before anything else, so a plain script: the chosen theme ("auto" leaves it to the system), and a word
// for whoever cannot get the page's modules.
(() => {
  try {
    const theme = JSON.parse(localStorage.getItem("chorus.theme"));
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // No storage here: the system's theme it is.
  }
  const onerror = (event) => {
    if (event.target.tagName !== "SCRIPT") return;
    const banner = document.getElementById("banner");
    banner.textContent = `The server refused this page's scripts. Beyond its own machine it has to be told: --allow-origin ${location.origin}`;
    banner.hidden = false;
  };
  addEventListener("error", onerror, true);
})();
