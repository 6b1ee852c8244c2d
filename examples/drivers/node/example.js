// Bind on entry, clear on exit: node-postgres with a pool. Connects as libpq's PG* variables say.
"use strict";
const assert = require("node:assert/strict");
const { Pool } = require("pg");

// Work in a transaction bound to one org. Its end, by return or by exception, takes the binding along.
async function inOrg(pool, org, user, work) {
  return inTransaction(pool, "SELECT crm_tree.bind_org($1::uuid, $2)", [org, user], work);
}

// The same by a signed token. A parameter, so that no statement's text has it.
async function withToken(pool, token, work) {
  return inTransaction(pool, "SELECT crm_tree.bind_token($1)", [token], work);
}

async function inTransaction(pool, bind, parameters, work) {
  const client = await pool.connect();
  let broken;
  try {
    await client.query("BEGIN");
    await client.query(bind, parameters);
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    // A connection that cannot roll back does not go back to the pool.
    await client.query("ROLLBACK").catch((failure) => (broken = failure));
    throw error;
  } finally {
    client.release(broken);
  }
}

const ORG_A = "aaaaaaaa-0000-4000-8000-00000000000a";
const ORG_B = "bbbbbbbb-0000-4000-8000-00000000000b";

// Named, so that the driver prepares it once a connection and uses it from org to org.
const bodies = async (client) =>
  (await client.query({ name: "bodies", text: "SELECT body FROM drivers.note ORDER BY id" })).rows.map((row) => row.body);
const denied = { code: "42501" };

async function main() {
  // One connection for all: the next request has to find nothing of the last one on it.
  const pool = new Pool({ max: 1 });
  await inOrg(pool, ORG_A, "ann", async (client) => {
    assert.deepEqual(await bodies(client), ["of org a"]);
    await client.query("INSERT INTO drivers.note (id, body) VALUES (2, 'two of a')");
  });
  assert.deepEqual(await inOrg(pool, ORG_B, "bob", bodies), ["of org b"]);

  // After a request that failed half way, and for a statement that forgot to bind.
  await assert.rejects(
    inOrg(pool, ORG_A, null, async (client) => {
      await client.query("DELETE FROM drivers.note");
      throw new Error("the request breaks off");
    }),
    /breaks off/,
  );
  await assert.rejects(pool.query("SELECT * FROM drivers.note"), denied);
  await assert.rejects(bodies(pool), denied);
  assert.deepEqual(await inOrg(pool, ORG_A, null, bodies), ["of org a", "two of a"]);
  await assert.rejects(
    inOrg(pool, ORG_A, null, (client) => client.query("SELECT crm_tree.bind_org($1::uuid)", [ORG_B])),
    denied,
  );
  await assert.rejects(withToken(pool, "no.token.this", bodies), (error) => {
    assert.equal(error.code, "42501");
    return !error.message.includes("no.token.this");
  });
  await pool.end();

  // Two orgs at once on two connections.
  const shared = new Pool({ max: 2 });
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const [org, expected] = i % 2 ? [ORG_A, ["of org a", "two of a"]] : [ORG_B, ["of org b"]];
      assert.deepEqual(await inOrg(shared, org, null, bodies), expected);
    }),
  );
  await shared.end();
}

main().then(
  () => console.log("node: ok"),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
