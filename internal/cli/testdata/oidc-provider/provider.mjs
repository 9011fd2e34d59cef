// A provider for the test of the login at the edge: node provider.mjs MODULES
// with its settings as JSON in PROVIDER. It says "ready" when it serves.
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const given = JSON.parse(process.env.PROVIDER);
const { default: Provider } = await import(pathToFileURL(join(process.argv[2], "node_modules", "oidc-provider", "lib", "index.js")));

const provider = new Provider(given.issuer, {
  clients: [
    {
      client_id: given.client,
      client_secret: given.secret,
      redirect_uris: [given.redirect],
      post_logout_redirect_uris: [given.origin + "/"],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      backchannel_logout_uri: given.origin + "/_dewar/auth/backchannel-logout",
      backchannel_logout_session_required: true,
      id_token_signed_response_alg: "RS256",
    },
    ...["machine", "old-machine"].map((id) => ({
      client_id: id,
      client_secret: given.secret,
      redirect_uris: [],
      grant_types: ["client_credentials"],
      response_types: [],
      scope: "read write",
    })),
  ],
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "preferred_username"], groups: ["groups"] },
  scopes: ["openid", "offline_access", "read", "write"],
  conformIdTokenClaims: false,
  pkce: { required: () => true },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: id + "@shop.example", email_verified: true, name: "Name of " + id, preferred_username: id, groups: ["staff"] }),
  }),
  features: {
    backchannelLogout: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => [],
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, resource, client) => ({
        scope: "read write",
        audience: resource,
        accessTokenFormat: client.clientId === "old-machine" ? "opaque" : "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  ttl: { AccessToken: given.access, IdToken: 300 },
  issueRefreshToken: () => true,
});
provider.on("grant.success", (ctx) => console.log("grant " + ctx.oidc.params.grant_type));
const server = provider.listen(given.port, "127.0.0.1", () => console.log("ready"));
process.stdin.resume(); // it ends with whoever started it
process.stdin.on("end", () => server.close(() => process.exit(0)));
process.stdin.on("end", () => process.exit(0));
