// The direct methods called on one device from this page, newest first.

/** Calls remembered for one device; the oldest that is over goes first. */
const CALLS_MAX = 10;

/** Calls under way at once for one device. */
const RUNNING_MAX = 4;

let lastId = 0;

export class MethodCalls {
  list = [];

  get running() {
    return this.list.filter(({ state }) => state === "running").length;
  }

  get full() {
    return this.running >= RUNNING_MAX;
  }

  /** Notes a call that begins now. */
  begin({ name, payload }) {
    lastId += 1;
    const call = { id: lastId, name, payload, startedMs: performance.now(), state: "running", durationMs: 0 };
    this.list.unshift(call);
    while (this.list.length > CALLS_MAX) {
      const oldest = this.list.findLastIndex(({ state }) => state !== "running");
      this.list.splice(oldest, 1);
    }
    return call;
  }
}

/** The device has answered, with a status of its own. */
export function noteAnswer(call, { status, payload }) {
  end(call, "answered");
  call.status = status;
  call.result = payload;
}

/** The call did not reach the device, or its answer not this page. */
export function noteProblem(call, error) {
  end(call, "refused");
  call.status = error.status;
  call.problem = error;
}

function end(call, state) {
  call.state = state;
  call.durationMs = performance.now() - call.startedMs;
}
