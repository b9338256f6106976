// A security backend for hubrelay and ux4iot: it knows its users, decides which devices they may see, and tells the
// relay. Node.js 20 or newer, no packages. docs/security-backend.md explains it.
//
//   RELAY_CONNECTION_STRING   Endpoint=https://…;SharedAccessKey=…     required
//   USERS_FILE                who may see what; see ../users.json      required
//   GRANT_TOKEN_SECRET        signs grant tokens; without it there are none
//   ALLOWED_ORIGIN            origin of the pages that may call from a browser
//   LISTEN                    default 127.0.0.1:3000

import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const BODY_BYTES_MAX = 16 * 1024;
const CLIENT_TIMEOUT_MS = 10_000;
const RELAY_TIMEOUT_MS = 5_000;
const GRANT_TOKEN_LIFETIME_S = 300;
// What of a grant request is passed on, and nothing else of it.
const NARROWED_BY = { telemetry: "telemetryKey", directMethod: "directMethodName" };

const relay = parseConnectionString(required("RELAY_CONNECTION_STRING"));
const users = JSON.parse(readFileSync(required("USERS_FILE"), "utf8"));
const grantTokenSecret = process.env.GRANT_TOKEN_SECRET;

class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

// ---- Who is it? YOUR OWN LOGIN GOES HERE: verify the session cookie or the OpenID Connect token of your users. ----
// Only hashes of tokens are stored. All of them are compared, in constant time.
function authenticate(request) {
  const [, token = ""] = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "") ?? [];
  const presented = createHash("sha256").update(token).digest();
  let found;
  for (const user of users) {
    if (timingSafeEqual(presented, Buffer.from(user.tokenSha256, "hex"))) found = user;
  }
  if (!found) throw new Refusal(401, "Log in first");
  return found;
}

// ---- What may they see? YOUR OWN RULES GO HERE. ----
function isAllowed(user, deviceId, type) {
  return Object.hasOwn(user.devices, deviceId) && user.devices[deviceId].includes(type);
}

const routes = {
  "PUT /grants": forwardGrant,
  "DELETE /grants": forwardGrant,
  "POST /grant-token": issueGrantToken,
};

// Passes a grant request on with the key, once it is decided that the user may have the grant.
async function forwardGrant(request, user) {
  const grant = readGrant(await readBody(request));
  if (!isAllowed(user, grant.deviceId, grant.type)) {
    log(`${user.name} is refused ${grant.type} of ${JSON.stringify(grant.deviceId)}`);
    throw new Refusal(403, "You may not see this device");
  }
  const { status, text } = await callRelay(request.method, "/grants", grant);
  log(`${request.method} ${grant.type} of ${JSON.stringify(grant.deviceId)} for ${user.name}: ${status}`);
  return { status, text };
}

// Signs everything that the user may see into a JSON Web Token, which the browser shows to the relay itself.
async function issueGrantToken(_request, user) {
  if (!grantTokenSecret) throw new Refusal(404, "Grant tokens are not configured");
  const now = Math.floor(Date.now() / 1000);
  const grants = Object.entries(user.devices).flatMap(([deviceId, types]) => types.map(type => ({ deviceId, type })));
  const exp = now + GRANT_TOKEN_LIFETIME_S;
  const part = value => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { iss: "security-backend", aud: "hubrelay", sub: user.name, iat: now, exp, hubrelay: { grants } };
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  const signature = createHmac("sha256", grantTokenSecret).update(signed).digest("base64url");
  log(`grant token with ${grants.length} grants for ${user.name}`);
  return { status: 200, json: { grantToken: `${signed}.${signature}`, expiresAt: exp } };
}

// Takes the members that make a grant. The text itself is never passed on: of a member that comes twice, two parsers
// may see two different devices.
function readGrant(text) {
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    throw new Refusal(400, "The body is not JSON");
  }
  const { sessionId, deviceId, type } = body ?? {};
  for (const [name, value] of Object.entries({ sessionId, deviceId, type })) {
    if (typeof value !== "string" || value === "") throw new Refusal(400, `${name} must be a string that is not empty`);
  }
  // A module of a device is not the device, and nobody here has rights on one.
  if ((body.moduleId ?? null) !== null) throw new Refusal(403, "You may not see this device");
  const grant = { sessionId, deviceId, type };
  if (Object.hasOwn(NARROWED_BY, type)) {
    const name = NARROWED_BY[type];
    const value = body[name] ?? null;
    if (value !== null && typeof value !== "string") throw new Refusal(400, `${name} must be a string or null`);
    grant[name] = value;
  }
  return grant;
}

async function callRelay(method, path, body) {
  let response, text;
  try {
    response = await fetch(relay.endpoint + path, {
      method,
      headers: { "Content-Type": "application/json", "Shared-Access-Key": relay.key },
      body: JSON.stringify(body),
      redirect: "manual",
      signal: AbortSignal.timeout(RELAY_TIMEOUT_MS),
    });
    text = await response.text();
  } catch (error) {
    log(`the relay did not answer: ${error.name}`);
    throw error.name === "TimeoutError" ? new Refusal(504, "The relay is late") : new Refusal(502, "The relay is away");
  }
  // What the request did wrong is the browser's to know. A refused key or a failure is this backend's own business.
  if (response.ok || [400, 404, 413, 429].includes(response.status)) return { status: response.status, text };
  log(`the relay answered ${response.status}`);
  throw new Refusal(502, "The relay did not accept the call");
}

async function readBody(request) {
  const chunks = [];
  let bytes = 0;
  // Leaving the loop early must not cut the connection, or the refusal would not arrive.
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) throw new Refusal(413, `The body is longer than ${BODY_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

async function answer(request) {
  if (request.method === "OPTIONS") return { status: 204 };
  const route = routes[`${request.method} ${request.url}`];
  if (!route) throw new Refusal(404, "Not found");
  return route(request, authenticate(request));
}

const limits = { requestTimeout: CLIENT_TIMEOUT_MS, connectionsCheckingInterval: 1_000 };
const server = createServer(limits, async (request, response) => {
  let result;
  try {
    result = await answer(request);
  } catch (error) {
    if (request.socket.destroyed) return; // The client went away.
    if (!(error instanceof Refusal)) log(error.stack);
    result = error instanceof Refusal ? { status: error.status, text: error.message } : { status: 500, text: "Internal error" };
    // What is left of a refused body is not waited for.
    if (!request.complete) response.shouldKeepAlive = false;
  }
  if (process.env.ALLOWED_ORIGIN) {
    response.setHeader("Access-Control-Allow-Origin", process.env.ALLOWED_ORIGIN);
    response.setHeader("Access-Control-Allow-Methods", "PUT, DELETE, POST");
    response.setHeader("Access-Control-Allow-Headers", "Authorization, Content-Type");
    response.setHeader("Vary", "Origin");
  }
  response.setHeader("Cache-Control", "no-store");
  response.setHeader("Content-Type", result.json ? "application/json" : "text/plain; charset=utf-8");
  response.writeHead(result.status).end(result.json ? JSON.stringify(result.json) : result.text);
});
server.maxConnections = 1_000;

const [, host, port] = /^(.*):(\d+)$/.exec(process.env.LISTEN ?? "127.0.0.1:3000");
server.listen(Number(port), host, () => {
  console.log(JSON.stringify({ url: `http://${host}:${server.address().port}` }));
});
process.once("SIGTERM", () => server.close());

function parseConnectionString(text) {
  const parts = Object.fromEntries(text.split(";").filter(part => part.includes("=")).map(part => {
    const end = part.indexOf("=");
    return [part.slice(0, end), part.slice(end + 1)];
  }));
  if (!parts.Endpoint || !parts.SharedAccessKey) {
    throw new Error("RELAY_CONNECTION_STRING must be Endpoint=https://host;SharedAccessKey=key");
  }
  return { endpoint: new URL(parts.Endpoint).origin, key: parts.SharedAccessKey };
}

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}

// Neither keys nor tokens nor session ids belong here.
function log(text) {
  console.error(text);
}
