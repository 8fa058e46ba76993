// Asks for the API key, where the service needs one. It is kept until the tab is closed.

import { byId } from "./nodes.js";

const form = byId("key");
const input = byId("key-text");
let waiting = [];
let askAgain = () => {};

export function askForKey(request, ask) {
  waiting.push(request);
  askAgain = ask;
  form.hidden = false;
  input.focus();
}

form.onsubmit = (event) => {
  event.preventDefault();
  const key = input.value.trim();
  const plain = /^[\x21-\x7e]+$/.test(key); // no other character can be sent in a header
  input.setCustomValidity(plain ? "" : "A key has plain letters, digits and signs only");
  if (!input.reportValidity()) return;
  sessionStorage.setItem("key", key);
  form.hidden = true;
  form.reset();
  askAgain(waiting.splice(0));
};
input.oninput = () => input.setCustomValidity("");
