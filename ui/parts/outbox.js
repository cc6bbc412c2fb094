// Changes on their way to the server, one message at a time: what is done before the answer is there goes in the next.
// Where nothing may wait (not patient), it goes at once, with all that has no answer yet.
// A message is {number, batches: [[place, {name: change}], ...]}; place says what the changes are about, as the page had
// it when they were made.  It is a state and no event of the component, so that no rerun of the page can lose it.

const ANSWERED_BY = 8000; // ms after which what has no answer is sent again, with what came since

function outbox(patient = true) {
  const box = { place: null, waiting: [], away: [], sent: 0, number: 0, timer: 0 };
  const left = () => (box.sent ? Math.max(0, box.sent + ANSWERED_BY - Date.now()) : 0); // ms that an answer may take yet
  const later = (after) => {
    clearTimeout(box.timer);
    box.timer = setTimeout(post, after);
  };
  const post = () => {
    if (!box.waiting.length && (!box.sent || left())) return;
    if (patient && left()) return later(left());
    box.away = box.sent ? [...box.away, ...box.waiting] : box.waiting;
    box.waiting = [];
    document.wplusBusy = box.sent = Date.now(); // the picture waits with what takes longer
    box.number = Math.max(box.number + 1, box.sent);
    box.tell({ number: box.number, batches: box.away.map(({ place, changes }) => [place, changes]) });
    later(ANSWERED_BY);
  };
  const here = (batch) => batch.key === JSON.stringify(box.place);
  box.put = (name, change, after = 0) => {
    let last = box.waiting.at(-1);
    if (!last || !here(last)) {
      last = { place: box.place, key: JSON.stringify(box.place), changes: {} };
      box.waiting.push(last);
    }
    last.changes[name] = change;
    later(after);
  };
  box.open = (name) => // the page knows better than the server
    [...box.waiting, ...(left() ? box.away : [])].some((batch) => here(batch) && name in batch.changes);
  box.busy = () => left() > 0;
  box.answered = (place, number) => {
    box.place = place;
    if (number === box.number) box.sent = 0;
    if (!box.sent) post();
  };
  return box;
}
