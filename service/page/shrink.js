// Draws a picture anew as a smaller JPEG, upright as its EXIF says: one that is large, or of a format
// that this browser reads and the service does not.

const SIDES = [1600, 800, 400]; // pixels, the longer side; networks see fewer
const QUALITY = 0.85;

// Returns null if this browser cannot read the file, or cannot make it small enough.
export async function redraw(file, maxBytes) {
  return withBitmap(file, async (bitmap) => {
    for (const side of SIDES) {
      const canvas = draw(bitmap, side);
      const picture = await new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
      if (picture && picture.size <= maxBytes) {
        return { picture, width: canvas.width, height: canvas.height };
      }
    }
    return null;
  });
}

// Returns a data URL; null if this browser cannot read the file.
export async function thumbnailOf(file, side) {
  return withBitmap(file, (bitmap) => draw(bitmap, side).toDataURL("image/jpeg", QUALITY));
}

async function withBitmap(file, use) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return null;
  try {
    return await use(bitmap);
  } finally {
    bitmap.close();
  }
}

function draw(bitmap, side) {
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
  return canvas;
}
