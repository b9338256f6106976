// Runs before the first paint: applies the visitor's stored choice of theme, if there is one.
// Without a choice the page follows the system (`color-scheme: light dark` in style.css).
try {
  const choice = localStorage.getItem("hubrelay.theme");
  if (choice === "light" || choice === "dark") document.documentElement.dataset.theme = choice;
} catch {
  // Storage may be blocked; the system's theme is then the right one.
}
