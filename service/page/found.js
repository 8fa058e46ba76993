// Pictures that the service found: each with its name, similarity and credit, and a button that
// compares it with the picture that was asked about.

import { compare } from "./compare.js";
import { fromTemplate, isWebAddress, linkOrText, put, showBlob } from "./nodes.js";
import { fetchThumbnail } from "./service.js";
import { Trouble } from "./trouble.js";

// `found` is what the service says of neighbors, or of landmarks with their best pictures.
export function foundItems(found, request) {
  const shown = found.map(describe);
  return shown.map((one) => {
    const item = fromTemplate("found");
    item.querySelector(".name").replaceChildren(linkOrText(one.url, one.name));
    put(item, ".similarity", one.similarity);
    item.querySelector(".credit").replaceChildren(...one.credit());
    const button = item.querySelector("button");
    button.onclick = () => compare(request.file, shown, one);
    loadThumbnail(button, one, request.control.signal);
    return item;
  });
}

function describe({ name, landmark_id: id, url, similarity, picture, credit }) {
  return {
    name: name ?? id,
    url,
    picture,
    similarity: `Similarity ${similarity.toFixed(3)}`,
    credit: () => creditNodes(credit),
    thumbnail: null, // a Blob, once it is there
  };
}

function creditNodes(credit) {
  if (!credit) return [];
  const text = [credit.title, credit.author, credit.license].filter(Boolean).join(", ");
  return [linkOrText(credit.url, text || (isWebAddress(credit.url) ? "Source" : ""))];
}

// By fetch and not by src: so the API key is sent, and a gallery without thumbnails is no error.
async function loadThumbnail(button, one, removed) {
  try {
    one.thumbnail = await fetchThumbnail(one.picture, removed);
    showBlob(button.querySelector("img"), one.thumbnail, "");
    button.setAttribute("aria-label", `Compare with a picture of ${one.name}`);
    button.hidden = false;
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
  }
}
