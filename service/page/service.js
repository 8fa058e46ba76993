// Calls the service. Every failure is a Trouble, with texts for people.

import { redraw } from "./redraw.js";

const NEIGHBORS = 5;
const MAX_RETRIES = 4;
const MAX_BYTES = Number(document.querySelector("meta[name=max-bytes]").content);
const REDRAWN = [413, 415]; // too large, or an unsupported format

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

// Calls `showWait` with the refusal before it waits for a busy service.
export async function recognize(file, showWait) {
  try {
    if (file.size > MAX_BYTES) throw tooLarge();
    return { answer: await predict(file, showWait) };
  } catch (trouble) {
    const drawn = REDRAWN.includes(trouble.status) ? await redraw(file, MAX_BYTES) : null;
    if (!drawn) throw trouble;
    return { answer: await predict(drawn.picture, showWait), drawn };
  }
}

export async function fetchThumbnail(id) {
  return read(await request(`pictures/${encodeURIComponent(id)}`), "blob");
}

function tooLarge() {
  const most = Math.floor(MAX_BYTES / 1e5) / 10;
  const detail = `At most ${most} MB are taken, and this browser cannot make it smaller.`;
  return new Trouble("body-too-large", 413, detail);
}

// Retries when a busy service says so, by Retry-After.
async function predict(picture, showWait) {
  for (let retries = 0; ; retries += 1) {
    try {
      const options = { method: "POST", body: picture };
      return await read(await request(`predict?k=${NEIGHBORS}`, options), "json");
    } catch (trouble) {
      if (trouble.code === "unreachable") await requireReadable(picture);
      if (!trouble.retryAfter || retries === MAX_RETRIES) throw trouble;
      showWait(trouble);
      await new Promise((done) => setTimeout(done, 1000 * trouble.retryAfter));
    }
  }
}

// fetch fails in the same way if the file is gone and if the service is.
async function requireReadable(file) {
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

// The connection may break between the headers and the end of the body.
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
