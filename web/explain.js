// What a refused call means, in words for a visitor.

/** Longest text of a relay or hub that is shown. */
const TEXT_CHARS_MAX = 300;

/** One sentence on why a call did not go through; `error` is a `Refusal`, or what `fetch` threw. */
export function explain(error) {
  const { status } = error;
  if (status === undefined) return "The relay cannot be reached.";
  const text = textOf(error.message);
  return `${status}: ${headline(status, text, error.retryAfterS)}${detail(status, text)}`;
}

/** Whether the refusal says that the relay was started without an IoT Hub. */
export function saysNoHub({ status, message }) {
  return status === 400 && (message === "Grant unavailable" || message.startsWith("IoT Hub API disabled"));
}

/** Whether the refusal says that the session is over. */
export function saysNoSession({ status, message }) {
  return status === 404 && message === "No such sessionId";
}

function headline(status, text, retryAfterS) {
  if (saysNoHub({ status, message: text })) return "this relay has no IoT Hub connection, so it cannot call devices.";
  switch (status) {
    case 400:
      return "the request was not accepted.";
    case 403:
      return "refused, this session has no grant for it.";
    case 404:
      return "the device is unknown, or not online.";
    case 412:
      return "the twin has changed meanwhile.";
    case 413:
      return "that is too much data.";
    case 429:
      return retryAfterS === undefined ? "too many calls, try again later." : `too many calls, try again in ${retryAfterS} s.`;
    case 504:
      return "the device did not answer in time.";
    default:
      return status >= 500 ? "the IoT Hub could not be reached, or failed." : "refused.";
  }
}

/** The relay's or hub's own words, where they say more than the sentence before. */
function detail(status, text) {
  return status === 403 || text === "" ? "" : ` (${text.slice(0, TEXT_CHARS_MAX)})`;
}

/** Answers of the hub are JSON with the sentence somewhere inside, at times as JSON in a text. */
function textOf(message) {
  let text = message;
  for (let depth = 0; depth < 3; depth += 1) {
    let inner;
    try {
      const { Message, message: lower } = JSON.parse(text);
      inner = Message ?? lower;
    } catch {
      break;
    }
    if (typeof inner !== "string") break;
    text = inner;
  }
  return text.trim();
}
