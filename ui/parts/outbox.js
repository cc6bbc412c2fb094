// Changes on their way to the server, one message at a time: what is done before the answer is there goes in the next.

const ANSWERED_BY = 8000; // ms after which an answer is not waited for any longer

function outbox() {
  const box = { waiting: {}, away: {}, sent: 0, number: 0, timer: 0 };
  const left = () => (box.sent ? Math.max(0, box.sent + ANSWERED_BY - Date.now()) : 0); // ms that an answer may take yet
  const later = (after) => {
    clearTimeout(box.timer);
    box.timer = setTimeout(post, after);
  };
  const post = () => {
    if (!Object.keys(box.waiting).length) return;
    if (left()) return later(left());
    box.away = box.waiting;
    box.waiting = {};
    box.number = document.wplusBusy = box.sent = Date.now(); // the picture waits with what takes longer
    box.tell({ changes: box.away, number: box.number });
  };
  box.put = (name, change, after = 0) => {
    box.waiting[name] = change;
    later(after);
  };
  box.open = (name) => name in box.waiting || (left() > 0 && name in box.away); // the page knows better than the server
  box.answered = (number) => {
    if (String(number) === String(box.number)) box.sent = 0;
    if (!box.sent) post();
  };
  return box;
}
