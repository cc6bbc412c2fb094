// Changes on their way to the server, one message at a time: what is done before the answer is there goes in the next.

const ANSWERED_BY = 8000; // ms after which an answer is not waited for any longer

function outbox() {
  const box = { waiting: {}, sent: 0, number: 0, timer: 0 };
  const post = () => {
    if (!Object.keys(box.waiting).length || (box.sent && Date.now() - box.sent < ANSWERED_BY)) return;
    const changes = box.waiting;
    box.waiting = {};
    box.number = document.wplusBusy = box.sent = Date.now(); // the picture waits with what takes longer
    box.tell({ changes, number: box.number });
  };
  box.put = (name, change, after = 0) => {
    box.waiting[name] = change;
    clearTimeout(box.timer);
    box.timer = setTimeout(post, after);
  };
  box.answered = (number) => {
    if (String(number) === String(box.number)) box.sent = 0;
    if (!box.sent) post();
  };
  return box;
}
