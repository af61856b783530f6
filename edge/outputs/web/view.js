// The region and the mask of a camera, drawn on its picture with the mouse, a finger or the keyboard.
// Numbers are shares of the whole upright picture, as in the configuration file. The page changes
// nothing in the run: it gives the lines for that file.
import {at, draw, make} from "./dom.js";
const WIDE = 1000;  // of the drawing, in its own units
const NEAR_PX = 14;  // so near to its first corner a click closes a mask
const SMALLEST = .01;  // side of a region; edge/video/view.py has it, too
const STEP = .01;  // of an arrow key; a tenth of it with Shift
const KEEP_MS = 1000;  // a picture is shown for so long
// runs: the view that the run uses, as JSON. draft: what is drawn. corners: of what is being drawn.
const editor = {name: "", runs: "", draft: {region: null, mask: []}, tool: "", corners: [], cursor: [.5, .5],
  drag: null, high: WIDE, shown_ms: 0};
const share = number => Math.round(1e4 * Math.min(Math.max(number, 0), 1)) / 1e4;
const percent = number => `${Math.round(100 * number)} %`;
const rectangle = ([ax, ay], [bx, by]) => {
  const left = Math.min(ax, bx), top = Math.min(ay, by);
  return [left, top, share(Math.abs(ax - bx)), share(Math.abs(ay - by))];
};
const corners_of = ([x, y, w, h]) => [[x, y], [share(x + w), y], [share(x + w), share(y + h)], [x, share(y + h)]];
const is_flat = corners => {
  const sides = corners.map(([x, y]) => [x - corners[0][0], y - corners[0][1]]);
  return sides.every(([a, b]) => sides.every(([c, d]) => Math.abs(a * d - b * c) < 1e-9));
};
const is_small = ([, , w, h]) => Math.min(w, h) < SMALLEST;
const tell = text => { if (at("view-says").textContent !== text) at("view-says").textContent = text; };
// A shape has a key, "region" or "mask 1"; a corner of it "region:0", "mask 1:0".
const part_of = key => {
  const [shape, corner] = key.split(":");
  return {shape, corner: corner === undefined ? null : Number(corner), mask: Number(shape.slice(5)) - 1};
};
const shapes = () => [
  ...editor.draft.region ? [["region", corners_of(editor.draft.region)]] : [],
  ...editor.draft.mask.map((corners, n) => [`mask ${n + 1}`, corners])];
const toml = ({region, mask}) => [
  ...region ? [`region = ${JSON.stringify(region)}`] : [],
  ...mask.length ? [`mask = ${JSON.stringify(mask)}`] : []].join("\n").replaceAll(",", ", ");
const options = ({region, mask}) => [
  ...region ? [`region=${region}`] : [],
  ...mask.length ? [`mask=${mask.map(String).join(";")}`] : []].join("&");

const px = () => WIDE / Math.max(at("shapes").clientWidth, 1);  // of the screen, in units of the drawing
const near = (a, b) => Math.hypot(WIDE * (a[0] - b[0]), editor.high * (a[1] - b[1])) < NEAR_PX * px();
const place_of = ([x, y]) => `${WIDE * x},${editor.high * y}`;
const draw_shape = (svg, [key, corners]) => {
  const group = draw(svg, "g", {class: key.split(" ")[0]});
  const size = key === "region" ? `${percent(editor.draft.region[2])} wide, ${percent(editor.draft.region[3])} high`
    : `${corners.length} corners`;
  draw(group, "polygon", {points: corners.map(place_of).join(" "), tabindex: 0, role: "group", "data-key": key,
    "aria-label": `${key}, ${size}`});
  corners.forEach(([x, y], n) => draw(group, "circle", {cx: WIDE * x, cy: editor.high * y, r: 7 * px(), tabindex: 0,
    role: "group", "data-key": `${key}:${n}`,
    "aria-label": `corner ${n + 1} of ${key}, at ${percent(x)}, ${percent(y)}`}));
};
const draw_cut = svg => {  // what the region leaves out
  const inner = corners_of(editor.draft.region).map(place_of).join("L");
  draw(svg, "path", {class: "cut", "fill-rule": "evenodd", d: `M0,0H${WIDE}V${editor.high}H0ZM${inner}Z`});
};
const draw_tool = svg => {
  const {tool, corners, cursor: [x, y], high} = editor;
  const drawn = tool === "region" && corners.length ? [...corners_of(rectangle(corners[0], [x, y])), corners[0]]
    : [...corners, [x, y]];
  draw(svg, "polyline", {class: "drawn", points: drawn.map(place_of).join(" ")});
  if (tool === "mask" && corners.length)
    draw(svg, "circle", {class: "first", cx: WIDE * corners[0][0], cy: high * corners[0][1], r: NEAR_PX * px()});
  draw(svg, "path", {class: "cross", d: `M0,${high * y}H${WIDE}M${WIDE * x},0V${high}`});
};
const list_row = ([key, corners]) => {
  const row = make("li"), remove_it = make("button", "remove");
  remove_it.setAttribute("aria-label", `remove ${key}`);
  remove_it.onclick = () => { remove(key); at("draw-mask").focus(); };
  row.append(make("span", key === "region" ? "region" : `${key}, ${corners.length} corners`), remove_it);
  return row;
};
const render = () => {
  const svg = at("shapes"), {draft, tool} = editor, held = document.activeElement.getAttribute("data-key");
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${editor.high}`);
  svg.classList.toggle("drawing", tool !== "");
  svg.replaceChildren();
  if (draft.region) draw_cut(svg);
  for (const shape of shapes()) draw_shape(svg, shape);
  if (tool) draw_tool(svg);
  if (held) (svg.querySelector(`[data-key="${held}"]`) || svg).focus();
  for (const one of ["region", "mask"]) at(`draw-${one}`).setAttribute("aria-pressed", tool === one);
  at("finish").hidden = tool !== "mask";
  const text = toml(draft), runs = editor.runs === JSON.stringify(draft);
  at("shape-list").replaceChildren(...shapes().map(list_row));
  at("lines").value = text || "# neither region nor mask: the whole picture";
  at("options").value = options(draft);
  at("options-row").hidden = !text;
  at("as-it-runs").textContent = runs ? "The run uses this." : "The run does not use this yet.";
  at("reset").hidden = runs;
};

const change = draft => {
  editor.draft = draft;
  render();
};
const remove = key => {
  const {region, mask} = editor.draft, {shape, corner, mask: index} = part_of(key);
  if (shape === "region") change({region: null, mask});
  else if (corner !== null && mask[index].length > 3) change({region, mask: mask.map((corners, n) =>
    n === index ? corners.filter((_, m) => m !== corner) : corners)});
  else change({region, mask: mask.filter((_, n) => n !== index)});
  tell(`${key.replace(":", ", corner ")} removed`);
};
// Moves a shape or a corner by a share of the picture, from where it was in `from`; stays within the picture.
const move = (key, from, dx, dy) => {
  const {shape, corner, mask: index} = part_of(key);
  const all = shape === "region" ? corners_of(from.region) : from.mask[index];
  const by = (limits, d) => Math.min(Math.max(d, -Math.min(...limits)), 1 - Math.max(...limits));
  const [x, y] = corner === null ? [by(all.map(c => c[0]), dx), by(all.map(c => c[1]), dy)] : [dx, dy];
  const moved = all.map((c, n) => corner === null || n === corner ? [share(c[0] + x), share(c[1] + y)] : c);
  if (shape !== "region") {
    if (!is_flat(moved)) change({...from, mask: from.mask.map((corners, n) => n === index ? moved : corners)});
    return;
  }
  const region = corner === null ? [...moved[0], from.region[2], from.region[3]]
    : rectangle(moved[corner], all[(corner + 2) % 4]);
  if (!is_small(region)) change({...from, region});
};
const choose = tool => {
  Object.assign(editor, {tool: editor.tool === tool ? "" : tool, corners: []});
  tell({region: "Drag over the part that the run shall use.",
    mask: "Click the corners of what nobody shall see, and the first one again to close it."}[editor.tool] || "");
  at("shapes").focus();
  render();
};
const finish = () => {
  const {tool, corners, draft: {region, mask}} = editor;
  const drawn = tool === "region" && rectangle(...corners);
  editor.corners = [];
  if (drawn && is_small(drawn)) tell("That is too small for a region: draw it again.");
  else if (!drawn && (corners.length < 3 || is_flat(corners)))
    tell("A mask needs three corners or more, not on one line: draw it again.");
  else {
    editor.tool = "";
    editor.draft = drawn ? {region: drawn, mask} : {region, mask: [...mask, corners]};
    tell(drawn ? "region drawn" : `mask ${mask.length + 1} drawn`);
  }
  render();
  const shape = drawn ? "region" : `mask ${mask.length + 1}`;
  (at("shapes").querySelector(`[data-key="${shape}"]`) || at("shapes")).focus();
};
const put = point => {
  const {tool, corners} = editor;
  if (tool === "mask" && corners.length && near(point, corners.at(-1))) return;  // of a double click
  if (tool === "mask" && corners.length > 2 && near(point, corners[0])) return finish();
  corners.push(point);
  if (tool === "region" && corners.length === 2) return finish();
  tell(`corner ${corners.length} at ${percent(point[0])}, ${percent(point[1])}`);
  render();
};

const point_at = event => {
  const box = at("shapes").getBoundingClientRect();
  return [share((event.clientX - box.left) / box.width), share((event.clientY - box.top) / box.height)];
};
at("shapes").onmousedown = event => event.preventDefault();  // it selects nothing, and the focus is set below
at("shapes").onpointerdown = event => {
  if (event.button) return;
  at("shapes").setPointerCapture(event.pointerId);
  editor.cursor = point_at(event);
  const key = event.target.getAttribute("data-key");
  (editor.tool || !key ? at("shapes") : event.target).focus();
  if (editor.tool) put(editor.cursor);
  else if (key) editor.drag = {key, from: editor.draft, at: editor.cursor};
};
at("shapes").onpointermove = event => {
  const [x, y] = editor.cursor = point_at(event), {drag} = editor;
  if (drag) move(drag.key, drag.from, x - drag.at[0], y - drag.at[1]);
  else if (editor.tool) render();
};
at("shapes").onpointerup = () => {
  const {tool, corners, cursor} = editor;
  editor.drag = null;
  if (tool === "region" && corners.length && !near(corners[0], cursor)) put(cursor);
};
at("shapes").onpointercancel = () => { editor.drag = null; };
const ARROWS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
const press = (event, key) => {
  const {tool, cursor: [x, y]} = editor, arrow = ARROWS[event.key], step = event.shiftKey ? STEP / 10 : STEP;
  if (arrow && tool) {
    editor.cursor = [share(x + step * arrow[0]), share(y + step * arrow[1])];
    tell(`${percent(editor.cursor[0])}, ${percent(editor.cursor[1])}`);
    render();
  } else if (arrow && key) move(key, editor.draft, step * arrow[0], step * arrow[1]);
  else if (tool && ["Enter", " "].includes(event.key)) put([x, y]);
  else if (tool && event.key === "Escape") choose(tool);
  else if (!tool && key && ["Delete", "Backspace"].includes(event.key)) remove(key);
  else return false;
  return true;
};
at("shapes").onkeydown = event => {
  if (press(event, event.target.getAttribute("data-key"))) event.preventDefault();
};
for (const one of ["region", "mask"]) at(`draw-${one}`).onclick = () => choose(one);
at("finish").onclick = finish;
at("reset").onclick = () => change(JSON.parse(editor.runs));
const copy = id => () => {  // execCommand, for navigator.clipboard is not there without TLS
  at(id).select();
  tell(document.execCommand("copy") ? "copied" : "The text is selected: copy it with the keyboard.");
};
at("copy-lines").onclick = copy("lines");
at("copy-options").onclick = copy("options");

// The picture is only what the run sees: it lies where that is in the whole picture, grey is around it.
const fit = () => {
  const image = at("view-picture"), [x, y, w, h] = JSON.parse(editor.runs).region || [0, 0, 1, 1];
  if (!image.naturalWidth) return;
  const aspect = image.naturalWidth / w / (image.naturalHeight / h);
  editor.high = WIDE / aspect;
  Object.assign(at("stage").style, {aspectRatio: aspect, maxWidth: `calc(60vh * ${aspect})`});
  Object.assign(image.style, {left: 100 * x + "%", top: 100 * y + "%", width: 100 * w + "%", height: 100 * h + "%"});
  at("outside").hidden = w === 1 && h === 1;
  render();
};
at("view-picture").onload = fit;
const wanted = () => new URLSearchParams(location.hash.slice(1)).get("view");
const open_editor = source => {
  if (editor.name !== source.name) Object.assign(editor, {name: source.name, runs: ""});  // else the drawing stays
  Object.assign(editor, {tool: "", corners: [], shown_ms: 0});
  at("view-title").textContent = `Region and mask of ${source.name}`;
  at("toml-table").textContent = /^[\w-]+$/.test(source.name) ? `[sources.${source.name}]` : "[sources.NAME]";
  if (!at("view").open) at("view").showModal();
};
// Called with each state of the run.
export const follow_view = sources => {
  const name = wanted(), source = sources.find(one => one.name === name);
  if (!name) return at("view").close();
  if (!source) return tell("This camera is not in the run now.");
  if (!at("view").open || editor.name !== name) open_editor(source);
  const runs = JSON.stringify(source.view);
  if (runs !== editor.runs) {
    const untouched = !editor.runs || JSON.stringify(editor.draft) === editor.runs;
    editor.runs = runs;
    if (untouched) editor.draft = source.view;
    fit();
    render();
  }
  if (source.state !== "starting" && Date.now() - editor.shown_ms > KEEP_MS) {
    editor.shown_ms = Date.now();
    at("view-picture").src = `view.jpg?source=${encodeURIComponent(source.name)}&t=${editor.shown_ms}`;
  }
};
at("view-close").onclick = () => at("view").close();
at("view").onclose = () => {
  if (wanted()) history.replaceState(null, "", location.pathname);
};
addEventListener("resize", () => at("view").open && render());
