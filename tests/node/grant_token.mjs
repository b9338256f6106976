// A security backend that signs a grant token. docs/grant-tokens.md shows this file.
import { SignJWT } from "jose";

const secret = new TextEncoder().encode(process.env.GRANT_TOKEN_SECRET);

/** A token for a user who may see these devices, for the next five minutes. */
export function grantToken(userId, deviceIds) {
  const grants = deviceIds.flatMap((deviceId) => [
    { deviceId, type: "telemetry" },
    { deviceId, type: "connectionState" },
  ]);
  return new SignJWT({ hubrelay: { grants } })
    .setProtectedHeader({ alg: "HS256" })
    .setIssuer("https://backend.example.com")
    .setAudience("hubrelay")
    .setSubject(userId)
    .setIssuedAt()
    .setExpirationTime("5 minutes")
    .sign(secret);
}

console.log(await grantToken("user-17", ["press-01", "press-02"]));
