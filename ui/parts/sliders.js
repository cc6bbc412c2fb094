// The panel of edits: groups of sliders with the safe range marked, a search box, double click for 0.
// Changes go one message at a time: a slider that moves on before the answer is there goes with the next.

const PAUSE = 800; // ms without a key after which the next key begins another thing done

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".sliders");
  const state = (root.state ??= { outbox: outbox(), dragged: null, stroke: 0, rows: new Map(), shape: "" });
  state.outbox.tell = (value) => setStateValue("changes", value);

  const shape = JSON.stringify([data.groups, data.words]);
  if (shape !== state.shape) {
    build(root, state, data);
    state.shape = shape;
  }
  state.outbox.answered(data.place, data.seen);
  for (const [name, row] of state.rows) {
    if (name !== state.dragged && !state.outbox.open(name)) row.show(data.values[name] ?? 0);
    row.element.classList.toggle("elsewhere", data.elsewhere.includes(name));
  }
}

function build(root, state, data) {
  const open = new Set([...root.querySelectorAll("details[open]")].map((each) => each.dataset.group));
  const first = !state.shape, sought = root.querySelector(".search")?.value ?? "";
  root.replaceChildren();
  state.rows.clear();
  state.dragged = null; // its end would come from an input that is gone

  const search = element("input", { type: "search", placeholder: data.words.search, className: "search", value: sought });
  search.setAttribute("aria-label", data.words.search);
  const nothing = element("p", { className: "nothing", textContent: data.words.nothing, hidden: true });
  root.append(search, nothing);

  data.groups.forEach((group, index) => {
    const details = element("details", { open: first ? index === 0 : open.has(group.id) });
    details.dataset.group = group.id;
    details.append(element("summary", { textContent: group.label }));
    for (const edit of group.edits) {
      const done = (value) => {
        state.dragged = null;
        state.outbox.put(edit.name, { value, stroke: state.stroke });
      };
      const row = slider(edit, data.words, {
        done,
        begin: () => (state.stroke = Date.now()), // all until the next beginning is one thing done
        released: (value) => state.dragged === edit.name && done(value), // back where it began: then nothing else tells
        live: (value) => {
          state.dragged = edit.name;
          state.outbox.put(edit.name, { value, stroke: state.stroke });
        },
      });
      state.rows.set(edit.name, row);
      details.append(row.element);
    }
    root.append(details);
  });

  search.oninput = () => {
    const wanted = search.value.trim().toLowerCase();
    let found = 0;
    for (const details of root.querySelectorAll("details")) {
      let here = 0;
      for (const row of details.querySelectorAll(".row")) {
        row.hidden = wanted !== "" && !row.dataset.words.includes(wanted);
        here += !row.hidden;
      }
      details.hidden = here === 0;
      if (wanted && here) details.open = true;
      found += here;
    }
    nothing.hidden = found > 0;
  };
  if (sought) search.oninput();
}

function slider(edit, words, heard) {
  const row = element("div", { className: "row", title: edit.hint });
  row.dataset.words = `${edit.name} ${edit.label} ${edit.hint}`.toLowerCase().replaceAll("_", " ");
  const name = element("label", { textContent: edit.label });
  const value = element("output", { textContent: "0" });
  const input = element("input", { type: "range", min: edit.low, max: edit.high, step: edit.step, value: 0 });
  input.dataset.edit = edit.name;
  input.setAttribute("aria-label", edit.label);
  input.id = name.htmlFor = `edit-${edit.name}`;
  const part = (x) => ((x - edit.low) / (edit.high - edit.low)) * 100;
  row.style.setProperty("--safe-from", `${part(edit.safe[0])}%`);
  row.style.setProperty("--safe-to", `${part(edit.safe[1])}%`);
  row.style.setProperty("--zero", `${part(0)}%`);

  let shown = null;
  const show = (number) => {
    if (number === shown && Number(input.value) === number) return; // nothing to lay out anew
    shown = number;
    input.value = number;
    value.textContent = number ? (number > 0 ? "+" : "−") + Math.abs(number) : "0";
    const beyond = number < edit.safe[0] || number > edit.safe[1];
    row.classList.toggle("beyond", beyond);
    row.classList.toggle("set", number !== 0);
    input.setAttribute("aria-valuetext", beyond ? `${number}, ${words.beyond}` : `${number}`);
  };
  let pulled = false, last = 0; // by a pointer, not by keys; when a key was pressed
  input.onpointerdown = () => {
    pulled = true;
    heard.begin();
  };
  input.onpointerup = input.onpointercancel = () => {
    pulled = false;
    setTimeout(() => heard.released(Number(input.value)));
  };
  input.oninput = () => {
    let number = Number(input.value);
    if (pulled && Math.abs(number) < edit.step * 1.5) number = 0; // easy to bring back to nothing
    show(number);
    heard.live(number);
  };
  input.onchange = () => heard.done(Number(input.value));
  const reset = () => {
    heard.begin();
    show(0);
    heard.done(0);
  };
  input.ondblclick = name.ondblclick = reset;
  input.onkeydown = (event) => {
    if (Date.now() - last > PAUSE) heard.begin();
    last = Date.now();
    if (event.key === "Delete" || event.key === "Backspace") reset();
  };
  row.append(name, value, input);
  return { element: row, show };
}

function element(kind, properties) {
  return Object.assign(document.createElement(kind), properties);
}
