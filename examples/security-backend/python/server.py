"""A security backend for hubrelay and ux4iot: it knows its users, decides which devices they may see, and tells the
relay. Python 3.10 or newer, standard library only. docs/security-backend.md explains it.

    RELAY_CONNECTION_STRING   Endpoint=https://...;SharedAccessKey=...   required
    USERS_FILE                who may see what; see ../users.json        required
    GRANT_TOKEN_SECRET        signs grant tokens; without it there are none
    ALLOWED_ORIGIN            origin of the pages that may call from a browser
    LISTEN                    default 127.0.0.1:3000
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

BODY_BYTES_MAX = 16 * 1024
REQUESTS_MAX = 64
CLIENT_TIMEOUT_S = 10
RELAY_TIMEOUT_S = 5
GRANT_TOKEN_LIFETIME_S = 300
# What of a grant request is passed on, and nothing else of it.
NARROWED_BY = {"telemetry": "telemetryKey", "directMethod": "directMethodName"}


class Refusal(Exception):
    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


# ---- Who is it? YOUR OWN LOGIN GOES HERE: verify the session cookie or the OpenID Connect token of your users. ----
# Only hashes of tokens are stored. All of them are compared, in constant time.
def authenticate(users, authorization):
    scheme, _, token = (authorization or "").partition(" ")
    presented = hashlib.sha256(token.encode("latin-1")).hexdigest()
    found = None
    for user in users:
        if hmac.compare_digest(presented, user["tokenSha256"]):
            found = user
    if found is None or scheme.lower() != "bearer":
        raise Refusal(401, "Log in first")
    return found


# ---- What may they see? YOUR OWN RULES GO HERE. ----
def is_allowed(user, device_id, kind):
    return kind in user["devices"].get(device_id, ())


class Backend:
    def __init__(self, relay, users, grant_token_secret):
        self.relay = relay
        self.users = users
        self.grant_token_secret = grant_token_secret

    def answer(self, method, path, authorization, read_body):
        if path == "/grants" and method in ("PUT", "DELETE"):
            user = authenticate(self.users, authorization)
            return self.forward_grant(method, user, read_body())
        if path == "/grant-token" and method == "POST":
            return self.issue_grant_token(authenticate(self.users, authorization))
        raise Refusal(404, "Not found")

    def forward_grant(self, method, user, body):
        """Passes a grant request on with the key, once it is decided that the user may have the grant."""
        grant = read_grant(body)
        what = f"{grant['type']} of {json.dumps(grant['deviceId'])}"
        if not is_allowed(user, grant["deviceId"], grant["type"]):
            log(f"{user['name']} is refused {what}")
            raise Refusal(403, "You may not see this device")
        status, text = self.relay.call(method, "/grants", grant)
        log(f"{method} {what} for {user['name']}: {status}")
        return status, text

    def issue_grant_token(self, user):
        """Signs everything that the user may see into a JSON Web Token, which the browser shows to the relay itself."""
        if not self.grant_token_secret:
            raise Refusal(404, "Grant tokens are not configured")
        now = int(time.time())
        grants = [{"deviceId": device_id, "type": kind} for device_id, kinds in user["devices"].items() for kind in kinds]
        expires_at = now + GRANT_TOKEN_LIFETIME_S
        claims = {"iss": "security-backend", "aud": "hubrelay", "sub": user["name"], "iat": now, "exp": expires_at}
        claims["hubrelay"] = {"grants": grants}
        signed = b".".join(base64url(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        signature = hmac.digest(self.grant_token_secret.encode(), signed, "sha256")
        log(f"grant token with {len(grants)} grants for {user['name']}")
        token = b".".join((signed, base64url(signature))).decode()
        return 200, json.dumps({"grantToken": token, "expiresAt": expires_at})


def read_grant(body):
    """Takes the members that make a grant. The text itself is never passed on: of a member that comes twice, two
    parsers may see two different devices."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not JSON") from None
    if not isinstance(request, dict):
        raise Refusal(400, "The body is not an object")
    grant = {}
    for name in ("sessionId", "deviceId", "type"):
        if not isinstance(request.get(name), str) or not request[name]:
            raise Refusal(400, f"{name} must be a string that is not empty")
        grant[name] = request[name]
    if request.get("moduleId") is not None:
        # A module of a device is not the device, and nobody here has rights on one.
        raise Refusal(403, "You may not see this device")
    if name := NARROWED_BY.get(grant["type"]):
        value = request.get(name)
        if value is not None and not isinstance(value, str):
            raise Refusal(400, f"{name} must be a string or null")
        grant[name] = value
    return grant


class Relay:
    def __init__(self, connection_string):
        parts = dict(part.split("=", 1) for part in connection_string.split(";") if "=" in part)
        if not parts.get("Endpoint") or not parts.get("SharedAccessKey"):
            sys.exit("RELAY_CONNECTION_STRING must be Endpoint=https://host;SharedAccessKey=key")
        self.endpoint = urlsplit(parts["Endpoint"])
        self.key = parts["SharedAccessKey"]

    def call(self, method, path, body):
        is_https = self.endpoint.scheme == "https"
        connect = http.client.HTTPSConnection if is_https else http.client.HTTPConnection
        connection = connect(self.endpoint.hostname, self.endpoint.port, timeout=RELAY_TIMEOUT_S)
        headers = {"Content-Type": "application/json", "Shared-Access-Key": self.key}
        try:
            connection.request(method, path, json.dumps(body), headers)
            response = connection.getresponse()
            status, text = response.status, response.read(BODY_BYTES_MAX).decode("utf-8", "replace")
        except TimeoutError:
            log("the relay did not answer in time")
            raise Refusal(504, "The relay is late") from None
        except (OSError, http.client.HTTPException) as error:
            log(f"the relay did not answer: {type(error).__name__}")
            raise Refusal(502, "The relay is away") from None
        finally:
            connection.close()
        # What the request did wrong is the browser's to know. A refused key or a failure is this backend's own business.
        if 200 <= status < 300 or status in (400, 404, 413, 429):
            return status, text
        log(f"the relay answered {status}")
        raise Refusal(502, "The relay did not accept the call")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = CLIENT_TIMEOUT_S
    backend = None
    allowed_origin = None

    def handle_request(self):
        self.has_unread_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        try:
            authorization = self.headers["Authorization"]
            status, text = self.backend.answer(self.command, self.path, authorization, self.read_body)
        except Refusal as refusal:
            status, text = refusal.status, str(refusal)
        except TimeoutError:
            status, text = 408, "The request took too long"
        except Exception as error:  # noqa: BLE001 - the last resort of a request
            log(f"internal error: {error!r}")
            status, text = 500, "Internal error"
        self.reply(status, text)

    do_PUT = do_DELETE = do_POST = do_GET = handle_request

    def do_OPTIONS(self):
        self.has_unread_body = False
        self.reply(204, "")

    def read_body(self):
        length = self.headers["Content-Length"] or "0"
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            raise Refusal(411, "The body needs a Content-Length")
        if len(length) > 9 or int(length) > BODY_BYTES_MAX:
            # What comes anyway is read away, within reason: closing on it could cut the refusal off.
            self.rfile.read(min(int(length[:9]), 4 * BODY_BYTES_MAX))
            raise Refusal(413, f"The body is longer than {BODY_BYTES_MAX} bytes")
        body = self.rfile.read(int(length))
        self.has_unread_body = False
        return body

    def reply(self, status, text):
        body = text.encode()
        self.send_response(status)
        if self.allowed_origin:
            self.send_header("Access-Control-Allow-Origin", self.allowed_origin)
            self.send_header("Access-Control-Allow-Methods", "PUT, DELETE, POST")
            self.send_header("Access-Control-Allow-Headers", "Authorization, Content-Type")
            self.send_header("Vary", "Origin")
        self.send_header("Cache-Control", "no-store")
        is_json = text.startswith("{")
        self.send_header("Content-Type", "application/json" if is_json else "text/plain; charset=utf-8")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if self.has_unread_body:  # What is left of a refused body is not waited for.
            self.send_header("Connection", "close")
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def log_message(self, *_):
        """Request lines are not logged."""


class Server(ThreadingHTTPServer):
    """A thread for each connection, and a bound on them; who comes later waits in the listener's queue."""

    daemon_threads = True
    request_queue_size = 128
    slots = threading.BoundedSemaphore(REQUESTS_MAX)

    def process_request(self, request, client_address):
        self.slots.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request, client_address):
        """A client that went away is no error of the server."""


def main():
    with open(required("USERS_FILE"), encoding="utf-8") as file:
        users = json.load(file)
    relay = Relay(required("RELAY_CONNECTION_STRING"))
    Handler.backend = Backend(relay, users, os.environ.get("GRANT_TOKEN_SECRET"))
    Handler.allowed_origin = os.environ.get("ALLOWED_ORIGIN")
    host, _, port = os.environ.get("LISTEN", "127.0.0.1:3000").rpartition(":")
    server = Server((host, int(port)), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(json.dumps({"url": f"http://{host}:{server.server_port}"}), flush=True)
    server.serve_forever()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def required(name):
    return os.environ.get(name) or sys.exit(f"{name} is not set")


def log(text):
    """Neither keys nor tokens nor session ids belong here."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
