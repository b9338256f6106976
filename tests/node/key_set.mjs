// Key pairs, their public key set, and a grant token of each, all made by `jose`. The argument is the claims.
import { SignJWT, exportJWK, generateKeyPair } from "jose";

import { report } from "./script.mjs";

const claims = JSON.parse(process.argv[2]);
const keys = [];
const tokens = {};
for (const alg of ["RS256", "ES256"]) {
  const { privateKey, publicKey } = await generateKeyPair(alg);
  const kid = `node-${alg}`;
  keys.push({ ...(await exportJWK(publicKey)), kid, alg, use: "sig" });
  tokens[alg] = await new SignJWT(claims).setProtectedHeader({ alg, kid, typ: "JWT" }).sign(privateKey);
}
report({ keySet: { keys }, tokens });
