// Joins the parts: pictures come in, wait in a queue, are asked about, and are shown with their
// answers.

import { announce } from "./announce.js";
import { focusOn, makeCard, showAnswer, showPreview, showTrouble, showWaiting } from "./card.js";
import { forget, remember, show as showHistory } from "./history.js";
import { receivePictures } from "./intake.js";
import { askForKey } from "./key.js";
import { byId } from "./nodes.js";
import { recognize } from "./service.js";
import { Trouble } from "./trouble.js";

const MAX_REQUESTS = 2; // at the same time; further pictures wait here, not at the service

const answers = byId("answers");
const queue = [];
let running = 0;
let busyAnnounced = false;

// A request: its file, its card, the control that says that it was removed, and the id under which
// the history remembers it.
function newRequest({ file, isFolder }) {
  const request = { file, isFolder, control: new AbortController(), remembered: null };
  request.card = makeCard(file, {
    again: () => {
      focusOn(request.card); // the button disappears, and focus would jump to the top of the page
      recognizeAll([request]);
    },
    remove: () => remove(request),
  });
  return request;
}

function take(files) {
  const requests = files.map(newRequest);
  answers.prepend(...requests.map(({ card }) => card));
  const pictures = requests.filter(({ isFolder }) => !isFolder);
  for (const { card, file } of pictures) showPreview(card, file);
  recognizeAll(pictures);
  for (const request of requests.filter(({ isFolder }) => isFolder)) {
    fail(request, new Trouble("folder"));
  }
}

function recognizeAll(requests) {
  if (!requests.length) return;
  busyAnnounced = false;
  for (const { card } of requests) showWaiting(card, "Looking …");
  const what = requests.length > 1 ? `${requests.length} pictures` : requests[0].file.name;
  announce(`Looking at ${what}.`);
  queue.push(...requests);
  startNext();
}

function startNext() {
  while (running < MAX_REQUESTS && queue.length) {
    running += 1;
    ask(queue.shift()).finally(() => {
      running -= 1;
      startNext();
    });
  }
}

async function ask(request) {
  const { file, control } = request;
  try {
    const result = await recognize(file, control.signal, (trouble) => wait(request, trouble));
    busyAnnounced = false;
    const words = showAnswer(request, result);
    announce(`${file.name}: ${words.headline}. ${words.guess}`);
    request.remembered = await remember(file, words, result.answer);
    if (control.signal.aborted) forget(request.remembered); // removed meanwhile
  } catch (trouble) {
    if (!(trouble instanceof Trouble)) throw trouble;
    if (!control.signal.aborted) fail(request, trouble);
  }
}

function wait({ card }, trouble) {
  const { headline } = trouble.words;
  showWaiting(card, `${headline}; trying again in ${trouble.retryAfter} s`);
  if (!busyAnnounced) announce(`${headline}; your pictures wait for it.`);
  busyAnnounced = true;
}

function fail(request, trouble) {
  const { headline, advice } = showTrouble(request.card, trouble);
  announce(`${request.file.name}: ${headline}. ${advice}`);
  if (trouble.status === 401) askForKey(request, askWithKey);
}

function askWithKey(requests) {
  const wanted = requests.filter(({ control }) => !control.signal.aborted);
  if (wanted.length) focusOn(wanted[0].card);
  recognizeAll(wanted);
}

function remove({ file, card, control, remembered }) {
  control.abort();
  const place = queue.findIndex((request) => request.control === control);
  if (place >= 0) queue.splice(place, 1);
  if (remembered) forget(remembered);
  const next = card.nextElementSibling ?? card.previousElementSibling;
  card.remove();
  if (next) focusOn(next);
  else byId("pick").focus();
  announce(`${file.name} was removed.`);
}

receivePictures(take);
showHistory();
