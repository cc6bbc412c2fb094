// The whole photo with a numbered frame on every face that was found; a click chooses one.

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".faces");
  root.querySelector("img").src = data.photo;
  root.querySelector("img").alt = data.words.photo;
  const buttons = [...root.querySelectorAll("button")]; // kept, so that the focus stays where it is
  buttons.slice(data.boxes.length).forEach((each) => each.remove());
  data.boxes.forEach(([left, top, width, height], index) => {
    const button = buttons[index] ?? Object.assign(document.createElement("button"), { type: "button" });
    button.textContent = `${index + 1}`;
    Object.assign(button.style, { left: `${left * 100}%`, top: `${top * 100}%`, width: `${width * 100}%`,
      height: `${height * 100}%` });
    button.setAttribute("aria-label", data.words.face.replace("{}", index + 1));
    button.setAttribute("aria-pressed", index === data.chosen);
    button.onclick = () => setTriggerValue("pick", index);
    if (!button.isConnected) root.append(button);
  });
}
