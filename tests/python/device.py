"""A device, or a module of one, written with Microsoft's device SDK for Python and driven by tests written in Rust.

    python device.py INPUT

Input, output and requests are those of `tests/node/device.mjs`. The SDK connects to port 8883 of the host in the
connection string, whatever else is said.
"""

import atexit
import json
import os
import shutil
import sys
import tempfile
import threading
import time

from azure.iot.device import (
    IoTHubDeviceClient,
    IoTHubModuleClient,
    Message,
    MethodResponse,
    X509,
)

output = threading.Lock()


def report(value):
    with output:
        print(json.dumps(value), flush=True)


def create_client(given):
    is_module = "ModuleId=" in given["connectionString"]
    options = {
        "server_verification_cert": given["ca"],
        "connection_retry": False,
        "keep_alive": 60,
    }
    if "modelId" in given:
        # The SDK tells a model from other product information by its first letters.
        options["product_info"] = given["modelId"]
    if "certificate" in given:
        return create_client_with_certificate(given, options)
    kind = IoTHubModuleClient if is_module else IoTHubDeviceClient
    return kind.create_from_connection_string(given["connectionString"], **options)


def create_client_with_certificate(given, options):
    """The SDK reads certificate and key from files, when it connects."""
    fields = dict(field.split("=", 1) for field in given["connectionString"].split(";"))
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    paths = {}
    for name in ("certificate", "key"):
        paths[name] = os.path.join(folder, name)
        with open(paths[name], "w") as file:
            file.write(given[name])
    return IoTHubDeviceClient.create_from_x509_certificate(
        X509(cert_file=paths["certificate"], key_file=paths["key"]),
        fields["HostName"],
        fields["DeviceId"],
        **options,
    )


def register(client, methods):
    def on_method(request):
        answer = methods.get(request.name, {"status": 404, "payload": None})
        report({"method": {"name": request.name, "payload": request.payload}})
        if answer.get("silent"):
            return
        time.sleep(answer.get("delayMs", 0) / 1000)
        payload = answer.get("payload", request.payload)
        status = answer.get("status", 200)
        client.send_method_response(MethodResponse.create_from_method_request(request, status, payload))

    def on_message(message):
        report(
            {
                "message": {
                    "body": message.data.decode(),
                    "messageId": message.message_id,
                    "properties": message.custom_properties,
                }
            }
        )

    def on_connection_state():
        if not client.connected:
            report({"disconnected": True})

    client.on_method_request_received = on_method
    client.on_twin_desired_properties_patch_received = lambda patch: report({"desired": patch})
    client.on_connection_state_change = on_connection_state
    if isinstance(client, IoTHubDeviceClient):
        client.on_message_received = on_message
    # Handlers that are set are subscribed for in the background; what the SDK does after that waits its turn.
    report({"desired": client.get_twin()["desired"]})


def send(client, given):
    message = Message(
        given["body"],
        message_id=given.get("messageId"),
        content_type=given.get("contentType"),
        content_encoding=given.get("contentEncoding"),
    )
    message.correlation_id = given.get("correlationId")
    message.custom_properties.update(given.get("properties", {}))
    client.send_message(message)
    return {"sent": True}


def report_properties(client, patch):
    client.patch_twin_reported_properties(patch)
    return {"reported": True}


def get_twin(client, _given):
    return {"twin": client.get_twin()}


REQUESTS = {"send": send, "report": report_properties, "getTwin": get_twin}


def failed(error):
    return {"error": {"name": type(error).__name__, "message": str(error)}}


def main():
    given = json.loads(sys.argv[1])
    client = None
    try:
        client = create_client(given)
        client.connect()
        register(client, given.get("methods", {}))
        report({"connected": True})
        for line in sys.stdin:
            [(name, argument)] = json.loads(line).items()
            try:
                report(REQUESTS[name](client, argument))
            except Exception as error:
                report(failed(error))
    except Exception as error:
        report(failed(error))
    finally:
        if client is not None:
            client.shutdown()


main()
