// A back end written with Microsoft's service SDK for JavaScript, driven by tests written in Rust.
//
//   node iot_hub_service.mjs steps INPUT
//
// INPUT is a JSON object with `connectionString`, whose host may have a port, and `steps`: [[NAME, ARGUMENT, ..], ..]
// with the names below. Steps are done in order. The outcome is one line of JSON on stdout: a list with { ok } or, when
// the SDK gave up, { error: { status, name, body } } for each step.

import https from "node:https";

import iothub from "azure-iothub";

// The SDK always connects to port 443 of its host, unless its agent has another.
function reach(connectionString) {
  const [, host, port] = /HostName=([^;:]+)(?::(\d+))?;/.exec(connectionString);
  const withoutPort = connectionString.replace(/HostName=[^;]+/, `HostName=${host}`);
  const agent = new https.Agent({ keepAlive: true });
  agent.defaultPort = Number(port ?? 443);
  const registry = iothub.Registry.fromConnectionString(withoutPort);
  const client = iothub.Client.fromConnectionString(withoutPort);
  for (const { _restApiClient } of [registry, client]) {
    _restApiClient.setOptions({ http: { agent } });
  }
  return { registry, client, close: () => agent.destroy() };
}

const steps = {
  createDevice: ({ registry }, device) => registry.create(device),
  getDevice: ({ registry }, id) => registry.get(id),
  listDevices: ({ registry }) => registry.list(),
  updateDevice: ({ registry }, device) => registry.update(device),
  deleteDevice: ({ registry }, id) => registry.delete(id),
  addDevices: ({ registry }, devices) => registry.addDevices(devices),
  statistics: ({ registry }) => registry.getRegistryStatistics(),

  createModule: ({ registry }, module) => registry.addModule(module),
  getModule: ({ registry }, deviceId, moduleId) => registry.getModule(deviceId, moduleId),
  listModules: ({ registry }, deviceId) => registry.getModulesOnDevice(deviceId),
  deleteModule: ({ registry }, deviceId, moduleId) => registry.removeModule(deviceId, moduleId),

  getTwin: ({ registry }, deviceId, moduleId) =>
    moduleId ? registry.getModuleTwin(deviceId, moduleId) : registry.getTwin(deviceId),
  updateTwin: ({ registry }, deviceId, moduleId, patch, etag) =>
    moduleId
      ? registry.updateModuleTwin(deviceId, moduleId, patch, etag)
      : registry.updateTwin(deviceId, patch, etag),
  // By the twin itself, which sends the etag that it has read.
  async readAndUpdateTwin({ registry }, deviceId, patch) {
    const { responseBody: twin } = await registry.getTwin(deviceId);
    return await twin.update(patch);
  },

  // All pages, each a list of device ids.
  async query({ registry }, text, pageSize) {
    const query = registry.createQuery(text, pageSize);
    const pages = [];
    while (query.hasMoreResults) {
      const { result } = await query.nextAsTwin();
      pages.push(result.map((twin) => twin.deviceId));
    }
    return pages;
  },

  invokeMethod: ({ client }, deviceId, moduleId, call) =>
    moduleId
      ? client.invokeDeviceMethod(deviceId, moduleId, call)
      : client.invokeDeviceMethod(deviceId, call),
};

// The SDK adds the HTTP response, and to a twin itself, neither of which has a JSON form.
function plain(result) {
  const value = result?.responseBody ?? result?.result ?? result;
  return JSON.parse(JSON.stringify(value ?? null, (key, inner) => (key === "_registry" ? undefined : inner)));
}

async function done(back, [name, ...given]) {
  try {
    return { ok: plain(await steps[name](back, ...given)) };
  } catch (error) {
    if (error.response === undefined) {
      throw error;
    }
    return {
      error: {
        status: error.response.statusCode,
        name: error.name,
        body: JSON.parse(error.responseBody),
      },
    };
  }
}

const [scenario, input] = process.argv.slice(2);
if (scenario !== "steps" || input === undefined) {
  console.error("usage: node iot_hub_service.mjs steps INPUT");
  process.exit(2);
}
const { connectionString, steps: wanted } = JSON.parse(input);
const back = reach(connectionString);
const outcomes = [];
for (const step of wanted) {
  outcomes.push(await done(back, step));
}
back.close();
console.log(JSON.stringify(outcomes));
