// Asks the service. Whatever goes wrong on the way is a Trouble, with words for people.

import { redraw } from "./redraw.js";

const NEIGHBORS = 5;
const MOST_RETRIES = 4;
const MOST_BYTES = Number(document.querySelector("meta[name=max-bytes]").content);
const REDRAWN = [413, 415]; // too large, or of a format that the service does not read

const TROUBLE = {
  "not-a-picture": "This is not a picture that can be read here",
  "picture-undecodable": "This picture is damaged",
  "picture-too-large": "This picture has too many pixels",
  "body-too-large": "This picture is too large",
  "key-refused": "This service needs a key",
  "request-timeout": "The picture took too long to arrive",
  "file-unreadable": "This file cannot be read any more",
  folder: "This is a folder",
  unreachable: "The service does not answer",
};
const TROUBLE_BY_STATUS = {
  413: "This picture is too large",
  429: "The service is busy",
  503: "The service is busy",
  504: "The answer took too long",
};

export class Trouble extends Error {
  constructor(code, status, detail, retryAfter = null) {
    super(detail);
    Object.assign(this, { code, status, retryAfter });
  }

  get headline() {
    return TROUBLE[this.code] ?? TROUBLE_BY_STATUS[this.status] ?? "This did not work";
  }

  get mayPass() {
    return this.code === "unreachable" || this.status >= 429;
  }
}

// Tells, while it waits for a busy service, in how many seconds that is asked again.
export async function recognize(file, tellOfWait) {
  try {
    if (file.size > MOST_BYTES) throw tooLarge();
    return { answer: await predict(file, tellOfWait) };
  } catch (trouble) {
    const drawn = REDRAWN.includes(trouble.status) ? await redraw(file, MOST_BYTES) : null;
    if (!drawn) throw trouble;
    return { answer: await predict(drawn.picture, tellOfWait), drawn };
  }
}

export async function fetchThumbnail(id) {
  return read(await request(`pictures/${encodeURIComponent(id)}`), "blob");
}

function tooLarge() {
  const most = Math.floor(MOST_BYTES / 1e5) / 10;
  const detail = `At most ${most} MB are taken, and this browser cannot make it smaller.`;
  return new Trouble("body-too-large", 413, detail);
}

// A service that is full says when to come again.
async function predict(picture, tellOfWait) {
  for (let tried = 0; ; tried += 1) {
    try {
      const options = { method: "POST", body: picture };
      return await read(await request(`predict?k=${NEIGHBORS}`, options), "json");
    } catch (trouble) {
      if (trouble.code === "unreachable") await demandReadable(picture);
      if (!trouble.retryAfter || tried === MOST_RETRIES) throw trouble;
      tellOfWait(trouble);
      await new Promise((done) => setTimeout(done, 1000 * trouble.retryAfter));
    }
  }
}

// A browser reads a file as it sends it, and fails alike where either end is gone.
async function demandReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    const detail = "It was changed, moved or deleted since it was chosen. Choose it once more.";
    throw new Trouble("file-unreadable", 0, detail);
  }
}

async function request(address, options = {}) {
  const key = sessionStorage.getItem("key");
  const sent = { ...options, headers: key ? { "X-API-Key": key } : {} };
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
