// The labels to paint with, as chips in the palette's colours, the eraser, and the size of the brush.

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".palette");
  const brush = (document.wplusBrush ??= { label: 255, size: 10 });
  const size = root.querySelector(".size"), chips = root.querySelector(".chips");
  if (!root.ready) brush.label = data.chips.some((chip) => chip.label === brush.label) && brush.label !== 255 ? brush.label : data.first;
  root.ready = true;
  const words = JSON.stringify([data.chips, data.words]);
  if (root.words !== words) {
    root.words = words;
    chips.setAttribute("aria-label", data.words.chips);
    root.querySelector(".name").textContent = data.words.size;
    root.querySelector(".keys").textContent = data.words.keys;
    chips.replaceChildren(...data.chips.map((chip) => {
      const label = Object.assign(document.createElement("label"), { className: "chip" });
      const input = Object.assign(document.createElement("input"), { type: "radio", name: "label", value: chip.label });
      const swatch = Object.assign(document.createElement("i"), { className: chip.colour ? "" : "none" });
      if (chip.colour) swatch.style.background = `rgb(${chip.colour.join()})`;
      input.onchange = () => (brush.label = Number(input.value));
      label.append(input, swatch, chip.name);
      return label;
    }));
  }
  const show = () => {
    for (const input of chips.querySelectorAll("input")) input.checked = Number(input.value) === brush.label;
    size.value = brush.size;
    size.setAttribute("aria-valuetext", `${Math.round((100 * brush.size) / 128)}%`);
    root.querySelector("output").textContent = `${Math.round((100 * brush.size) / 128)}%`;
  };
  size.oninput = () => {
    brush.size = Number(size.value);
    show();
  };
  show();
  document.removeEventListener("wplus-brush", document.wplusBrushShown);
  document.wplusBrushShown = show;
  document.addEventListener("wplus-brush", show);
  return () => document.removeEventListener("wplus-brush", show);
}
