"""A back end written with Microsoft's service SDK for Python, driven by tests written in Rust.

    python iot_hub_service.py steps INPUT

INPUT is a JSON object with `connectionString` and `steps`: [[NAME, ARGUMENT, ..], ..] with the names at the end. Steps are
done in order. The outcome is one line of JSON on stdout: a list with {"ok"} or, when the SDK gave up,
{"error": {"status", "name", "body"}} for each step. The authority to trust is read from REQUESTS_CA_BUNDLE.
"""

import json
import sys

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    ExportImportDevice,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError


def create_device(manager, device):
    keys = key_pair(device)
    status = device.get("status", "enabled")
    return manager.create_device_with_sas(device["deviceId"], *keys, status)


def update_device(manager, device):
    etag = device.get("etag")
    return manager.update_device_with_sas(
        device["deviceId"], etag, *key_pair(device), device["status"], status_reason=device.get("statusReason")
    )


def key_pair(device):
    keys = device.get("authentication", {}).get("symmetricKey", {})
    return keys.get("primaryKey"), keys.get("secondaryKey")


def add_devices(manager, devices):
    changes = [ExportImportDevice(id=device["deviceId"], import_mode="create", status="enabled") for device in devices]
    return manager.bulk_create_or_update_devices(changes)


def create_module(manager, module):
    return manager.create_module_with_sas(module["deviceId"], module["moduleId"], None, *key_pair(module))


def get_twin(manager, device_id, module_id):
    if module_id:
        return manager.get_module_twin(device_id, module_id)
    return manager.get_twin(device_id)


def update_twin(manager, device_id, module_id, patch, etag):
    if module_id:
        return manager.update_module_twin(device_id, module_id, twin(patch), etag)
    return manager.update_twin(device_id, twin(patch), etag)


def replace_twin(manager, device_id, whole, etag):
    return manager.replace_twin(device_id, twin(whole), etag)


def read_and_update_twin(manager, device_id, patch):
    return manager.update_twin(device_id, twin(patch), manager.get_twin(device_id).etag)


def twin(given):
    properties = given.get("properties")
    return Twin(
        tags=given.get("tags"),
        properties=properties and TwinProperties(desired=properties["desired"]),
    )


def query(manager, text, page_size):
    """All pages, each a list of device ids."""
    pages = []
    token = None
    while True:
        found = manager.query_iot_hub(QuerySpecification(query=text), token, page_size)
        pages.append([twin.device_id for twin in found.items])
        token = found.continuation_token
        if not token:
            return pages


def invoke_method(manager, device_id, module_id, call):
    request = CloudToDeviceMethod(
        method_name=call["methodName"],
        payload=call.get("payload"),
        response_timeout_in_seconds=call.get("responseTimeoutInSeconds"),
        connect_timeout_in_seconds=call.get("connectTimeoutInSeconds"),
    )
    if module_id:
        return manager.invoke_device_module_method(device_id, module_id, request)
    return manager.invoke_device_method(device_id, request)


STEPS = {
    "createDevice": create_device,
    "getDevice": lambda manager, id: manager.get_device(id),
    "listDevices": lambda manager: manager.get_devices(),
    "updateDevice": update_device,
    "deleteDevice": lambda manager, id: manager.delete_device(id),
    "addDevices": add_devices,
    "statistics": lambda manager: manager.get_device_registry_statistics(),
    "createModule": create_module,
    "getModule": lambda manager, device_id, module_id: manager.get_module(device_id, module_id),
    "listModules": lambda manager, device_id: manager.get_modules(device_id),
    "deleteModule": lambda manager, device_id, module_id: manager.delete_module(device_id, module_id),
    "getTwin": get_twin,
    "updateTwin": update_twin,
    "replaceTwin": replace_twin,
    "readAndUpdateTwin": read_and_update_twin,
    "query": query,
    "invokeMethod": invoke_method,
}


def plain(value):
    """The SDK's models by the names that they have on the wire."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if hasattr(value, "serialize"):
        return value.serialize(keep_readonly=True)
    return value


def done(manager, name, *given):
    try:
        return {"ok": plain(STEPS[name](manager, *given))}
    except HttpOperationError as error:
        return {
            "error": {
                "status": error.response.status_code,
                "name": type(error).__name__,
                "body": error.response.json(),
            }
        }


def main():
    if len(sys.argv) != 3 or sys.argv[1] != "steps":
        sys.exit("usage: python iot_hub_service.py steps INPUT")
    given = json.loads(sys.argv[2])
    manager = IoTHubRegistryManager.from_connection_string(given["connectionString"])
    print(json.dumps([done(manager, *step) for step in given["steps"]]))


if __name__ == "__main__":
    main()
