// Boxes around the parts of a face: dragged to move one, by a corner to scale it, or with the arrow keys.

const STEP = 0.005, LEAP = 0.02, GROW = 1.04; // what a key does: of the crop's side, and to a box's size
const SMALLEST = 0.2, LARGEST = 4; // of a box's first size
const AFTER = 500; // ms after a key before it is sent
const CORNERS = [[0, 0], [1, 0], [0, 1], [1, 1]];

function setUpBoxes(root, state) {
  const holder = root.querySelector(".boxes"), all = root.querySelector(".home");
  const tool = { outbox: outbox(), elements: new Map(), boxes: {}, active: null };

  tool.take = (data) => {
    tool.outbox.tell = (value) => {
      root.classList.add("rough");
      state.keep("boxes", value);
    };
    tool.outbox.answered(state.data.place, data.seen);
    const names = data.parts.map((part) => part.name).join();
    if (names !== holder.dataset.names) {
      holder.dataset.names = names;
      tool.elements.clear();
      holder.replaceChildren(...data.parts.map((part) => element(part)));
    }
    for (const part of data.parts) {
      const own = tool.active === part.name || tool.outbox.open(part.name);
      if (!own) tool.boxes[part.name] = [...part.box];
      place(part.name);
    }
    all.disabled = !data.parts.some((part) => away(part));
  };
  const of = (name) => state.data.boxes.parts.find((part) => part.name === name);
  const away = (part) => part.box.some((value, at) => Math.abs(value - part.home[at]) > 1e-4);

  const place = (name) => {
    const each = tool.elements.get(name), part = of(name), [x, y, width, height] = tool.boxes[name];
    const percent = (value) => `${(100 * value).toFixed(3)}%`;
    Object.assign(each.style, { left: percent(x), top: percent(y), width: percent(width), height: percent(height) });
    each.classList.toggle("inside", y < 0.05);
    const [right, down, size] = moveOf(part.home, tool.boxes[name]);
    const words = state.data.words.place.replace("{right}", right.toFixed(1)).replace("{down}", down.toFixed(1));
    each.setAttribute("aria-label", `${part.label}: ${words.replace("{size}", size.toFixed(0))}`);
    each.classList.toggle("away", right !== 0 || down !== 0 || size !== 100);
  };

  const put = (name, box, after) => {
    const [, , width, height] = box;
    tool.boxes[name] = [Math.min(0.98, Math.max(0.02 - width, box[0])), Math.min(0.98, Math.max(0.02 - height, box[1])), width, height];
    place(name);
    if (after !== undefined) tool.outbox.put(name, tool.boxes[name], after);
  };
  const scaled = (name, from, factor, [ax, ay]) => {
    const home = of(name).home, now = from[2] / home[2];
    const by = Math.min(LARGEST / now, Math.max(SMALLEST / now, factor, 0.006 / from[2], 0.006 / from[3]));
    return [from[0] + ax * from[2] * (1 - by), from[1] + ay * from[3] * (1 - by), from[2] * by, from[3] * by];
  };
  const home = (name) => {
    tool.boxes[name] = [...of(name).home];
    place(name);
    tool.outbox.put(name, null);
  };

  function element(part) {
    const each = Object.assign(document.createElement("div"), { className: `box${part.thin ? " thin" : ""}`, tabIndex: 0 });
    each.dataset.part = part.name;
    each.style.setProperty("--shade", `rgb(${part.colour.join()})`);
    each.style.zIndex = Math.round(1000 * (1 - Math.min(1, part.home[2] * part.home[3]))); // small ones above large ones
    each.setAttribute("role", "button");
    each.setAttribute("aria-describedby", "boxes-keys");
    const tag = Object.assign(document.createElement("span"), { className: "tag", textContent: part.label });
    const edges = ["top", "right", "bottom", "left"].map((side) =>
      Object.assign(document.createElement("span"), { className: `edge ${side}` }));
    const corners = CORNERS.map(([x, y]) => {
      const corner = Object.assign(document.createElement("span"), { className: `corner x${x} y${y}` });
      corner.onpointerdown = (event) => grab(event, part.name, [x, y]);
      return corner;
    });
    each.append(tag, ...edges, ...corners);
    each.onpointerdown = (event) => grab(event, part.name, null);
    each.ondblclick = () => home(part.name);
    each.onkeydown = (event) => {
      const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const box = tool.boxes[part.name], step = event.shiftKey ? LEAP : STEP;
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (arrow) put(part.name, [box[0] + step * arrow[0], box[1] + step * arrow[1], box[2], box[3]], AFTER);
      else if (event.key === "+" || event.key === "=") put(part.name, scaled(part.name, box, GROW, [0.5, 0.5]), AFTER);
      else if (event.key === "-") put(part.name, scaled(part.name, box, 1 / GROW, [0.5, 0.5]), AFTER);
      else if (event.key === "Delete" || event.key === "Backspace") home(part.name);
      else return;
      state.busy();
      event.preventDefault();
    };
    tool.elements.set(part.name, each);
    return each;
  }

  function grab(event, name, corner) {
    if (!event.isPrimary || event.button || tool.active) return;
    event.preventDefault();
    event.stopPropagation();
    const each = tool.elements.get(name), frame = holder.getBoundingClientRect();
    const from = [...tool.boxes[name]], start = [event.clientX, event.clientY];
    each.focus({ preventScroll: true });
    each.setPointerCapture(event.pointerId);
    state.busy();
    tool.active = name;
    let moved = false;
    each.onpointermove = (now) => {
      const dx = (now.clientX - start[0]) / frame.width, dy = (now.clientY - start[1]) / frame.height;
      if (!moved && Math.hypot(dx * frame.width, dy * frame.height) < 3) return;
      if (!moved) lift(each, from);
      moved = true;
      if (!corner) return put(name, [from[0] + dx, from[1] + dy, from[2], from[3]]);
      const wide = (corner[0] ? dx : -dx) * frame.width, high = (corner[1] ? dy : -dy) * frame.height;
      const across = [from[2] * frame.width, from[3] * frame.height];
      const factor = 1 + (wide * across[0] + high * across[1]) / (across[0] ** 2 + across[1] ** 2); // along the diagonal
      put(name, scaled(name, from, factor, [1 - corner[0], 1 - corner[1]]));
    };
    const end = (sends) => () => {
      each.onpointermove = each.onpointerup = each.onpointercancel = null;
      tool.active = null;
      each.style.backgroundImage = "";
      if (moved && sends) put(name, tool.boxes[name], 0);
      else {
        put(name, from);
        state.rest();
      }
    };
    each.onpointerup = end(true);
    each.onpointercancel = end(false);
  }

  function lift(each, [x, y, width, height]) { // the part goes along with its box until the picture of it is there
    const along = (start, size) => (Math.abs(1 - size) < 1e-3 ? 0 : (100 * start) / (1 - size));
    Object.assign(each.style, { backgroundImage: `url(${state.data.ground || state.data.now})`,
      backgroundSize: `${100 / width}% ${100 / height}%`,
      backgroundPosition: `${along(x, width)}% ${along(y, height)}%` });
  }

  all.onclick = () => state.data.boxes.parts.filter(away).forEach((part) => home(part.name));
  return tool;
}

function moveOf(home, box) {
  // a box as a move of its middle, right and down, and a size: all in percent
  const middle = (at) => 100 * (box[at] + box[at + 2] / 2 - home[at] - home[at + 2] / 2);
  return [middle(0), middle(1), (100 * box[2]) / home[2]].map((value) => Math.round(10 * value) / 10 + 0);
}
