// A page with hooks of the published `ux4iot-react` 2.0.2, which a test mounts and unmounts from outside. What happens is
// told as `{event, …}`: what a hook shows and was given, and how its calls ended.

import React from "react";
import ReactDOM from "react-dom";
import {
  Ux4iotContextProvider,
  useConnectionState,
  useD2CMessages,
  useDeviceTwin,
  useDirectMethod,
  useMultiTelemetry,
  useTelemetry,
} from "ux4iot-react";

const { url, key } = JSON.parse(decodeURIComponent(location.hash.slice(1)));

/** In development mode the library asks for its grants by itself. */
const options = { adminConnectionString: `Endpoint=${url};SharedAccessKey=${key}` };

/** What a mounted hook can be asked for, by its id. */
const methods = {};

/** Each hook with its inputs in one object. */
const hooks = {
  telemetry: ({ deviceId, telemetryKey }, callbacks) => useTelemetry(deviceId, telemetryKey, callbacks),
  connectionState: ({ deviceId }, callbacks) => useConnectionState(deviceId, callbacks),
  deviceTwin: ({ deviceId }, callbacks) => useDeviceTwin(deviceId, callbacks),
  d2cMessages: ({ deviceId }, callbacks) => useD2CMessages(deviceId, callbacks),
  multiTelemetry: ({ initialSubscribers }, callbacks, id) => {
    const { telemetry, toggleTelemetry } = useMultiTelemetry({ initialSubscribers, ...callbacks });
    methods[id] = toggleTelemetry;
    return telemetry;
  },
  directMethod: ({ deviceId, methodName }, callbacks, id) => {
    methods[id] = useDirectMethod(deviceId, methodName, callbacks);
  },
};

function Hook({ id, hook, inputs }) {
  const value = hooks[hook](
    inputs,
    {
      onData: (...data) => tell({ event: "data", id, data }),
      onGrantError: (outcome) => tell({ event: "grantError", id, outcome }),
    },
    id,
  );
  React.useEffect(() => {
    if (value !== undefined) tell({ event: "shows", id, value });
  }, [id, value]);
  return null;
}

function Page() {
  const [mounted, setMounted] = React.useState({});
  React.useEffect(() => {
    window.command = {
      mount: ({ id, hook, inputs }) => setMounted((before) => ({ ...before, [id]: { hook, inputs } })),
      unmount: ({ id }) => setMounted(({ [id]: _, ...others }) => others),
      call: async ({ id, args }) => {
        try {
          tell({ event: "answer", id, value: (await methods[id](...args)) ?? null });
        } catch (error) {
          tell({ event: "failure", id, status: error.response?.status ?? null });
        }
      },
    };
    tell({ event: "ready" });
  }, []);
  return (
    <Ux4iotContextProvider options={options}>
      {Object.entries(mounted).map(([id, { hook, inputs }]) => (
        <Hook key={id} id={id} hook={hook} inputs={inputs} />
      ))}
    </Ux4iotContextProvider>
  );
}

ReactDOM.render(<Page />, document.getElementById("root"));
