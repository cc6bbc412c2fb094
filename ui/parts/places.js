// The parts of a face as a list of numbers: how far right and down each went, and its size, all in percent.

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".places");
  const state = (root.state ??= { outbox: outbox(), rows: new Map(), shape: "" });
  Object.assign(state, { data });
  state.outbox.tell = (value) => setStateValue("boxes", value);
  const shape = JSON.stringify([data.parts.map((part) => [part.name, part.label]), data.words]);
  if (shape !== state.shape) {
    state.shape = shape;
    state.rows.clear();
    const head = document.createElement("tr");
    for (const word of ["part", "right", "down", "size", ""]) {
      head.append(Object.assign(document.createElement("th"), { scope: "col", textContent: word && data.words[word] }));
    }
    head.lastChild.replaceChildren(Object.assign(document.createElement("span"), { className: "unseen", textContent: data.words.reset }));
    root.replaceChildren(head, ...data.parts.map((part) => row(part, state)));
  }
  state.outbox.answered(data.place, data.seen);
  for (const part of data.parts) if (!state.outbox.open(part.name)) state.rows.get(part.name).show(part);
}

function row(part, state) {
  const words = state.data.words, name = part.name;
  const line = document.createElement("tr"), title = Object.assign(document.createElement("th"), { scope: "row" });
  const swatch = document.createElement("i");
  swatch.style.background = `rgb(${part.colour.join()})`;
  title.append(swatch, part.label);
  const fields = ["right", "down", "size"].map((what) => {
    const field = Object.assign(document.createElement("input"), { type: "number", step: what === "size" ? 5 : 0.5,
      min: what === "size" ? 20 : -100, max: what === "size" ? 400 : 100, inputMode: "decimal" });
    field.dataset.place = `${name}-${what}`;
    field.setAttribute("aria-label", `${part.label}: ${words[what]}`);
    field.onchange = () => {
      const own = state.data.parts.find((each) => each.name === name);
      const now = moveOf(own.home, own.box);
      const wrong = ({ badInput, rangeOverflow, rangeUnderflow }) => badInput || rangeOverflow || rangeUnderflow;
      const values = fields.map((each, at) => wrong(each.validity) ? now[at] : each.value === "" ? [0, 0, 100][at] : Number(each.value));
      fields.forEach((each, at) => (each.value = values[at]));
      state.outbox.put(name, boxOf(own.home, values), 500);
    };
    return field;
  });
  const back = Object.assign(document.createElement("button"), { type: "button", textContent: "↺", title: words.reset });
  back.setAttribute("aria-label", `${part.label}: ${words.reset}`);
  back.onclick = () => state.outbox.put(name, null);
  for (const each of [title, ...fields, back]) {
    if (each === title) line.append(title);
    else {
      const cell = document.createElement("td");
      cell.append(each);
      line.append(cell);
    }
  }
  const show = (now) => {
    const values = moveOf(now.home, now.box), focused = root(line).activeElement;
    fields.forEach((each, at) => {
      if (each !== focused || Number(each.value) !== values[at]) each.value = values[at];
    });
    const away = values[0] !== 0 || values[1] !== 0 || values[2] !== 100;
    line.classList.toggle("away", away);
    back.disabled = !away;
  };
  state.rows.set(name, { show });
  return line;
}

function root(element) {
  return element.getRootNode();
}

function boxOf(home, [right, down, size]) {
  const width = (home[2] * size) / 100, height = (home[3] * size) / 100;
  return [home[0] + home[2] / 2 + right / 100 - width / 2, home[1] + home[3] / 2 + down / 100 - height / 2, width, height];
}
