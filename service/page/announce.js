// Announces changes of the cards to screen readers. They may drop a message that a newer one
// replaces, so messages within a moment become one line, and lines are added, never rewritten.

const MOMENT_MILLISECONDS = 600;
const LINES_KEPT = 10;

const region = document.getElementById("news");
const pending = [];

export function announce(text) {
  if (!pending.length) setTimeout(flush, MOMENT_MILLISECONDS);
  pending.push(text);
}

function flush() {
  const line = document.createElement("p");
  line.textContent = pending.splice(0).join(" ");
  region.append(line);
  if (region.children.length > LINES_KEPT) region.firstElementChild.remove();
}
