// Shows pictures and what the service says about them. Whatever comes from pictures, from their
// names or from the service is text to this page, never markup.

import { announce } from "./announce.js";
import { Trouble, fetchThumbnail, recognize } from "./service.js";

const AT_ONCE = 2; // questions on their way; the rest wait here, not at the service

const byId = (id) => document.getElementById(id);
const answers = byId("answers");
const waiting = [];
let asking = 0;
let busy = false; // and that was announced

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
      askAbout([[card, file]]);
    };
  });
}

// The button goes while the card waits; who pressed it shall not be left at the top of the page.
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

function wordAnswer(answer) {
  const parts = [`Confidence ${answer.confidence.toFixed(3)}`];
  if (answer.probability !== null) {
    parts.push(`right with a probability of ${wordProbability(answer.probability)}`);
  }
  const howSure = parts.join(", ");
  if (answer.known !== false) return { headline: answer.name, howSure };
  return { headline: "Not a landmark I know", guess: `Nearest guess: ${answer.name}. ${howSure}.` };
}

// Nothing that was learned from examples is certain.
function wordProbability(probability) {
  if (probability > 0.99) return "over 99\u00a0%";
  if (probability < 0.01) return "under 1\u00a0%";
  return `${Math.round(100 * probability)}\u00a0%`;
}

function wordSent(file, drawn) {
  if (!drawn) return "";
  const how = drawn.picture.size < file.size ? "Made smaller, and sent as" : "Sent as";
  return `${how} a JPEG of ${drawn.width}\u00a0×\u00a0${drawn.height}\u00a0pixels`;
}

function makeNeighbor(neighbor) {
  return show("neighbor", (item) => {
    const name = neighbor.name ?? neighbor.landmark_id;
    put(item, ".name", name);
    put(item, ".similarity", `Similarity ${neighbor.similarity.toFixed(3)}`);
    item.querySelector(".credit").replaceChildren(...wordCredit(neighbor.credit));
    loadThumbnail(item.querySelector("img"), neighbor.picture, name);
  });
}

function wordCredit(credit) {
  if (!credit) return [];
  const text = [credit.title, credit.author, credit.license].filter(Boolean).join(", ");
  if (!/^https?:\/\//i.test(credit.url ?? "")) return [text];
  const link = document.createElement("a");
  Object.assign(link, { href: credit.url, rel: "noreferrer", textContent: text || "Source" });
  return [link];
}

// By fetch and not by src: the key goes along, and a gallery without pictures is no error.
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

// Questions.

async function ask(card, file) {
  try {
    const { answer, drawn } = await recognize(file, (trouble) => tellOfWait(card, trouble));
    busy = false;
    const words = wordAnswer(answer);
    fillCard(card, "answered", { ...words, sent: wordSent(file, drawn) });
    card.querySelector(".neighbors").replaceChildren(...answer.neighbors.map(makeNeighbor));
    announce(`${file.name}: ${words.headline}. ${words.guess ?? ""}`);
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    tellOfTrouble(card, file, trouble);
    if (trouble.status === 401) askForKey(card, file);
  }
}

function tellOfWait(card, trouble) {
  const headline = `${trouble.headline}; trying again in ${trouble.retryAfter} s`;
  fillCard(card, "waiting", { headline });
  if (!busy) announce(`${trouble.headline}; your pictures wait for it.`);
  busy = true;
}

function tellOfTrouble(card, file, trouble) {
  fillCard(card, "trouble", { headline: trouble.headline, howSure: trouble.message });
  card.querySelector(".again").hidden = !trouble.mayPass;
  announce(`${file.name}: ${trouble.headline}. ${trouble.message}`);
}

function askAbout(questions) {
  if (!questions.length) return;
  busy = false;
  for (const [card] of questions) {
    card.querySelector(".again").hidden = true;
    fillCard(card, "waiting", { headline: "Looking …" });
  }
  const [[, file]] = questions;
  announce(`Looking at ${questions.length > 1 ? `${questions.length} pictures` : file.name}.`);
  waiting.push(...questions);
  proceed();
}

function proceed() {
  while (asking < AT_ONCE && waiting.length) {
    asking += 1;
    ask(...waiting.shift()).finally(() => {
      asking -= 1;
      proceed();
    });
  }
}

// A key, where the service wants one.

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
  const plain = /^[\x21-\x7e]+$/.test(key); // nothing else can be sent in a header
  input.setCustomValidity(plain ? "" : "A key has plain letters, digits and signs only");
  if (!input.reportValidity()) return;
  sessionStorage.setItem("key", key);
  form.hidden = true;
  form.reset();
  const questions = form.unanswered;
  form.unanswered = [];
  focusOn(questions[0][0]);
  askAbout(questions);
}

// Pictures, however they come.

function take(files, folders = []) {
  const questions = files.map((file) => [makeCard(file), file]);
  for (const [card, file] of questions) {
    answers.prepend(card);
    showPreview(card.querySelector(".asked"), file);
  }
  askAbout(questions);
  for (const folder of folders) {
    const card = makeCard(folder);
    answers.prepend(card);
    tellOfTrouble(card, folder, new Trouble("folder", 0, "Drop the pictures in it instead."));
  }
}

function takePicked(event) {
  take([...event.target.files]);
  event.target.value = ""; // so that the same picture can be chosen once more
}

function takeTransferred(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const isFolder = (item) => item.webkitGetAsEntry?.()?.isDirectory ?? false;
  const fileOf = (item) => item.getAsFile();
  take(
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
    takeTransferred(event.dataTransfer);
  });
}

byId("pick").onchange = takePicked;
byId("photograph").onchange = takePicked;
byId("key").onsubmit = useKey;
byId("key-text").oninput = (event) => event.target.setCustomValidity("");
document.addEventListener("paste", (event) => takeTransferred(event.clipboardData));
dropOnto(byId("ask"));
