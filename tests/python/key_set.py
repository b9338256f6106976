"""Key pairs, their public key set, and a grant token of each, all made by PyJWT. The argument is the claims."""

import json
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

claims = json.loads(sys.argv[1])
pairs = {
    "RS256": (rsa.generate_private_key(65537, 3072), RSAAlgorithm),
    "ES256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
}
keys = []
tokens = {}
for algorithm, (private_key, kind) in pairs.items():
    key_id = f"python-{algorithm}"
    public = kind.to_jwk(private_key.public_key(), as_dict=True)
    keys.append({**public, "kid": key_id, "use": "sig"})
    tokens[algorithm] = jwt.encode(claims, private_key, algorithm, headers={"kid": key_id})
print(json.dumps({"keySet": {"keys": keys}, "tokens": tokens}))
