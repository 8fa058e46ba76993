// Asks the service about pictures and shows what it says. Whatever comes from pictures, from their
// names or from the service is text to this page, never markup.

const NEIGHBORS = 5;
const AT_ONCE = 2; // questions on their way; the rest wait here, not at the service
const MOST_RETRIES = 4;

const byId = (id) => document.getElementById(id);
const answers = byId("answers");
const waiting = [];
let asking = 0;

const TROUBLE = {
  "not-a-picture": "This is not a picture that can be read here",
  "picture-undecodable": "This picture is damaged",
  "picture-too-large": "This picture has too many pixels",
  "body-too-large": "This picture is too large",
  "key-refused": "This service needs a key",
  "request-timeout": "The picture took too long to arrive",
  unreachable: "The service does not answer",
};
const TROUBLE_BY_STATUS = {
  429: "The service is busy",
  503: "The service is busy",
  504: "The answer took too long",
};

class Trouble extends Error {
  constructor(code, status, detail, retryAfter = null) {
    super(detail);
    Object.assign(this, { code, status, retryAfter });
  }

  get headline() {
    return TROUBLE[this.code] ?? TROUBLE_BY_STATUS[this.status] ?? "This did not work";
  }
}

function headers() {
  const key = sessionStorage.getItem("key");
  return key ? { "X-API-Key": key } : {};
}

async function request(address, options = {}) {
  const sent = { ...options, headers: headers() };
  let response;
  try {
    response = await fetch(address, sent);
  } catch {
    throw new Trouble("unreachable", 0, "Is it running, and are you connected?");
  }
  if (!response.ok) throw await troubleOf(response);
  return response;
}

// The body comes after the headers, and may break off.
async function read(response, kind) {
  try {
    return await response[kind]();
  } catch {
    throw new Trouble("unreachable", 0, "The answer broke off.");
  }
}

async function troubleOf(response) {
  const problem = await response.json().catch(() => ({}));
  const seconds = Number(response.headers.get("Retry-After")) || null;
  return new Trouble(problem.code, response.status, problem.detail ?? "", seconds);
}

// A service that is full says when to come again.
async function predict(file, tell) {
  for (let tried = 0; ; tried += 1) {
    try {
      const options = { method: "POST", body: file };
      return await read(await request(`predict?k=${NEIGHBORS}`, options), "json");
    } catch (trouble) {
      if (!trouble.retryAfter || tried === MOST_RETRIES) throw trouble;
      tell(`${trouble.headline}; trying again in ${trouble.retryAfter} s`);
      await new Promise((done) => setTimeout(done, 1000 * trouble.retryAfter));
    }
  }
}

function show(template, fill) {
  const made = byId(template).content.firstElementChild.cloneNode(true);
  const put = (selector, text) => {
    const place = made.querySelector(selector);
    place.textContent = text;
    place.hidden = !text;
  };
  fill(made, put);
  return made;
}

function say(text) {
  byId("status").textContent = text;
}

function makeCard(file) {
  return show("card", (card, put) => {
    put(".file", file.name);
    showPreview(card.querySelector(".asked"), file);
  });
}

function showPreview(image, file) {
  const address = URL.createObjectURL(file);
  image.alt = `Your picture ${file.name}`;
  image.onload = () => URL.revokeObjectURL(address);
  image.onerror = () => {
    URL.revokeObjectURL(address);
    image.hidden = true;
  };
  image.src = address;
}

function fillCard(card, state, [headline, howSure = "", guess = ""], neighbors = []) {
  card.className = `card ${state}`;
  const lines = { h2: headline, ".how-sure": howSure, ".guess": guess };
  for (const [selector, text] of Object.entries(lines)) {
    const line = card.querySelector(selector);
    line.textContent = text;
    line.hidden = !text;
  }
  card.querySelector(".neighbors").replaceChildren(...neighbors.map(makeNeighbor));
}

function wordAnswer(answer) {
  const parts = [`Confidence ${answer.confidence.toFixed(3)}`];
  if (answer.probability !== null) {
    parts.push(`right with a probability of ${Math.round(100 * answer.probability)} %`);
  }
  const howSure = parts.join(", ");
  if (answer.known !== false) return [answer.name, howSure];
  return ["Not a landmark I know", "", `Nearest guess: ${answer.name}. ${howSure}.`];
}

function makeNeighbor(neighbor) {
  return show("neighbor", (item, put) => {
    const name = neighbor.name ?? neighbor.landmark_id;
    put(".name", name);
    put(".similarity", `Similarity ${neighbor.similarity.toFixed(3)}`);
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
    const response = await request(`pictures/${encodeURIComponent(id)}`);
    const address = URL.createObjectURL(await read(response, "blob"));
    image.onload = () => URL.revokeObjectURL(address);
    image.alt = `A picture of ${name}`;
    image.src = address;
    image.hidden = false;
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
  }
}

async function ask(card, file) {
  const again = card.querySelector(".again");
  try {
    const answer = await predict(file, (text) => fillCard(card, "waiting", [text]));
    const words = wordAnswer(answer);
    fillCard(card, "answered", words, answer.neighbors ?? []);
    say(`${file.name}: ${words.filter(Boolean).join(". ")}`);
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    fillCard(card, "trouble", [trouble.headline, trouble.message]);
    say(`${file.name}: ${trouble.headline}. ${trouble.message}`);
    again.hidden = trouble.status !== 0 && trouble.status < 429;
    if (trouble.status === 401) askForKey(card, file);
  }
}

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
  for (const [card, file] of form.unanswered ?? []) enqueue(card, file);
  form.unanswered = [];
}

function enqueue(card, file) {
  card.querySelector(".again").hidden = true;
  fillCard(card, "waiting", ["Looking …"]);
  waiting.push([card, file]);
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

function take(files) {
  for (const file of files) {
    const card = makeCard(file);
    card.querySelector(".again").onclick = () => enqueue(card, file);
    answers.prepend(card);
    enqueue(card, file);
  }
}

function takePicked(event) {
  take([...event.target.files]);
  event.target.value = ""; // so that the same picture can be chosen once more
}

function dropOnto(place) {
  const mark = (over) => () => place.classList.toggle("over", over);
  document.addEventListener("dragenter", mark(true));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? mark(false)());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false)();
    take([...event.dataTransfer.files]);
  });
}

byId("pick").onchange = takePicked;
byId("photograph").onchange = takePicked;
byId("key").onsubmit = useKey;
byId("key-text").oninput = (event) => event.target.setCustomValidity("");
document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
dropOnto(byId("ask"));
