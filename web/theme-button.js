// The button that switches between the light and the dark theme. A choice equal to the system's is
// forgotten, so that the page goes on following the system.

import { setAttribute } from "./dom.js";

const STORAGE_KEY = "hubrelay.theme";
const systemDark = window.matchMedia("(prefers-color-scheme: dark)");

/** Wires the button; `onChange()` is called after every change of the theme, the system's included. */
export function watchThemeButton(button, onChange) {
  const root = document.documentElement;
  const current = () => root.dataset.theme ?? systemTheme();
  const label = () => {
    const other = current() === "dark" ? "light" : "dark";
    setAttribute(button, "aria-label", `Switch to the ${other} theme`);
  };
  button.onclick = () => {
    const next = current() === "dark" ? "light" : "dark";
    if (next === systemTheme()) delete root.dataset.theme;
    else root.dataset.theme = next;
    store(root.dataset.theme);
    label();
    onChange();
  };
  systemDark.addEventListener("change", () => {
    label();
    onChange();
  });
  label();
}

function systemTheme() {
  return systemDark.matches ? "dark" : "light";
}

function store(theme) {
  try {
    if (theme === undefined) localStorage.removeItem(STORAGE_KEY);
    else localStorage.setItem(STORAGE_KEY, theme);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}
