// What was asked before, in this browser only: small copies of the pictures, and the answers.

import { byId, fromTemplate, put, showBlob, showLink } from "./nodes.js";
import { thumbnailOf } from "./shrink.js";

const NAME = "history";
const MOST = 30;
const SIDE = 128; // pixels

const section = byId("history");

// Returns the id of what is remembered, for `forget`.
export async function remember(file, words, answer) {
  const { headline, guess, sure } = words;
  const entry = {
    id: crypto.getRandomValues(new Uint32Array(2)).join("-"),
    time: Date.now(),
    file: file.name,
    headline,
    detail: [guess, sure].filter(Boolean).join(" "),
    name: answer.name,
    url: answer.url ?? null,
    thumbnail: await thumbnailOf(file, SIDE),
  };
  save([entry, ...load()].slice(0, MOST));
  return entry.id;
}

export function forget(id) {
  save(load().filter((entry) => entry.id !== id));
}

// A browser may refuse to keep anything, and what another version kept may be anything.
function load() {
  try {
    const entries = JSON.parse(localStorage.getItem(NAME));
    return Array.isArray(entries) ? entries : [];
  } catch {
    return [];
  }
}

function save(entries) {
  try {
    if (entries.length) localStorage.setItem(NAME, JSON.stringify(entries));
    else localStorage.removeItem(NAME);
  } catch {
    // Not kept.
  }
  show();
}

export function show() {
  const entries = load();
  section.hidden = !entries.length;
  section.querySelector("summary").textContent = `Earlier pictures (${entries.length})`;
  section.querySelector("ol").replaceChildren(...entries.map(item));
}

function item(entry) {
  const made = fromTemplate("remembered");
  put(made, ".headline", entry.headline);
  const time = new Date(entry.time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  put(made, ".detail", `${entry.file}, ${time}. ${entry.detail}`);
  showLink(made, entry.url, `Read about ${entry.name}`);
  const image = made.querySelector("img");
  if (entry.thumbnail) showBlob(image, blobOf(entry.thumbnail), "");
  else image.hidden = true;
  return made;
}

// The page's policy lets it show blobs and no data URLs.
function blobOf(address) {
  const bytes = atob(address.slice(address.indexOf(",") + 1));
  return new Blob([Uint8Array.from(bytes, (letter) => letter.charCodeAt(0))], { type: "image/jpeg" });
}

section.querySelector("button").onclick = () => save([]);
