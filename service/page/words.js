// What the page says of answers. Pure: no document, no service.

const SURE = [
  [0.95, "Very sure"],
  [0.8, "Sure"],
  [0.5, "Fairly sure"],
  [0, "Not sure"],
];
// Of cosines, while nothing is calibrated; rough, since embedders differ.
const ALIKE = [
  [0.8, "Very similar"],
  [0.6, "Similar"],
  [0.4, "Somewhat similar"],
  [-Infinity, "Hardly similar"],
];
const UNLIKE = 0.4;

const wordOf = (scale, value) => scale.find(([least]) => value >= least)[1];

// `level` is the length of the bar, 0 to 1.
export function describeAnswer({ name, confidence, probability, known }) {
  const calibrated = probability !== null;
  const level = calibrated ? probability : Math.min(1, Math.max(0, confidence));
  const word = known === false ? "Not sure enough" : wordOf(SURE, probability);
  const sure = calibrated
    ? `${word}: right with a probability of ${formatProbability(probability)}`
    : `${wordOf(ALIKE, confidence)} to its pictures. Confidence ${confidence.toFixed(2)}`;
  if (known) return { headline: name, guess: "", sure, level };
  if (known === false) {
    const likely = level >= 0.5; // below the threshold all the same
    const headline = likely ? "I am not sure that I know this" : "Probably not a landmark I know";
    return { headline, guess: `Nearest guess: ${name}.`, sure, level };
  }
  if (confidence < UNLIKE) {
    return { headline: "Perhaps no landmark I know", guess: `Best guess: ${name}.`, sure, level };
  }
  const guess = "It may be no landmark at all: compare the pictures.";
  return { headline: `Best guess: ${name}`, guess, sure, level };
}

// A learned probability is never certainty.
function formatProbability(probability) {
  if (probability > 0.99) return "over 99\u00a0%";
  if (probability < 0.01) return "under 1\u00a0%";
  return `${Math.round(100 * probability)}\u00a0%`;
}

// `sent` has a width only if the picture was drawn anew.
export function describeConversion(file, sent) {
  if (!sent.width) return "";
  const how = sent.picture.size < file.size ? "Made smaller, and sent as" : "Sent as";
  return `${how} a JPEG of ${sent.width}\u00a0×\u00a0${sent.height}\u00a0pixels`;
}
