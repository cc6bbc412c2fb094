// The panel of edits: groups of sliders with the safe range marked, a search box, double click for 0.
// It sends one change at a time and waits until the picture of it is there before it sends the next.

const PATIENCE = 4000; // ms after which an answer is not waited for any longer

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".sliders");
  const state = (root.state ??= { sent: 0, seen: -1, waiting: null, dragged: null, rows: new Map(), shape: "" });
  state.send = (change) => {
    document.wplusBusy = state.sent = Date.now(); // the picture waits with what takes longer
    state.number = (state.number ?? 0) + 1;
    setTriggerValue("change", { ...change, number: state.number });
  };

  const shape = JSON.stringify([data.groups, data.words]);
  if (shape !== state.shape) {
    build(root, state, data);
    state.shape = shape;
  }
  for (const [name, row] of state.rows) {
    if (name !== state.dragged) row.show(data.values[name] ?? 0);
    row.element.classList.toggle("elsewhere", data.elsewhere.includes(name));
  }
  if (data.seen !== state.seen || Date.now() - state.sent > PATIENCE) {
    state.seen = data.seen;
    state.sent = 0;
    if (state.waiting) {
      const next = state.waiting;
      state.waiting = null;
      state.send(next);
    }
  }
}

function build(root, state, data) {
  const open = new Set([...root.querySelectorAll("details[open]")].map((each) => each.dataset.group));
  const first = !state.shape;
  root.replaceChildren();
  state.rows.clear();

  const search = element("input", { type: "search", placeholder: data.words.search, className: "search" });
  search.setAttribute("aria-label", data.words.search);
  const nothing = element("p", { className: "nothing", textContent: data.words.nothing, hidden: true });
  root.append(search, nothing);

  data.groups.forEach((group, index) => {
    const details = element("details", { open: first ? index === 0 : open.has(group.id) });
    details.dataset.group = group.id;
    details.append(element("summary", { textContent: group.label }));
    for (const edit of group.edits) {
      const row = slider(edit, data.words, {
        live: (value) => {
          state.dragged = edit.name;
          offer(state, { name: edit.name, value, final: false });
        },
        done: (value) => {
          state.dragged = null;
          offer(state, { name: edit.name, value, final: true });
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
}

function offer(state, change) {
  if (state.sent && Date.now() - state.sent < PATIENCE) state.waiting = change;
  else state.send(change);
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

  const show = (number) => {
    input.value = number;
    value.textContent = number ? (number > 0 ? "+" : "−") + Math.abs(number) : "0";
    const beyond = number < edit.safe[0] || number > edit.safe[1];
    row.classList.toggle("beyond", beyond);
    row.classList.toggle("set", number !== 0);
    input.setAttribute("aria-valuetext", beyond ? `${number}, ${words.beyond}` : `${number}`);
  };
  let pulled = false; // by a pointer, not by keys
  input.onpointerdown = () => (pulled = true);
  input.onpointerup = () => (pulled = false);
  input.oninput = () => {
    let number = Number(input.value);
    if (pulled && Math.abs(number) < edit.step * 1.5) number = 0; // easy to bring back to nothing
    show(number);
    heard.live(number);
  };
  input.onchange = () => heard.done(Number(input.value));
  const reset = () => {
    show(0);
    heard.done(0);
  };
  input.ondblclick = name.ondblclick = reset;
  input.onkeydown = (event) => {
    if (event.key === "Delete" || event.key === "Backspace") reset();
  };
  row.append(name, value, input);
  return { element: row, show };
}

function element(kind, properties) {
  return Object.assign(document.createElement(kind), properties);
}
