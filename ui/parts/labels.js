// Labels painted into the map of a face's parts.  What is painted stays here until it is applied.

const SIDE = 128, NOTHING = 255; // of a map, and where nothing is painted
const STROKES = 40; // that can be taken back
const OWN = 105, PAINTED = 200; // how opaque the face's own parts are, and what is painted on them
const LEAST = 2, MOST = 40; // the brush, in cells of the map

function setUpLabels(root, state) {
  const find = (name) => root.querySelector(name);
  const canvas = find(".map"), ring = find(".ring"), apply = find(".apply"), unstroke = find(".unstroke");
  const tool = { own: null, painted: null, applied: null, from: null, known: null, sent: null, strokes: [], last: null };
  const brush = (document.wplusBrush ??= { label: NOTHING, size: 10 }); // the palette is a component of its own
  canvas.width = canvas.height = SIDE;

  tool.take = (data) => {
    const other = data.own !== tool.from; // another face, or a part of it was moved: strokes on it mean nothing here
    if (other || data.painted !== tool.known) {
      tool.own = decoded(data.own);
      tool.applied = decoded(data.painted);
      if (other || (data.painted !== tool.sent && !state.acts.busy())) {
        tool.painted = tool.applied.slice();
        tool.strokes = [];
      }
      Object.assign(tool, { from: data.own, known: data.painted });
    }
    if (!state.acts.busy()) tool.sent = null; // what was sent has its answer
    canvas.setAttribute("aria-label", state.data.words.map);
    draw();
  };

  const draw = () => {
    const pen = canvas.getContext("2d"), picture = pen.createImageData(SIDE, SIDE);
    for (let at = 0; at < SIDE * SIDE; at++) {
      const mine = tool.painted[at] !== NOTHING;
      const [red, green, blue] = state.data.labels.palette[mine ? tool.painted[at] : tool.own[at]];
      picture.data.set([red, green, blue, mine ? PAINTED : OWN], 4 * at);
    }
    pen.putImageData(picture, 0, 0);
    const fresh = tool.painted.some((label, at) => label !== tool.applied[at]);
    const away = state.acts.busy();
    apply.disabled = !fresh || away;
    apply.textContent = state.data.words[away ? "applying" : "apply"];
    unstroke.disabled = !tool.strokes.length;
    find(".labels .clear").disabled = !tool.painted.some((label) => label !== NOTHING);
  };

  const cells = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  const paint = ([x, y], [tx, ty]) => {
    const radius = Math.max(brush.size / 2, 0.75), dx = tx - x, dy = ty - y, length = dx * dx + dy * dy;
    const rows = [Math.max(0, Math.floor(Math.min(y, ty) - radius)), Math.min(SIDE - 1, Math.ceil(Math.max(y, ty) + radius))];
    const columns = [Math.max(0, Math.floor(Math.min(x, tx) - radius)), Math.min(SIDE - 1, Math.ceil(Math.max(x, tx) + radius))];
    for (let row = rows[0]; row <= rows[1]; row++) {
      for (let column = columns[0]; column <= columns[1]; column++) {
        const px = column + 0.5 - x, py = row + 0.5 - y;
        const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        if (Math.hypot(px - along * dx, py - along * dy) <= radius) tool.painted[row * SIDE + column] = brush.label;
      }
    }
    draw();
  };
  const follow = (event) => {
    const box = canvas.getBoundingClientRect(), size = (brush.size / SIDE) * box.width;
    ring.hidden = event.pointerType === "touch" && tool.last === null;
    Object.assign(ring.style, { width: `${size}px`, height: `${size}px`, left: `${event.clientX - box.left - size / 2}px`,
      top: `${event.clientY - box.top - size / 2}px` });
  };
  canvas.onpointerdown = (event) => {
    if (!event.isPrimary || event.button) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    state.busy();
    state.mode = "over";
    state.show();
    tool.strokes = [...tool.strokes, tool.painted.slice()].slice(-STROKES);
    tool.last = cells(event);
    follow(event);
    paint(tool.last, tool.last);
  };
  canvas.onpointermove = (event) => {
    follow(event);
    if (tool.last === null || !event.isPrimary) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const each of passed.length ? passed : [event]) {
      const at = cells(each);
      paint(tool.last, at);
      tool.last = at;
    }
  };
  canvas.onpointerup = canvas.onpointercancel = (event) => {
    if (tool.last !== null) state.rest();
    tool.last = null;
    if (event.pointerType === "touch") ring.hidden = true;
  };
  canvas.onpointerleave = () => (ring.hidden = true);

  tool.back = () => {
    if (!tool.strokes.length) return false;
    tool.painted = tool.strokes.pop();
    draw();
    return true;
  };
  tool.key = (event) => {
    if (event.key !== "[" && event.key !== "]") return;
    brush.size = Math.min(MOST, Math.max(LEAST, brush.size + (event.key === "]" ? 2 : -2)));
    document.dispatchEvent(new Event("wplus-brush"));
  };
  const send = () => {
    tool.sent = encoded(tool.painted);
    state.busy();
    state.mode = "after";
    state.show();
    root.classList.add("rough");
    state.act("labels", tool.sent);
    setTimeout(draw); // once it is on its way
  };
  unstroke.onclick = tool.back;
  apply.onclick = send;
  find(".labels .clear").onclick = () => {
    tool.painted.fill(NOTHING);
    tool.strokes = [];
    if (tool.applied.some((label) => label !== NOTHING)) send();
    else draw();
  };
  return tool;
}

function decoded(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function encoded(labels) {
  return btoa(String.fromCharCode(...labels));
}
