// What a refused call means, in words for a visitor.

/** Longest text of a relay or hub that is shown. */
const TEXT_CHARS_MAX = 300;

/** How the hub names a device that is registered but cannot be reached, and one that it does not know. */
const OFFLINE = ["404103", "404104", "DeviceNotOnline", "DeviceConnectionClosedRemotely"];
const UNKNOWN = ["404001", "404010", "DeviceNotFound", "ModuleNotFound"];

/** One sentence on why a call did not go through; `error` is a `Refusal`, or what `fetch` threw. */
export function explain(error) {
  const { status } = error;
  if (status === undefined) return "The relay cannot be reached.";
  const { text, code } = told(error.message);
  return `${status}: ${headline(status, text, code, error.retryAfterS)}${detail(status, text, code)}`;
}

/** Whether the refusal says that the relay was started without an IoT Hub. */
export function saysNoHub({ status, message }) {
  return status === 400 && (message === "Grant unavailable" || message.startsWith("IoT Hub API disabled"));
}

/** Whether the refusal says that the session is over. */
export function saysNoSession({ status, message }) {
  return status === 404 && message === "No such sessionId";
}

function headline(status, text, code, retryAfterS) {
  if (saysNoHub({ status, message: text })) return "this relay has no IoT Hub connection, so it cannot call devices.";
  switch (status) {
    case 400:
      return "the request was not accepted.";
    case 403:
      return code === "" ? "refused, this session has no grant for it." : "the IoT Hub takes no such calls at present.";
    case 404:
      if (OFFLINE.includes(code)) return "the device is not connected.";
      return UNKNOWN.includes(code) ? "the IoT Hub knows no such device." : "the device is unknown, or not connected.";
    case 412:
      return "the twin has changed meanwhile.";
    case 413:
      return "that is too much data.";
    case 429:
      return retryAfterS === undefined
        ? "too many calls, try again later."
        : `too many calls, try again in ${retryAfterS} s.`;
    case 504:
      return "the device did not answer in time.";
    default:
      return status >= 500 ? "the IoT Hub could not be reached, or failed." : "refused.";
  }
}

/** The relay's or hub's own words, where they say more than the sentence before. */
function detail(status, text, code) {
  return text === "" || (status === 403 && code === "") ? "" : ` (${text.slice(0, TEXT_CHARS_MAX)})`;
}

/**
 * The sentence and the code of an error. Those of the hub are JSON whose `Message` is `ErrorCode:name;sentence`, or the
 * text of another object with `errorCode` and `message`; those of the relay are plain text.
 */
function told(message) {
  let text = message;
  let code = "";
  for (let depth = 0; depth < 3; depth += 1) {
    const inner = objectIn(text);
    const sentence = inner?.Message ?? inner?.message;
    if (typeof sentence !== "string") break;
    text = sentence;
    code = String(inner.errorCode ?? code);
  }
  const [, name, sentence] = /^ErrorCode:(\w+);?\s*(.*)$/s.exec(text) ?? [null, code, text];
  return { text: sentence.trim(), code: name };
}

function objectIn(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
