// The picture of the chosen camera: one short request after another. A stream would hold a connection for
// each page, and a browser has six for a site: the seventh page would show nothing.
import {at} from "./dom.js";
const PAUSE_MS = 66, AGAIN_MS = 1000;
let name = null, tag = "";  // of the picture that is shown
export const show_live = source => { [name, tag] = [source, ""]; };
const next = async () => {
  const source = name;
  const answer = await fetch("still.jpg?source=" + encodeURIComponent(source), {headers: {"If-None-Match": tag}});
  if (answer.status !== 200) return answer.status === 304 ? PAUSE_MS : AGAIN_MS;
  const picture = await createImageBitmap(await answer.blob()), canvas = at("live");
  if (source !== name) return 0;  // another was chosen meanwhile
  tag = answer.headers.get("ETag");
  if (canvas.width !== picture.width || canvas.height !== picture.height)
    Object.assign(canvas, {width: picture.width, height: picture.height});
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
  return PAUSE_MS;
};
const go_on = async () => {
  const idle = name === null || document.hidden;  // a page that nobody sees asks for nothing
  setTimeout(go_on, idle ? PAUSE_MS : await next().catch(() => AGAIN_MS));
};
go_on();
