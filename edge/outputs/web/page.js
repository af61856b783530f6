import {COLOURS, at, draw, make, place, set} from "./dom.js";
import "./event.js";
import {follow_recorded} from "./events.js";
import {show_live} from "./live.js";
import {follow_events, say} from "./said.js";
import {follow_view} from "./view.js";
// The token is a cookie by now: it need not stay in the address bar and the history.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
const bars = (rows, stream) => rows.map(([name, score]) => {
  const bar = make("div", undefined, "bar"), track = make("div", undefined, "track");
  const fill = make("div", undefined, "fill");
  fill.style.width = 100 * score + "%";
  fill.style.background = `var(--stream${stream % COLOURS})`;
  track.append(fill);
  bar.append(make("span", name), track, make("span", Math.round(100 * score) + " %", "n"));
  return bar;
});
const streams = all => at("streams").replaceChildren(...Object.entries(all).flatMap(
  ([name, rows], stream) => [make("h2", name), ...bars(rows, stream)]));
const hue = name => [...name].reduce((sum, c) => (31 * sum + c.charCodeAt(0)) % 360, 7);
let chosen = null;
const choose = name => {
  chosen = name;
  show_live(name);
};
const still = name => `still.jpg?source=${encodeURIComponent(name)}&t=${Date.now()}`;
const cameras = sources => {
  const box = at("sources");
  if (sources.length < 2) return box.replaceChildren();
  const known = new Map([...box.children].map(one => [one.dataset.name, one]));
  place(box, sources.map(s => {
    let one = known.get(s.name);
    if (!one) {
      one = make("button");
      one.dataset.name = s.name;
      one.append(make("img"), make("span", s.name), make("span"));
      one.firstChild.alt = "";  // the name is beside it
      one.onclick = () => { choose(s.name); poll_once(); };
    }
    one.setAttribute("aria-pressed", s.name === chosen);
    one.lastChild.textContent = s.source_state.state === "running" ? s.label || s.state : s.source_state.state;
    one.lastChild.className = s.source_state.state === "running" ? "" : "lost";
    if (s.state !== "starting" && Date.now() - (one.dataset.at || 0) > 1000) {
      one.dataset.at = Date.now();
      one.firstChild.src = still(s.name);
    }
    return one;
  }));
};
const LETTER_PX = 7.5;  // of the timeline's names, about
const strip = (events, now) => {
  const svg = at("strip"), shown = 120, spans = [];
  let open = null;
  for (const e of events) {
    if (e.event === "start") open = e;
    if (e.event === "end" && open) { spans.push([open, open.clock, e.clock]); open = null; }
  }
  if (open) spans.push([open, open.clock, now]);
  svg.replaceChildren();
  const add = (...what) => draw(svg, ...what);
  add("rect", {x: 0, y: "40%", width: "100%", height: 2, fill: "var(--line)"});
  let free = 1;  // left of there a name has room
  for (const [{id, label: name, recorded}, from, to] of spans.reverse()) {
    const left = Math.max(0, 1 - (now - from) / shown), right = Math.max(0, 1 - (now - to) / shown);
    if (right <= 0) continue;
    const colour = `hsl(${hue(name)} 60% 50%)`;
    const span = add("rect", {x: 100 * left + "%", y: "25%", width: Math.max(.4, 100 * (right - left)) + "%",
      height: "36%", rx: 3, fill: colour, class: recorded ? "recorded" : ""});
    if (recorded) span.onclick = () => { location.hash = "event=" + id; };  // by key: from the list below
    const wide = LETTER_PX * name.length / svg.clientWidth, late = left + wide > 1;
    if ((late ? right : left + wide) > free) continue;
    free = late ? right - wide : left;
    add("text", {x: 100 * (late ? right : left) + "%", y: "95%", fill: "currentColor",
      "font-size": 11, "text-anchor": late ? "end" : "start"}, name);
  }
};
const names = {labelled: "labels", received: "frames", standby: "without motion",
  losses: "camera lost", lost_video: "not recorded", lost_json: "lines not written",
  lost_webhook: "not posted", lost_mqtt: "not published", lost_events: "events not recorded"};
const rows = new Map();  // of the list, by what they show
const event_text = (e, several) => {
  if (e.output) return `${e.output}: ${e.reason || "works again"}`;
  const text = e.event ? `${e.label} ${e.event === "start" ? "starts" : "ends"}`
    : `source ${e.source_state}${e.reason ? ": " + e.reason : ""}`;
  return several ? `${e.source}: ${text}` : text;
};
const event_row = (e, several) => {
  const key = `${e.id} ${e.recorded} ${several}`;
  if (rows.has(key)) return rows.get(key);
  const row = make("li"), what = make(e.recorded ? "button" : "span", event_text(e, several));
  if (e.recorded) {
    what.title = "show the clip, the picture and the scores";
    what.onclick = () => { location.hash = "event=" + e.id; };
  }
  row.append(make("time", new Date(1000 * e.clock).toLocaleTimeString()), what);
  if (rows.size > 500) rows.clear();
  rows.set(key, row);
  return row;
};
const show = all => {
  const several = all.sources.length > 1;
  follow_events(all.events, e => event_text(e, several));
  at("outputs").replaceChildren(...all.outputs.filter(o => o.output_state !== "working").map(
    o => make("p", `${o.output}: ${o.reason}`, "lost")));
  const s = all.sources.find(one => one.name === chosen) || all.sources[0];
  if (s && s.name !== chosen) choose(s.name);
  cameras(all.sources);
  follow_view(all.sources);
  follow_recorded(all);
  if (!s) return;
  at("edit-view").hidden = false;
  const events = all.events.filter(e => e.source === s.name);
  const unknown = s.label === null || s.label === "unknown";
  set("label", s.label !== null ? s.label : s.reason ? `${s.state}: ${s.reason}` : s.state, unknown ? "unknown" : "");
  set("score", s.score === null ? "" : `${Math.round(100 * s.score)} %` +
    (unknown && s.top.length ? `, best guess ${s.top[0][0]}` : ""), "n");
  const open = s.open_set;
  const always = s.label === null ? "" : "this bundle always shows its best class, never unknown";
  set("open-set", open === null ? always : `open-set score ${open.score.toFixed(2)} of ` +
    open.threshold.toFixed(2), "n");
  streams(s.streams);
  const lost = s.source_state.state !== "running";
  set("camera", lost ? `${s.name} ${s.source_state.state}: ${s.source_state.reason}` : s.name, lost ? "lost" : "");
  at("live").className = lost ? "lost" : "";
  const counts = [["latency", s.latency_ms === null ? "" : s.latency_ms.toFixed(0) + " ms"],
    ...Object.entries(s.counts).map(([key, value]) => [names[key] || key, value])];
  at("counts").replaceChildren(...counts.map(([key, value]) => {
    const one = make("div");
    one.append(make("dt", key), make("dd", value));
    return one;
  }));
  strip(events, all.clock);
  place(at("events"), all.events.slice(-60).reverse().map(e => event_row(e, several)));
};
at("edit-view").onclick = () => {
  location.hash = "view=" + encodeURIComponent(chosen);
  poll_once();
};
const GONE = "the run does not answer; is it still there?";
const state = async () => {
  const answer = await fetch("state.json");
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
};
const poll_once = async () => {
  const all = await state().catch(() => null);
  if (all) return show(all);
  if (at("camera").textContent !== GONE) say(GONE);
  set("camera", GONE, "lost");
};
const poll = () => poll_once().finally(() => setTimeout(poll, 400));
poll();
