// What sentences were taken for: a row each with its strength and a button that takes it out; above them what there is
// to tell of the last one.  What a pointer or a row of keys does to a strength is one thing done.

const PAUSE = 800; // ms without a key after which the next key begins another thing

export default function ({ data, parentElement, setStateValue }) {
  const root = parentElement.querySelector(".sayings");
  const state = (root.state ??= setUp(root));
  state.outbox.tell = (value) => setStateValue("changes", value);

  const { heard } = data;
  state.note.className = `note ${heard?.kind ?? ""}`;
  state.note.hidden = !heard;
  if (state.note.textContent !== (heard?.text ?? "")) state.note.textContent = heard?.text ?? "";

  const shape = JSON.stringify([data.rows.map(({ value, ...rest }) => rest), data.words]);
  if (shape !== state.shape) {
    state.shape = shape;
    state.list.setAttribute("aria-label", data.words.rows);
    state.rows = data.rows.map((row) => build(row, data, state));
    state.list.replaceChildren(...state.rows.map((row) => row.element));
    if (state.gone !== null) (state.rows[Math.min(state.gone, state.rows.length - 1)]?.gone ?? box())?.focus();
    state.gone = null;
  }
  state.outbox.answered(data.place, data.seen);
  for (const { row, value } of data.rows) {
    if (row !== state.dragged && !state.outbox.open(row)) state.rows[row].show(value);
  }
  return () => {
    if (state.gone !== null) box()?.focus(); // the last row is gone, and all this with it
  };
}

function setUp(root) {
  const note = element("p", { className: "note", hidden: true }), list = element("ul", {});
  note.setAttribute("role", "alert");
  root.replaceChildren(note, list);
  return { outbox: outbox(), note, list, rows: [], shape: "", gone: null, dragged: null, stroke: 0 };
}

function build(row, data, state) {
  const line = element("li", { className: "said" });
  const sentence = element("bdi", { className: "sentence", textContent: row.text, title: row.text });
  const gone = element("button", { type: "button", className: "gone", textContent: "✕" });
  const chips = element("div", { className: "chips" });
  for (const text of row.chips) chips.append(element("span", { className: "chip", textContent: text }));
  if (row.where) chips.append(element("span", { className: "chip where", textContent: row.where }));
  const input = element("input", { type: "range", min: 0, max: data.most, step: 0.05 });
  const value = element("output", {});
  input.dataset.said = row.row;
  input.setAttribute("aria-label", data.words.strength.replace("{}", row.text));
  gone.setAttribute("aria-label", data.words.gone.replace("{}", row.text));
  line.style.setProperty("--safe-from", "0%");
  line.style.setProperty("--safe-to", `${(100 * data.safe) / data.most}%`);
  line.style.setProperty("--zero", "0%");

  const show = (strength) => {
    input.value = strength;
    value.textContent = `×${Number(strength)}`;
    line.classList.toggle("off", Number(strength) === 0);
  };
  const put = (strength) => {
    show(strength);
    state.outbox.put(row.row, { text: row.text, value: strength, stroke: state.stroke });
  };
  const begin = () => (state.stroke = Date.now());
  let last = 0; // when a key was pressed
  input.onpointerdown = begin;
  input.onkeydown = () => {
    if (Date.now() - last > PAUSE) begin();
    last = Date.now();
  };
  input.oninput = () => {
    state.dragged = row.row;
    put(Number(input.value));
  };
  input.onchange = () => {
    state.dragged = null;
    put(Number(input.value));
  };
  input.onpointerup = input.onpointercancel = () => // back where it began: then there is no `change`
    setTimeout(() => state.dragged === row.row && input.onchange());
  input.ondblclick = () => put(1); // as much as was asked for
  gone.onclick = (event) => {
    state.gone = event.detail ? null : row.row; // by a key: the focus goes on from there
    state.outbox.put(row.row, { text: row.text, value: null, stroke: begin() });
  };
  line.append(sentence, gone, chips, input, value);
  return { element: line, gone, show };
}

function box() {
  return document.querySelector(".st-key-sentence input");
}

function element(kind, properties) {
  return Object.assign(document.createElement(kind), properties);
}
