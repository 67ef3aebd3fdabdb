// Light, dark, or as the system is; set before the first paint, so that nothing flashes.
// A classic script: a module would run after the page has been drawn once.
"use strict";

(() => {
  const NAMES = { system: "system", light: "light", dark: "dark" };
  const ORDER = Object.keys(NAMES);

  /** @returns {string} what was chosen; "system" where nothing can be kept */
  function chosen() {
    try {
      return NAMES[localStorage.getItem("theme")] || "system";
    } catch {
      return "system";
    }
  }

  /** @param {string} name */
  function set(name) {
    if (name === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
  }

  set(chosen());
  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    let now = chosen();
    const say = () => (button.textContent = `Theme: ${now}`);
    say();
    button.addEventListener("click", () => {
      now = ORDER[(ORDER.indexOf(now) + 1) % ORDER.length];
      try {
        localStorage.setItem("theme", now);
      } catch {
        // It holds until the page is left.
      }
      set(now);
      say();
      dispatchEvent(new Event("themechange"));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
      dispatchEvent(new Event("themechange")),
    );
  });
})();
