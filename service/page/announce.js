// Tells those who do not see the cards what happens on them. A screen reader may drop what a change
// overtakes, so what happens in a moment is one line, and lines are added and never rewritten.

const MOMENT_MILLISECONDS = 600;
const LINES_KEPT = 10;

const region = document.getElementById("news");
const untold = [];

export function announce(text) {
  if (!untold.length) setTimeout(tell, MOMENT_MILLISECONDS);
  untold.push(text);
}

function tell() {
  const line = document.createElement("p");
  line.textContent = untold.splice(0).join(" ");
  region.append(line);
  if (region.children.length > LINES_KEPT) region.firstElementChild.remove();
}
