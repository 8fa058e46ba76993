// Pictures come in: picked, taken, dropped or pasted.

import { byId } from "./nodes.js";

// Calls `take` with the files in their order, each as { file, isFolder }.
export function receivePictures(take) {
  const takePicked = (event) => {
    take([...event.target.files].map((file) => ({ file, isFolder: false })));
    event.target.value = ""; // so that choosing the same picture again is a change
  };
  byId("pick").onchange = takePicked;
  byId("photograph").onchange = takePicked;
  // Browsers that do not open a camera for such a button do not know its attribute.
  byId("camera").hidden = !("capture" in HTMLInputElement.prototype);
  document.addEventListener("paste", (event) => take(filesOf(event.clipboardData)));
  receiveDrops(byId("ask"), take);
}

function filesOf(transfer) {
  return [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => ({
      file: item.getAsFile(),
      isFolder: item.webkitGetAsEntry?.()?.isDirectory ?? false,
    }));
}

function receiveDrops(place, take) {
  const mark = (over) => place.classList.toggle("over", over);
  document.addEventListener("dragenter", () => mark(true));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? mark(false));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    take(filesOf(event.dataTransfer));
  });
}
