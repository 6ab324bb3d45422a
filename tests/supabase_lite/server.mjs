// Supabase's API on a free port of loopback, which it prints, in front of the Postgres that
// DATABASE_URL and PGHOST name.
//
// Not the package's own command: that one writes every jsonb argument of an rpc as a JSON string
// inside JSON, where PostgREST hands over the value itself.
import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import { serve } from "@hono/node-server";

const jsonb = {
  to: 3802,
  from: [3802],
  serialize: (value) => (typeof value === "string" ? value : JSON.stringify(value)),
  parse: JSON.parse,
};
const connection = createPostgresConnection({
  url: process.env.DATABASE_URL,
  postgresOptions: { types: { jsonb } },
});

const app = new App({
  connection,
  auth: {
    enabled: true,
    jwt_secret: process.env.JWT_SECRET,
    publishable_key: process.env.SUPABASE_PUBLISHABLE_KEY,
    secret_key: process.env.SUPABASE_SECRET_KEY,
  },
});
await app.init();
serve(
  { fetch: (request) => app.fetch(request, { peerAddress: null }), hostname: "127.0.0.1", port: 0 },
  (address) => console.log(`listening on ${address.port}`),
);

// The tests hold the other end: however they end, so does this.
process.stdin.resume().on("end", () => process.exit());
