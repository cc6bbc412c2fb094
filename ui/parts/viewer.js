// The picture: after, a wipe between before and after, the difference, or before while a button is held.
// On it a mask can be painted, or points set to be dragged; labels.js and boxes.js are two tools more.  Nothing here
// asks the server for anything but through an outbox: what is done here arrives once, whatever the page does meanwhile.

const CALM = 600, AGAIN = 15000; // ms without news after which the real picture is asked for, and asked for again
const BRUSH = 256; // side of a painted mask
const TOUCHED = new Set(["range", "radio", "checkbox"]); // inputs that take no letters
const TOOLS = { labels: setUpLabels, boxes: setUpBoxes };

export default function ({ data, parentElement, setTriggerValue, setStateValue }) {
  const root = parentElement.querySelector(".viewer");
  const state = (root.state ??= setUp(root, data));
  Object.assign(state, { data, tell: setTriggerValue, keep: setStateValue });
  state.acts.tell = (value) => setStateValue("acts", value);
  state.acts.answered(data.place, data.acted);

  if (state.now.src !== data.now) state.now.src = data.now;
  if (state.before.src !== data.before) state.before.src = data.before;
  state.now.alt = data.words.after;
  state.before.alt = data.words.before;
  root.classList.toggle("rough", !data.final);
  for (const each of root.querySelectorAll("[data-word]")) {
    const word = data.words[each.dataset.word];
    if (each.textContent !== word) each.textContent = word;
  }
  root.querySelector(".wipe").setAttribute("aria-label", data.words.wipe);
  root.querySelector(".size").setAttribute("aria-label", data.words.brush);
  const painting = data.tool === "brush", pointing = data.tool === "points";
  root.classList.toggle("painting", painting);
  root.classList.toggle("pointing", pointing);
  root.querySelector(".brush").hidden = !painting;
  root.querySelector(".points").hidden = !pointing;
  const settle = () => {
    const busy = document.wplusBusy; // then what makes it busy comes first
    if (!busy) state.tell("settled", data.stamp);
    state.timer = setTimeout(settle, busy ? CALM : AGAIN);
  };
  state.busy = () => clearTimeout(state.timer);
  state.rest = () => {
    clearTimeout(state.timer);
    if (!data.final) state.timer = setTimeout(settle, CALM);
  };
  const over = data.tool in TOOLS;
  root.classList.toggle("labelling", data.tool === "labels");
  root.classList.toggle("boxing", data.tool === "boxes");
  root.querySelector(".labels").hidden = data.tool !== "labels";
  root.querySelector(".parts").hidden = data.tool !== "boxes";
  root.querySelector(".overs").hidden = !over;
  const ground = root.querySelector(".ground");
  ground.hidden = !data.ground;
  if (data.ground && ground.src !== data.ground) ground.src = data.ground;
  if (over && !state.tools[data.tool]) {
    state.tools[data.tool] = TOOLS[data.tool](root, state);
    state.mode = "over";
  }
  state.tools[data.tool]?.take(data[data.tool]);
  const place = JSON.stringify(data.place), other = place !== state.place;
  if (other || data.clear !== state.clear) { // another face, or what was dragged is there
    state.pairs = other ? [] : state.pairs.filter((pair) => !state.dragged.includes(pair));
    Object.assign(state, { place, clear: data.clear, dragged: [] });
    if (other) wipeMask(state);
  }
  root.querySelector(".drag").disabled = Boolean(data.busy);
  drawPoints(state);
  drawHistory(root.querySelector(".history"), data, state.act);
  state.show();

  if (!state.acts.busy() && !state.tools.boxes?.outbox.busy()) document.wplusBusy = 0;
  state.rest();

  const keys = (event) => {
    const inField = event.composedPath().some((each) => /^(input|textarea)$/i.test(each.tagName ?? "") && !TOUCHED.has(each.type));
    const tool = state.tools[state.data.tool];
    if (inField) return;
    if (!(event.ctrlKey || event.metaKey)) return tool?.key?.(event);
    if (event.key.toLowerCase() !== "z") return;
    event.preventDefault();
    if (!event.shiftKey && tool?.back?.()) return; // a stroke that was not applied yet
    state.act(event.shiftKey ? "redo" : "undo"); // each of them, however fast
  };
  document.removeEventListener("keydown", document.wplusKeys);
  document.wplusKeys = keys;
  document.addEventListener("keydown", keys);
  return () => {
    clearTimeout(state.timer);
    document.removeEventListener("keydown", keys);
  };
}

function setUp(root) {
  const find = (name) => root.querySelector(name);
  const state = { now: find(".now"), before: find(".before"), marks: find(".marks"), mode: "after", wipe: 50, held: false,
    pairs: [], dragged: [], place: null, clear: null, timer: 0, tools: {}, acts: outbox(false), done: Date.now() };
  const difference = find(".difference");
  state.act = (what, value = null) => state.acts.put(`${state.done++}`, [what, value]);

  state.show = () => {
    const mode = state.held ? "before" : state.mode;
    root.dataset.mode = mode;
    root.style.setProperty("--wipe", `${state.wipe}%`);
    for (const button of root.querySelectorAll("[data-mode]")) {
      button.setAttribute("aria-pressed", button.dataset.mode === state.mode);
    }
    if (mode === "difference") {
      const pen = difference.getContext("2d");
      pen.globalCompositeOperation = "source-over";
      pen.drawImage(state.before, 0, 0, difference.width, difference.height);
      pen.globalCompositeOperation = "difference";
      pen.drawImage(state.now, 0, 0, difference.width, difference.height);
    }
  };
  state.now.onload = state.before.onload = state.show;
  for (const button of root.querySelectorAll("[data-mode]")) {
    button.onclick = () => {
      state.mode = button.dataset.mode;
      state.show();
    };
  }
  const hold = find(".hold");
  const held = (value) => () => {
    state.held = value;
    state.show();
  };
  hold.onpointerdown = held(true);
  hold.onpointerup = hold.onpointerleave = hold.onblur = held(false);
  hold.onkeydown = (event) => (event.key === " " || event.key === "Enter") && held(true)();
  hold.onkeyup = held(false);

  const wipe = find(".wipe");
  wipe.oninput = () => {
    state.wipe = wipe.value;
    state.show();
  };

  state.mask = document.createElement("canvas");
  state.mask.width = state.mask.height = BRUSH;
  const place = (event) => {
    const box = state.marks.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  let last = null;
  state.marks.onpointerdown = (event) => {
    if (state.data.tool === "brush") {
      last = place(event);
      state.marks.setPointerCapture(event.pointerId);
      paint(state, last, last, find(".size").value, find(".erase").checked);
    } else if (state.data.tool === "points") {
      const at = place(event), open = state.pairs.at(-1);
      if (open && open.length === 2) open.push(...at);
      else state.pairs.push(at);
      drawPoints(state);
    }
  };
  state.marks.onpointermove = (event) => {
    if (!last) return;
    const at = place(event);
    paint(state, last, at, find(".size").value, find(".erase").checked);
    last = at;
  };
  state.marks.onpointerup = () => (last = null);
  find(".use").onclick = () => state.act("mask", state.mask.toDataURL("image/png"));
  find(".brush .clear").onclick = () => {
    wipeMask(state);
    state.act("mask");
  };
  find(".back").onclick = () => {
    state.pairs.pop();
    drawPoints(state);
  };
  find(".drag").onclick = (event) => {
    state.dragged = state.pairs.filter((pair) => pair.length === 4);
    if (!state.dragged.length) return;
    event.target.disabled = true; // until the page says that nothing is dragged
    state.act("points", state.dragged);
  };
  return state;
}

function paint(state, from, to, size, erase) {
  const pen = state.mask.getContext("2d");
  pen.globalCompositeOperation = erase ? "destination-out" : "source-over";
  pen.strokeStyle = "white";
  pen.lineCap = "round";
  pen.lineWidth = Number(size);
  pen.beginPath();
  pen.moveTo(from[0] * BRUSH, from[1] * BRUSH);
  pen.lineTo(to[0] * BRUSH, to[1] * BRUSH + 0.01);
  pen.stroke();
  const marks = state.marks.getContext("2d");
  marks.clearRect(0, 0, state.marks.width, state.marks.height);
  marks.drawImage(state.mask, 0, 0, state.marks.width, state.marks.height);
}

function wipeMask(state) {
  state.mask.getContext("2d").clearRect(0, 0, BRUSH, BRUSH);
  state.marks.getContext("2d").clearRect(0, 0, state.marks.width, state.marks.height);
}

function drawPoints(state) {
  if (state.data?.tool !== "points") return;
  const pen = state.marks.getContext("2d"), side = state.marks.width;
  pen.clearRect(0, 0, side, side);
  for (const pair of state.pairs) {
    const [x, y, tx, ty] = pair.map((each) => each * side);
    if (pair.length === 4) {
      pen.strokeStyle = "white";
      pen.lineWidth = 3;
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(tx, ty);
      pen.stroke();
      dot(pen, tx, ty, "#2f6fed");
    }
    dot(pen, x, y, "#e5484d");
  }
}

function drawHistory(bar, data, act) {
  const shape = JSON.stringify([data.line, data.at, data.words.step]);
  if (bar.shape === shape) return;
  bar.shape = shape;
  bar.hidden = data.line.length < 2;
  const focused = [...bar.children].indexOf(bar.getRootNode().activeElement);
  bar.replaceChildren(...data.line.map(([index, picture]) => {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const name = data.words.step.replace("{}", index);
    button.setAttribute("aria-label", name);
    button.setAttribute("aria-pressed", index === data.at);
    button.title = name;
    if (picture) button.append(Object.assign(document.createElement("img"), { src: picture, alt: "" }));
    else button.textContent = index;
    button.onclick = () => act("went", index);
    return button;
  }));
  if (focused >= 0) bar.children[Math.min(focused, bar.children.length - 1)]?.focus({ preventScroll: true });
}

function dot(pen, x, y, colour) {
  pen.fillStyle = colour;
  pen.strokeStyle = "white";
  pen.lineWidth = 2;
  pen.beginPath();
  pen.arc(x, y, 7, 0, 2 * Math.PI);
  pen.fill();
  pen.stroke();
}
