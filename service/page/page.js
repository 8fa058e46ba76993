// Shows pictures and the service's answers about them. Names of files and texts of the service are
// inserted as text, never as markup.

import { announce } from "./announce.js";
import { Trouble, fetchThumbnail, recognize } from "./service.js";

const MAX_REQUESTS = 2; // at the same time; further pictures wait here, not at the service

const byId = (id) => document.getElementById(id);
const answers = byId("answers");
const queue = [];
let running = 0;
let busyAnnounced = false;

// Cards.

function show(template, fill) {
  const made = byId(template).content.firstElementChild.cloneNode(true);
  fill(made);
  return made;
}

function put(place, selector, text) {
  const line = place.querySelector(selector);
  line.textContent = text;
  line.hidden = !text;
}

function makeCard(file) {
  return show("card", (card) => {
    put(card, ".file", file.name);
    card.querySelector(".again").onclick = () => {
      focusOn(card);
      recognizeAll([[card, file]]);
    };
  });
}

// The button disappears while the card waits; keyboard focus would jump to the top of the page.
function focusOn(card) {
  card.querySelector("h2").focus({ preventScroll: true });
}

function showPreview(image, file) {
  const address = URL.createObjectURL(file);
  image.hidden = false;
  image.alt = `Your picture ${file.name}`;
  image.onload = () => URL.revokeObjectURL(address);
  image.onerror = () => {
    URL.revokeObjectURL(address);
    image.hidden = true;
  };
  image.src = address;
}

function fillCard(card, state, { headline, howSure = "", guess = "", sent = "" }) {
  card.className = `card ${state}`;
  put(card, "h2", headline);
  put(card, ".how-sure", howSure);
  put(card, ".guess", guess);
  put(card, ".sent", sent);
  card.querySelector(".neighbors").replaceChildren();
}

function describeAnswer(answer) {
  const parts = [`Confidence ${answer.confidence.toFixed(3)}`];
  if (answer.probability !== null) {
    parts.push(`right with a probability of ${formatProbability(answer.probability)}`);
  }
  const howSure = parts.join(", ");
  if (answer.known !== false) return { headline: answer.name, howSure };
  return { headline: "Not a landmark I know", guess: `Nearest guess: ${answer.name}. ${howSure}.` };
}

// A learned probability is never certainty.
function formatProbability(probability) {
  if (probability > 0.99) return "over 99\u00a0%";
  if (probability < 0.01) return "under 1\u00a0%";
  return `${Math.round(100 * probability)}\u00a0%`;
}

function describeConversion(file, drawn) {
  if (!drawn) return "";
  const how = drawn.picture.size < file.size ? "Made smaller, and sent as" : "Sent as";
  return `${how} a JPEG of ${drawn.width}\u00a0×\u00a0${drawn.height}\u00a0pixels`;
}

function neighborItem(neighbor) {
  return show("neighbor", (item) => {
    const name = neighbor.name ?? neighbor.landmark_id;
    put(item, ".name", name);
    put(item, ".similarity", `Similarity ${neighbor.similarity.toFixed(3)}`);
    item.querySelector(".credit").replaceChildren(...creditNodes(neighbor.credit));
    loadThumbnail(item.querySelector("img"), neighbor.picture, name);
  });
}

function creditNodes(credit) {
  if (!credit) return [];
  const text = [credit.title, credit.author, credit.license].filter(Boolean).join(", ");
  if (!/^https?:\/\//i.test(credit.url ?? "")) return [text];
  const link = document.createElement("a");
  Object.assign(link, { href: credit.url, rel: "noreferrer", textContent: text || "Source" });
  return [link];
}

// By fetch and not by src: so the API key is sent, and a gallery without thumbnails is no error.
async function loadThumbnail(image, id, name) {
  image.hidden = true;
  try {
    const address = URL.createObjectURL(await fetchThumbnail(id));
    image.onload = () => URL.revokeObjectURL(address);
    image.alt = `A picture of ${name}`;
    image.src = address;
    image.hidden = false;
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
  }
}

// Requests.

async function ask(card, file) {
  try {
    const { answer, drawn } = await recognize(file, (trouble) => showWait(card, trouble));
    busyAnnounced = false;
    const words = describeAnswer(answer);
    fillCard(card, "answered", { ...words, sent: describeConversion(file, drawn) });
    card.querySelector(".neighbors").replaceChildren(...answer.neighbors.map(neighborItem));
    announce(`${file.name}: ${words.headline}. ${words.guess ?? ""}`);
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    showTrouble(card, file, trouble);
    if (trouble.status === 401) askForKey(card, file);
  }
}

function showWait(card, trouble) {
  const headline = `${trouble.headline}; trying again in ${trouble.retryAfter} s`;
  fillCard(card, "waiting", { headline });
  if (!busyAnnounced) announce(`${trouble.headline}; your pictures wait for it.`);
  busyAnnounced = true;
}

function showTrouble(card, file, trouble) {
  fillCard(card, "trouble", { headline: trouble.headline, howSure: trouble.message });
  card.querySelector(".again").hidden = !trouble.mayPass;
  announce(`${file.name}: ${trouble.headline}. ${trouble.message}`);
}

function recognizeAll(requests) {
  if (!requests.length) return;
  busyAnnounced = false;
  for (const [card] of requests) {
    card.querySelector(".again").hidden = true;
    fillCard(card, "waiting", { headline: "Looking …" });
  }
  const [[, file]] = requests;
  announce(`Looking at ${requests.length > 1 ? `${requests.length} pictures` : file.name}.`);
  queue.push(...requests);
  startNext();
}

function startNext() {
  while (running < MAX_REQUESTS && queue.length) {
    running += 1;
    ask(...queue.shift()).finally(() => {
      running -= 1;
      startNext();
    });
  }
}

// The API key, where the service needs one.

function askForKey(card, file) {
  const form = byId("key");
  form.unanswered = [...(form.unanswered ?? []), [card, file]];
  form.hidden = false;
  byId("key-text").focus();
}

function useKey(event) {
  event.preventDefault();
  const form = byId("key");
  const input = byId("key-text");
  const key = input.value.trim();
  const plain = /^[\x21-\x7e]+$/.test(key); // no other character can be sent in a header
  input.setCustomValidity(plain ? "" : "A key has plain letters, digits and signs only");
  if (!input.reportValidity()) return;
  sessionStorage.setItem("key", key);
  form.hidden = true;
  form.reset();
  const requests = form.unanswered;
  form.unanswered = [];
  focusOn(requests[0][0]);
  recognizeAll(requests);
}

// Pictures: picked, dropped or pasted.

function addPictures(files, folders = []) {
  const requests = files.map((file) => [makeCard(file), file]);
  for (const [card, file] of requests) {
    answers.prepend(card);
    showPreview(card.querySelector(".asked"), file);
  }
  recognizeAll(requests);
  for (const folder of folders) {
    const card = makeCard(folder);
    answers.prepend(card);
    showTrouble(card, folder, new Trouble("folder", 0, "Drop the pictures in it instead."));
  }
}

function addPicked(event) {
  addPictures([...event.target.files]);
  event.target.value = ""; // so that choosing the same picture again is a change
}

function addTransferred(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory ?? false;
  const fileOf = (item) => item.getAsFile();
  addPictures(
    items.filter((item) => !isFolder(item)).map(fileOf),
    items.filter(isFolder).map(fileOf),
  );
}

function dropOnto(place) {
  const mark = (over) => () => place.classList.toggle("over", over);
  document.addEventListener("dragenter", mark(true));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? mark(false)());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false)();
    addTransferred(event.dataTransfer);
  });
}

byId("pick").onchange = addPicked;
byId("photograph").onchange = addPicked;
byId("key").onsubmit = useKey;
byId("key-text").oninput = (event) => event.target.setCustomValidity("");
document.addEventListener("paste", (event) => addTransferred(event.clipboardData));
dropOnto(byId("ask"));
