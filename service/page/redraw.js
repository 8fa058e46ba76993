// Converts a picture to a smaller JPEG: one that is too large for the service, or of a format that
// this browser reads and the service does not.

const SIDES = [1600, 800, 400]; // pixels, the longer side; networks see fewer
const QUALITY = 0.85;

// Returns null if this browser cannot read the file, or cannot make it small enough.
export async function redraw(file, maxBytes) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return null;
  try {
    for (const side of SIDES) {
      const drawn = await draw(bitmap, side);
      if (drawn.picture && drawn.picture.size <= maxBytes) return drawn;
    }
    return null;
  } finally {
    bitmap.close();
  }
}

async function draw(bitmap, side) {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((length) =>
    Math.max(1, Math.round(scale * length)),
  );
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.fillStyle = "white"; // behind transparency, as in the service
  pen.fillRect(0, 0, width, height);
  pen.drawImage(bitmap, 0, 0, width, height);
  const picture = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
  return { picture, width, height };
}
