"use strict";
// The token is a cookie by now: it need not stay in the address bar and the history.
if (location.search) history.replaceState(null, "", location.pathname + location.hash);
const at = id => document.getElementById(id);
const make = (tag, text, name) => {
  const one = document.createElement(tag);
  if (text !== undefined) one.textContent = text;
  if (name) one.className = name;
  return one;
};
// Puts nodes into a box without touching those that stay: they keep the focus.
const place = (box, nodes) => {
  const stay = new Set(nodes);
  for (const one of [...box.children]) if (!stay.has(one)) one.remove();
  nodes.forEach((node, n) => {
    if (box.children[n] !== node) box.insertBefore(node, box.children[n] || null);
  });
};
const draw = (svg, tag, values, text) => {
  const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(values)) one.setAttribute(key, value);
  if (text) one.textContent = text;
  svg.append(one);
  return one;
};
const COLOURS = 5;
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
const show_live = name => {
  chosen = name;
  at("live").src = "live.mjpg?source=" + encodeURIComponent(name);
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
      one.firstChild.alt = s.name;
      one.onclick = () => { show_live(s.name); poll_once(); };
    }
    one.setAttribute("aria-pressed", s.name === chosen);
    one.lastChild.textContent = s.source_state.state === "running" ? s.label || s.state : s.source_state.state;
    one.lastChild.className = s.source_state.state === "running" ? "" : "lost";
    if (Date.now() - (one.dataset.at || 0) > 1000) {
      one.dataset.at = Date.now();
      one.firstChild.src = still(s.name);
    }
    return one;
  }));
};
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
    const late = left > .85, reach = late ? right : left + .15;
    if (reach > free) continue;
    free = late ? right - .15 : left;
    add("text", {x: 100 * (late ? right : left) + "%", y: "95%", fill: "currentColor",
      "font-size": 11, "text-anchor": late ? "end" : "start"}, name);
  }
};
// One event: its clip, and what the networks said around it. The address has its id: a link to it.
const seconds = number => number.toFixed(1) + " s";
const chart = (svg, all, lines) => {
  const moments = all.scores, from = moments[0].time, to = Math.max(moments[moments.length - 1].time, from + .1);
  const at_x = time => 100 * Math.min(Math.max((time - from) / (to - from), 0), 1);
  svg.setAttribute("viewBox", "0 0 100 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.replaceChildren();
  const thin = {"stroke-width": 1, "vector-effect": "non-scaling-stroke", stroke: "currentColor"};
  const begin = at_x(all.started), end = all.ended === null ? 100 : at_x(all.ended);
  draw(svg, "rect", {x: begin, width: Math.max(end - begin, .3), y: 0, height: 100, fill: "var(--line)"});
  draw(svg, "line", {...thin, x1: 0, x2: 100, y1: 50, y2: 50, "stroke-dasharray": "4 4"});
  for (const [, colour, of] of lines) {
    const points = moments.map(m => `${at_x(m.time)},${100 - 100 * Math.min(Math.max(of(m), 0), 1)}`);
    draw(svg, "polyline", {points: points.join(" "), fill: "none", stroke: colour, "stroke-width": 2,
      "vector-effect": "non-scaling-stroke"});
  }
  const cursor = draw(svg, "line", {...thin, y1: 0, y2: 100, x1: -1, x2: -1});
  const clip = at("clip");
  clip.ontimeupdate = () => {
    const x = all.clip ? at_x(all.clip.begins + clip.currentTime) : -1;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
  };
};
const table = (moments, lines) => {
  const rows = [["seconds", ...lines.map(([name]) => name)]];
  const step = Math.max(1, Math.floor(moments.length / 60));
  for (let n = 0; n < moments.length; n += step)
    rows.push([moments[n].time.toFixed(1), ...lines.map(([, , of, scale]) => ((scale || 1) * of(moments[n])).toFixed(2))]);
  const whole = make("table");
  whole.append(...rows.map((cells, n) => {
    const row = make("tr");
    row.append(...cells.map(text => make(n ? "td" : "th", text)));
    return row;
  }));
  return whole;
};
const show_event = async id => {
  const answer = await fetch(`event/${id}/event.json`);
  if (location.hash !== "#event=" + id) return;  // another was asked for meanwhile
  if (!answer.ok) {
    at("event-title").textContent = "this event is not there any more";
    for (const part of ["event-facts", "why", "legend", "why-table"]) at(part).replaceChildren();
    for (const part of ["clip", "best"]) at(part).hidden = true;
  } else {
    const all = await answer.json();
    const lines = Object.keys(all.scores[0].streams).map(
      (name, n) => [name, `var(--stream${n % COLOURS})`, m => m.streams[name]]);
    lines.push(["decides", "currentColor", m => m.open_set / all.threshold / 2, 2]);
    at("event-title").textContent = `${all.label}, ${all.source}`;
    const parts = [new Date(all.clock).toLocaleString(), all.ended === null ? "its end was not seen" :
      `${seconds(all.ended - all.started)} long`, `highest score ${Math.round(100 * all.score)} %`,
      `latency ${all.latency_ms.toFixed(0)} ms`, all.bundle.name, all.device];
    if (all.cut) parts.push("the clip ends early: " + all.cut);
    if (!all.clip) parts.push("there is no clip");
    at("event-facts").textContent = parts.join(" · ");
    chart(at("why"), all, lines);
    at("legend").replaceChildren(...lines.flatMap(([name, colour]) => {
      const one = make("span", `━ ${name}, `);
      one.style.color = colour;
      return one;
    }), make("span", "grey: the action, dashed: what the line that decides has to reach"));
    at("why-table").replaceChildren(table(all.scores, lines));
    at("clip").hidden = !all.clip;
    at("best").hidden = false;
    if (all.clip) at("clip").src = `event/${id}/clip.mp4`;
    at("best").src = `event/${id}/picture.jpg`;
  }
  if (!at("event").open) at("event").showModal();
};
const follow = () => {
  const id = location.hash.match(/^#event=([0-9a-f-]{36})$/);
  if (id) show_event(id[1]);
  else if (at("event").open) at("event").close();
};
addEventListener("hashchange", follow);
at("event-close").onclick = () => at("event").close();
at("event").onclose = () => {
  at("clip").removeAttribute("src");
  at("clip").load();
  if (location.hash) history.replaceState(null, "", location.pathname);
};
follow();
const names = {labelled: "labels", received: "frames", standby: "without motion",
  losses: "camera lost", lost_video: "not recorded", lost_json: "lines not written",
  lost_webhook: "not posted", lost_mqtt: "not published", lost_events: "events not recorded"};
const rows = new Map();  // of the list, by what they show
const event_row = (e, named) => {
  const key = `${e.id} ${e.recorded} ${named}`;
  if (rows.has(key)) return rows.get(key);
  const row = make("li"), text = e.output ? `${e.output}: ${e.reason || "works again"}` : e.event ? `${e.label} ${e.event === "start" ? "starts" : "ends"}`
    : `source ${e.source_state}${e.reason ? ": " + e.reason : ""}`;
  const what = make(e.recorded ? "button" : "span", named ? `${e.source}: ${text}` : text);
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
  at("outputs").replaceChildren(...all.outputs.filter(o => o.output_state !== "working").map(
    o => make("p", `${o.output}: ${o.reason}`, "lost")));
  cameras(all.sources);
  if (!all.sources.length) return;
  const s = all.sources.find(one => one.name === chosen) || all.sources[0];
  if (s.name !== chosen) show_live(s.name);
  const events = all.events.filter(e => e.source === s.name);
  const unknown = s.label === null || s.label === "unknown";
  at("label").textContent = s.label !== null ? s.label : s.reason ? `${s.state}: ${s.reason}` : s.state;
  at("label").className = unknown ? "unknown" : "";
  at("score").textContent = s.score === null ? "" : `${Math.round(100 * s.score)} %` +
    (unknown && s.top.length ? `, best guess ${s.top[0][0]}` : "");
  const open = s.open_set;
  at("open-set").textContent = open === null ? "" : `open-set score ${open.score.toFixed(2)} of ` +
    open.threshold.toFixed(2);
  streams(s.streams);
  const lost = s.source_state.state !== "running";
  at("camera").textContent = lost ? `${s.name} ${s.source_state.state}: ${s.source_state.reason}` : s.name;
  at("camera").className = lost ? "lost" : "";
  const counts = [["latency", s.latency_ms === null ? "" : s.latency_ms.toFixed(0) + " ms"],
    ...Object.entries(s.counts).map(([key, value]) => [names[key] || key, value])];
  at("counts").replaceChildren(...counts.map(([key, value]) => {
    const one = make("div");
    one.append(make("dt", key), make("dd", value));
    return one;
  }));
  strip(events, all.clock);
  place(at("events"), all.events.slice(-60).reverse().map(
    e => event_row(e, Boolean(e.source) && all.sources.length > 1)));
};
const poll_once = async () => {
  try {
    const answer = await fetch("state.json");
    if (answer.ok) show(await answer.json());
    else throw new Error(answer.status);
  } catch (error) {
    at("camera").textContent = "the run does not answer; is it still there?";
    at("camera").className = "lost";
  }
};
const poll = async () => { await poll_once(); setTimeout(poll, 400); };
poll();
