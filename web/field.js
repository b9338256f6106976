// Fields that a visitor types into.

import { element, setAttribute, setText } from "./dom.js";

/** An input for JSON, without what browsers do to prose. */
export function jsonInput(properties) {
  return element("input", {
    className: "field code-field",
    spellcheck: false,
    autocomplete: "off",
    autocapitalize: "off",
    ...properties,
  });
}

/** Says what is wrong with an input, or that nothing is. */
export function showProblem(input, node, problem) {
  setText(node, problem);
  if (problem === "") input.removeAttribute("aria-invalid");
  else setAttribute(input, "aria-invalid", "true");
}
