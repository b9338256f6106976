# A security backend that signs a grant token. docs/grant-tokens.md shows this file.
import os
import time

import jwt

SECRET = os.environ["GRANT_TOKEN_SECRET"]


def grant_token(user_id, device_ids):
    """A token for a user who may see these devices, for the next five minutes."""
    now = int(time.time())
    claims = {
        "iss": "https://backend.example.com",
        "aud": "hubrelay",
        "sub": user_id,
        "iat": now,
        "exp": now + 300,
        "hubrelay": {
            "grants": [
                {"deviceId": device_id, "type": kind}
                for device_id in device_ids
                for kind in ("telemetry", "connectionState")
            ]
        },
    }
    return jwt.encode(claims, SECRET, algorithm="HS256")


print(grant_token("user-17", ["press-01", "press-02"]))
