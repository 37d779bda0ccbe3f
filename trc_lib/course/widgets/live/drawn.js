// A picture that Python draws: those that are kept with the widget are shown at once, others while the notebook runs.

import { asked } from "./problem.js";
import { frame, group, h, said, shared, slider } from "./stage.js";

/** The pictures that are kept: by the `key_of` the values, ``{words, url}``. */
function kept_in(model, key_of) {
  const { buffer, byteOffset } = model.get("pictures"), found = new Map();
  let at = byteOffset;
  for (const { values, words, size } of model.get("about").kept) {
    const png = new Blob([buffer.slice(at, at += size)], { type: "image/png" });
    found.set(key_of(values), { words, url: URL.createObjectURL(png) });
  }
  return found;
}

export default { render({ model, el }) {
  const { controls, title } = model.get("about"), names = controls.map(({ name }) => name);
  const key_of = (values) => String(names.map((name) => values[name])), known = kept_in(model, key_of);
  const { get, set, follow, leave } = shared(model, () => redraw());
  follow("values");
  const sliders = controls.map(({ name, label, ...ends }) => slider(label, { ...ends, value: get("values")[name],
    words: (value) => said(value, 4), act: (value) => set({ values: { ...get("values"), [name]: value } }) }));
  const image = h("img", { class: "trc-drawn" });

  let asking = false, trouble = "";
  const ask = () => { // one question at a time; the latest values are asked for when the answer is there
    const values = get("values"), key = key_of(values);
    asking = true;
    asked(model, { ask: "picture", values }).then(({ words, buffers }) => {
      known.set(key, { words, url: URL.createObjectURL(new Blob(buffers, { type: "image/png" })) });
      trouble = "";
    }, (error) => {
      trouble = ` The picture is not of these values: ${error.message}.`;
      if (key === key_of(get("values"))) known.set(key, null);
    }).finally(() => {
      asking = false;
      redraw();
    });
  };
  let shown = [...known.values()][0];
  const draw = () => {
    const key = key_of(get("values"));
    names.forEach((name, i) => sliders[i].set(get("values")[name]));
    shown = known.get(key) ?? shown;
    if (known.get(key)) trouble = "";
    if (known.get(key) === null) known.delete(key); // asked again when it is chosen again
    else if (!known.has(key) && !asking) ask();
    if (image.getAttribute("src") !== shown.url) image.setAttribute("src", shown.url);
    image.alt = shown.words;
    image.style.opacity = known.has(key) ? "" : 0.6;
    return shown.words + trouble;
  };
  const { redraw } = frame(el, title, draw, h("div", { class: "trc-controls" },
    group("controls", ...sliders.map((each) => each.element))), image);
  redraw();
  return () => {
    leave();
    for (const each of known.values()) if (each) URL.revokeObjectURL(each.url);
  };
} };
