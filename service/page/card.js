// The card of one picture: waiting, answered or in trouble.

import { foundItems } from "./found.js";
import { fromTemplate, put, showBlob, showLink } from "./nodes.js";
import { describeAnswer, describeConversion } from "./words.js";

export function makeCard(file, { again, remove }) {
  const card = fromTemplate("card");
  put(card, ".file", file.name);
  card.querySelector(".again").onclick = again;
  const button = card.querySelector(".remove");
  button.setAttribute("aria-label", `Remove ${file.name}`);
  button.onclick = remove;
  return card;
}

export function showPreview(card, file) {
  showBlob(card.querySelector(".asked"), file, `Your picture ${file.name}`);
}

export function showWaiting(card, headline) {
  fill(card, "waiting", { headline });
}

export function showTrouble(card, trouble) {
  fill(card, "trouble", trouble.words);
  card.querySelector(".again").hidden = !trouble.mayPass;
  return trouble.words;
}

// Returns the words that were shown.
export function showAnswer(request, { answer, ...sent }) {
  const { card, file } = request;
  const words = describeAnswer(answer);
  fill(card, "answered", { ...words, sent: describeConversion(file, sent) });
  card.querySelector("meter").value = words.level;
  showLink(card, answer.url, `Read about ${answer.name}`);
  const neighbors = answer.neighbors.map((one) => ({ ...one, url: null })); // one link is enough
  card.querySelector(".neighbors").replaceChildren(...foundItems(neighbors, request));
  offerOthers(request, answer);
  return words;
}

// The pictures of other landmarks are fetched when they are looked at.
function offerOthers(request, answer) {
  const others = (answer.landmarks ?? []).filter((one) => one.landmark_id !== answer.landmark_id);
  const details = request.card.querySelector(".others");
  details.hidden = !others.length;
  const fillList = () => details.querySelector("ul").replaceChildren(...foundItems(others, request));
  details.addEventListener("toggle", fillList, { once: true });
}

function fill(card, state, { headline, guess = "", sure = "", advice = "", sent = "" }) {
  card.className = `card ${state}`;
  put(card, "h2", headline);
  put(card, ".guess", guess);
  put(card, ".sure span", sure);
  card.querySelector(".sure").hidden = !sure;
  put(card, ".advice", advice);
  put(card, ".sent", sent);
  card.querySelector(".again").hidden = true;
  card.querySelector(".about").hidden = true;
  card.querySelector(".others").hidden = true;
  card.querySelector(".neighbors").replaceChildren();
}

export function focusOn(card) {
  card.querySelector("h2").focus({ preventScroll: true });
}
