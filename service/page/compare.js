// Shows the picture that was asked about beside one that was found, both as large as one likes.

import { byId, showBlob } from "./nodes.js";

const dialog = byId("comparison");
const zoom = dialog.querySelector("input");
const [asked, found] = dialog.querySelectorAll("figure");
const frames = [asked, found].map((figure) => figure.querySelector(".frame"));
let list = [];
let shown = null;

// `pictures` are described by found.js; those that have no thumbnail, or not yet, are passed over.
export function compare(file, pictures, first) {
  list = pictures;
  showBlob(asked.querySelector("img"), file, `Your picture ${file.name}`);
  asked.querySelector("figcaption").textContent = `Your picture: ${file.name}`;
  show(first);
  dialog.showModal();
}

function show(one, step = 0) {
  const pictures = list.filter(({ thumbnail }) => thumbnail);
  const number = (pictures.indexOf(one) + step + pictures.length) % pictures.length;
  shown = pictures[number];
  showBlob(found.querySelector("img"), shown.thumbnail, `A picture of ${shown.name}`);
  found.querySelector("figcaption").replaceChildren(
    `${shown.name}, ${shown.similarity.toLowerCase()} (${number + 1} of ${pictures.length}) `,
    ...shown.credit(),
  );
  zoom.value = 1;
  enlarge();
}

// What is in the middle of each frame stays there.
function enlarge() {
  for (const frame of frames) {
    const image = frame.querySelector("img");
    const middle = [frame.scrollLeft + frame.clientWidth / 2, frame.scrollTop + frame.clientHeight / 2];
    const before = image.clientWidth;
    image.style.width = image.style.height = `${100 * zoom.value}%`;
    const factor = image.clientWidth / before || 1;
    frame.scrollTo(
      factor * middle[0] - frame.clientWidth / 2,
      factor * middle[1] - frame.clientHeight / 2,
    );
  }
}

zoom.oninput = enlarge;
dialog.querySelector(".previous").onclick = () => show(shown, -1);
dialog.querySelector(".next").onclick = () => show(shown, 1);
dialog.querySelector(".close").onclick = () => dialog.close();
dialog.onclick = (event) => event.target === dialog && dialog.close(); // beside its content
