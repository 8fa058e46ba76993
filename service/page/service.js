// Calls the service. Every failure is a Trouble; nothing is waited for without a limit.

import { redraw } from "./shrink.js";
import { MAX_BYTES, Trouble } from "./trouble.js";

const NEIGHBORS = 5;
const LANDMARKS = 5; // the answer, and up to four other possibilities
const MAX_RETRIES = 4;
const SECONDS = { predict: 120, picture: 30 };
const WORTH_SHRINKING_BYTES = 500_000;
const REDRAWN = ["body-too-large", "picture-too-large", "not-a-picture"];

// Sends a smaller copy of a large picture, if this browser can read it. Calls `showWait` with the
// refusal before it waits for a busy service. `removed` is the signal that nobody wants the answer.
export async function recognize(file, removed, showWait) {
  const small = file.size > WORTH_SHRINKING_BYTES ? await redraw(file, MAX_BYTES) : null;
  const picture = small?.picture.size < file.size ? small : { picture: file };
  if (picture.picture.size > MAX_BYTES) return recognizeRedrawn(file, removed, showWait);
  try {
    return { answer: await predict(picture.picture, removed, showWait), ...picture };
  } catch (trouble) {
    if (!REDRAWN.includes(trouble.code) || picture === small) throw trouble;
    return recognizeRedrawn(file, removed, showWait, trouble);
  }
}

async function recognizeRedrawn(file, removed, showWait, trouble = new Trouble("body-too-large")) {
  const drawn = await redraw(file, MAX_BYTES);
  if (!drawn) throw trouble;
  return { answer: await predict(drawn.picture, removed, showWait), ...drawn };
}

export async function fetchThumbnail(id, removed) {
  return call(`pictures/${encodeURIComponent(id)}`, "blob", SECONDS.picture, removed);
}

// Retries when a busy service says so, by Retry-After.
async function predict(picture, removed, showWait) {
  const address = `predict?k=${NEIGHBORS}&landmarks=${LANDMARKS}`;
  for (let retries = 0; ; retries += 1) {
    try {
      const options = { method: "POST", body: picture };
      return await call(address, "json", SECONDS.predict, removed, options);
    } catch (trouble) {
      if (trouble.code === "unreachable") await requireReadable(picture);
      if (!trouble.retryAfter || retries === MAX_RETRIES) throw trouble;
      showWait(trouble);
      await pause(trouble.retryAfter, removed);
    }
  }
}

function pause(seconds, removed) {
  return new Promise((done) => {
    setTimeout(done, 1000 * seconds);
    removed.addEventListener("abort", done);
  });
}

// fetch fails in the same way if the file is gone and if the service is.
async function requireReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Trouble("file-unreadable");
  }
}

async function call(address, kind, seconds, removed, options = {}) {
  const key = sessionStorage.getItem("key");
  const limit = AbortSignal.timeout(1000 * seconds);
  const signal = AbortSignal.any([removed, limit]);
  try {
    const response = await fetch(address, {
      ...options,
      signal,
      headers: key ? { "X-API-Key": key } : {},
    });
    if (response.ok) return await response[kind]();
    throw await troubleOf(response);
  } catch (error) {
    if (error instanceof Trouble) throw error;
    if (removed.aborted) throw new Trouble("removed");
    throw new Trouble(limit.aborted ? "timeout" : "unreachable");
  }
}

async function troubleOf(response) {
  const problem = await response.json().catch(() => ({}));
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  const reference = problem.request_id ?? "";
  return new Trouble(problem.code, { status: response.status, retryAfter, reference });
}
