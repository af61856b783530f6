// What all parts of the page use.
export const at = id => document.getElementById(id);
export const make = (tag, text, name) => {
  const one = document.createElement(tag);
  if (text !== undefined) one.textContent = text;
  if (name) one.className = name;
  return one;
};
// Touches nothing that is so already: screen readers read what is touched.
export const set = (id, text, name = "") => {
  const one = at(id);
  if (one.textContent !== text) one.textContent = text;
  if (one.className !== name) one.className = name;
};
// Puts nodes into a box without touching those that stay: they keep the focus.
export const place = (box, nodes) => {
  const stay = new Set(nodes);
  for (const one of [...box.children]) if (!stay.has(one)) one.remove();
  nodes.forEach((node, n) => {
    if (box.children[n] !== node) box.insertBefore(node, box.children[n] || null);
  });
};
export const draw = (svg, tag, values, text) => {
  const one = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(values)) one.setAttribute(key, value);
  if (text) one.textContent = text;
  svg.append(one);
  return one;
};
export const COLOURS = 5;
