// Recorded events, the newest first, also those of earlier runs: pictures that open what event.js shows.
import {at, make, place} from "./dom.js";
const known = new Map();  // entries by id
const cards = new Map();  // their rows by id
let asked = 0;  // how often; only the last answer counts
// Ids begin with the time in milliseconds, 12 hexadecimal digits with a - after the eighth.
const id_at = ms => ms.toString(16).padStart(12, "0").replace(/^.{8}/, "$&-");
const end_of_day = text => {  // of the date input, in the browser's own time zone
  const [year, month, day] = text.split("-").map(Number);
  return new Date(year, month - 1, day + 1).getTime();
};
const card = entry => {
  if (cards.has(entry.id)) return cards.get(entry.id);
  const row = make("li"), link = make("a"), picture = make("img"), clock = new Date(entry.clock);
  link.href = "#event=" + entry.id;
  picture.loading = "lazy";
  picture.alt = "";
  picture.src = `event/${entry.id}/picture.jpg`;
  const time = make("time", clock.toLocaleString());
  time.dateTime = entry.clock;
  link.append(picture, make("b", entry.label), make("span", `${entry.source}, ${Math.round(100 * entry.score)} %`), time);
  row.append(link);
  cards.set(entry.id, row);
  return row;
};
const show = more => {
  const newest = [...known.values()].sort((a, b) => a.id < b.id ? 1 : -1);
  place(at("recorded-list"), newest.map(card));
  at("no-recorded").hidden = newest.length > 0;
  if (more !== undefined) at("older").hidden = !more;
};
// Asks for events before an id; of the newest, "older" stays as it was unless nothing was listed yet.
const ask = async before => {
  const mine = ++asked;
  try {
    const answer = await fetch(`events.json?before=${before}`);
    if (!answer.ok) throw new Error(answer.status);
    const {events, more, unreadable} = await answer.json();
    if (mine !== asked) return;
    const more_news = before === "" && known.size > 0;
    for (const entry of events) known.set(entry.id, entry);
    show(more_news ? undefined : more);
    at("recorded-says").textContent = unreadable ? `${unreadable} could not be read` : "";
  } catch (error) {
    at("recorded-says").textContent = "the list could not be loaded";
  }
};
const oldest = () => [...known.keys()].sort()[0] || "";
const from_start = () => {
  known.clear();
  cards.clear();
  ask(at("until").value ? id_at(end_of_day(at("until").value)) : "");
};
at("older").onclick = () => ask(oldest());
at("until").onchange = from_start;
let seen = "";  // the newest recorded event that the run has told
// Called with each state of the run.
export const follow_recorded = all => {
  const first = at("recorded").hidden;
  at("recorded").hidden = !all.records_events;
  if (!all.records_events) return;
  const newest = all.events.filter(e => e.recorded).map(e => e.id).sort().pop() || "";
  if (first) from_start();
  else if (newest > seen && !at("until").value) ask("");
  seen = newest;
};
