// A command as a shell would split it, without a shell; what was typed survives a reload.

import { append, h } from "./dom.js";
import { methodForm } from "./forms.js";
import { splitWords } from "./text.js";

// `more` names the parameters of the method that are asked for too, `once` those of them that are for one run; `onRun`
// gets all of them, and throws what is wrong.
export function commandForm({ contract, entry, id, title, submit, key, more, once = [], about, legend, onRun }) {
  const draft = `draft:${key}/command`;
  const problem = h("p", { class: "problem", id: `${id}-problem`, role: "alert", hidden: true });
  const typed = h("input", { id, autocomplete: "off", spellcheck: "false", value: sessionStorage.getItem(draft) ?? "", "aria-describedby": `${id}-about ${id}-problem`, oninput: () => sessionStorage.setItem(draft, typed.value) });
  const shell = h("input", { type: "checkbox", id: `${id}-shell` });
  const button = h("button", { type: "submit", class: "primary" }, submit);
  const say = (text) => { problem.replaceChildren(); append(problem, [text]); problem.hidden = !text; };
  const argv = () => {
    const words = shell.checked ? ["sh", "-c", typed.value] : splitWords(typed.value);
    if (words === null) say("a quote is open");
    else if (!words.length || !typed.value.trim()) say("there is no command yet");
    else return words;
    typed.focus();
    return null;
  };
  const run = async (params) => {
    say("");
    const words = argv();
    if (!words) return;
    await onRun({ ...params, argv: words });
    details.open = false;
    for (const name of once) {
      const input = fields.form.elements[name];
      input.value = "";
      input.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };
  const fields = methodForm({
    contract, entry, leave: entry.params.map((param) => param.name).filter((name) => !more.includes(name)), key, submit: `${submit} with these`,
    onSubmit: async (params) => { await run(params); return false; },
  });
  const details = h("details", {}, h("summary", {}, legend), fields.form);
  const form = h("form", { class: "exec", novalidate: true, onsubmit: async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    try {
      await run(fields.read());
    } catch (error) {
      say([error.data?.errors?.map((each) => `${each.field} ${each.problem}`).join("; ") || error.message, error.hint && ` ${error.hint}`].filter(Boolean).join(""));
    } finally {
      button.disabled = false;
    }
  } }, h("label", { for: id }, title), typed, button, h("p", { class: "about", id: `${id}-about` }, about),
  h("div", { class: "check" }, shell, h("label", { for: `${id}-shell` }, "through sh")), problem);
  return h("div", {}, form, details);
}
