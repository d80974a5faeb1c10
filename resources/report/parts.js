// What pages share: elements, texts that are only ever put in as text nodes, light and dark.
const parts = (() => {
  "use strict";

  function make(tag, options = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (value !== undefined && value !== null) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // a text as nodes; characters that turn the direction of what follows are shown and turn nothing
  function textNodes(text) {
    return text.split(/([\u202a-\u202e\u2066-\u2069])/).map((part, i) => (i % 2
      ? make("span", {
        class: "control", title: `U+${part.charCodeAt(0).toString(16).toUpperCase()}`,
      })
      : part));
  }

  // light and dark: the reader's system decides until the button is pressed
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const isDark = () => root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const label = () => { button.textContent = isDark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();

  return { make, textNodes };
})();
