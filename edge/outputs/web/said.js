// What a screen reader says: actions that start, and what fails or works again. Not each label: those
// change several times a second, and nobody could listen to anything else.
import {at} from "./dom.js";
const PAUSE_MS = 3000, SAID_MAX = 5;
let waiting = [], known = null;
export const say = text => { waiting.push(text); };
// Called with all events of each state of the run, and what each is called. The first ones are history.
export const follow_events = (events, text_of) => {
  const news = events.filter(e => known !== null && !known.has(e.id) && e.event !== "end");
  news.forEach(e => say(text_of(e)));
  known = new Set(events.map(e => e.id));
};
setInterval(() => {
  if (!waiting.length) return;
  const more = waiting.length - SAID_MAX;
  at("said").textContent = waiting.slice(0, SAID_MAX).join(", ") + (more > 0 ? `, and ${more} more` : "");
  waiting = [];
}, PAUSE_MS);
