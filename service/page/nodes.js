// Makes and fills elements. Names of files and texts of the service are inserted as text, never as
// markup.

export const byId = (id) => document.getElementById(id);

export function fromTemplate(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

export function put(place, selector, text) {
  const line = place.querySelector(selector);
  line.textContent = text;
  line.hidden = !text;
}

export const isWebAddress = (address) => /^https?:\/\//i.test(address ?? "");

// Links to other sites open beside the answers; what is no address of the web stays text.
export function linkOrText(address, text) {
  if (!isWebAddress(address)) return text;
  const link = document.createElement("a");
  const opened = { target: "_blank", rel: "noopener noreferrer" };
  return Object.assign(link, { href: address, textContent: text, ...opened });
}

export function showLink(place, address, text) {
  const line = place.querySelector(".about");
  line.replaceChildren(linkOrText(address, text));
  line.hidden = !isWebAddress(address);
}

// Shows a picture that is not kept beyond `image`; hides what this browser cannot show.
export function showBlob(image, blob, alt) {
  const address = URL.createObjectURL(blob);
  image.hidden = false;
  image.alt = alt;
  image.onload = () => URL.revokeObjectURL(address);
  image.onerror = () => {
    URL.revokeObjectURL(address);
    image.hidden = true;
  };
  image.src = address;
}
