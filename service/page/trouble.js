// What went wrong, by the service's stable code or by one of this page's own, in words for people.
// The service's own texts are for those who write programs, and are not shown.

export const MAX_BYTES = Number(document.querySelector("meta[name=max-bytes]").content);

const BUSY = ["The service is busy", "Too many pictures are waiting. Try again in a minute."];
const MISFIT = ["This did not work", "Load this page again; it may be older than the service."];
const SLOW = ["The answer took too long", "The service or the connection is slow. Try again."];

const WORDS = {
  // The picture.
  "not-a-picture": [
    "This is not a picture that can be read here",
    "A photograph saved as JPEG or PNG can be read.",
  ],
  "picture-undecodable": [
    "This picture is damaged",
    "Open it in another program, save it anew, and choose it once more.",
  ],
  "picture-refused": ["This picture cannot be used", "Try another one."],
  "picture-too-large": ["This picture has too many pixels", "Save it smaller, and choose it again."],
  "body-too-large": [
    "This picture is too large",
    `At most ${Math.floor(MAX_BYTES / 1e5) / 10} MB are taken, and this browser cannot make it smaller.`,
  ],
  "file-unreadable": [
    "This file cannot be read any more",
    "It was changed, moved or deleted since it was chosen. Choose it once more.",
  ],
  folder: ["This is a folder", "Drop the pictures in it instead."],
  // The service.
  "key-refused": ["This service needs a key", "Those who run it can give you one."],
  "too-many-pictures": BUSY,
  overloaded: BUSY,
  "out-of-memory": BUSY,
  stopping: BUSY,
  "not-ready": ["The service is not ready", "Try again in a minute."],
  "worker-died": ["The service failed", "Try again in a minute."],
  "host-refused": ["This address is not allowed", "Open the page by the service's own address."],
  internal: ["The service failed", "If it happens again, tell those who run it."],
  // The connection.
  unreachable: ["The service does not answer", "Is it running, and are you connected?"],
  "request-timeout": ["The picture took too long to arrive", "The connection is slow. Try again."],
  "too-slow": ["The picture took too long to arrive", "The connection is slow. Try again."],
  "client-left": ["The picture did not arrive", "The connection broke off. Try again."],
  deadline: SLOW,
  timeout: SLOW,
  // A page and a service that do not belong together.
  "bad-parameters": MISFIT,
  "bad-form": MISFIT,
  "multipart-malformed": MISFIT,
  "request-refused": MISFIT,
  "id-unknown": MISFIT,
  "nothing-to-search": MISFIT,
  "json-malformed": MISFIT,
};
const BY_STATUS = {
  413: WORDS["body-too-large"],
  429: BUSY,
  502: WORDS.unreachable, // of a proxy
  503: BUSY,
  504: SLOW,
};

export class Trouble extends Error {
  constructor(code, { status = 0, retryAfter = null, reference = "" } = {}) {
    super(code);
    Object.assign(this, { code, status, retryAfter, reference });
  }

  get words() {
    const [headline, advice] = WORDS[this.code] ?? BY_STATUS[this.status] ?? WORDS.internal;
    const reference = this.status >= 500 && this.reference ? ` Reference: ${this.reference}` : "";
    return { headline, advice: advice + reference };
  }

  get mayPass() {
    return ["unreachable", "timeout"].includes(this.code) || this.status >= 429 || this.status === 408;
  }
}
