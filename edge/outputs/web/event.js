// One event: its clip, and what the networks said around it. The address has its id: a link to it.
import {COLOURS, at, draw, make} from "./dom.js";
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
  if (all.threshold !== null) draw(svg, "line", {...thin, x1: 0, x2: 100, y1: 50, y2: 50, "stroke-dasharray": "4 4"});
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
    if (all.threshold !== null) lines.push(["decides", "currentColor", m => m.open_set / all.threshold / 2, 2]);
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
    }), make("span", all.threshold === null ? "grey: the action"
      : "grey: the action, dashed: what the line that decides has to reach"));
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
