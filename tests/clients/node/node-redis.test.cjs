"use strict";
// node-redis: as it connects by default, and with each protocol chosen.

const assert = require("node:assert/strict");
const { afterEach, beforeEach, describe, test } = require("node:test");
const { createClient, createClientPool, ErrorReply, RESP_TYPES, WatchError } = require("redis");
const { everyByte, eventually, fiveMb, list, locked, open, password, unlessLocked } = require("./at.cjs");

function suite(chosen, spoken) {
  let clients, r;

  function client(socket, options) {
    const made = createClient({ ...chosen, socket, ...options });
    made.on("error", () => {}); // it would end the process; what fails is rejected as well
    clients.push(made);
    return made;
  }

  const connect = (options) => client(open, options).connect();

  beforeEach(async () => {
    clients = [];
    r = await connect();
    await r.flushAll();
  });

  afterEach(() => clients.forEach((made) => made.isOpen && made.destroy()));

  test("speaks the protocol that was chosen", async () => {
    assert.match(await r.sendCommand(["CLIENT", "INFO"]), new RegExp(` resp=${spoken}( |$)`));
  });

  test("values come back", async () => {
    assert.equal(await r.ping(), "PONG");
    assert.equal(await r.set("city", "Lisbon"), "OK");
    assert.equal(await r.get("city"), "Lisbon");
    assert.equal(await r.get("absent"), null);
    assert.equal(await r.set("city", "Porto", { NX: true }), null);
    assert.equal(await r.mSet({ a: "1", b: "2.5" }), "OK");
    assert.deepEqual(await r.mGet(["a", "absent", "b"]), ["1", null, "2.5"]);
    assert.equal(await r.incrByFloat("b", 0.5), "3");
    assert.equal(await r.del(["a", "b", "absent"]), 2);
  });

  test("a pipeline answers in order", async () => {
    // What is sent in one tick goes out as one pipeline.
    const sent = list(1000).flatMap((i) => [r.set(`k${i}`, `${i}`), r.get(`k${i}`), r.incr("count")]);
    assert.deepEqual(await Promise.all(sent), list(1000).flatMap((i) => ["OK", `${i}`, i + 1]));
    const pipe = r.multi();
    for (let i = 0; i < 1000; i++) pipe.get(`k${i}`);
    assert.deepEqual(await pipe.execAsPipeline(), list(1000, String));
  });

  test("a transaction is carried out as one", async () => {
    assert.deepEqual(await r.multi().set("k", "v").get("k").incr("n").get("n").exec(), ["OK", "v", 1, "1"]);
    const failed = r.multi().incr("n").incr("k").exec();
    await assert.rejects(failed, ({ replies, errorIndexes }) => {
      assert.ok(replies[0] === 2 && replies[1] instanceof ErrorReply);
      return errorIndexes.length === 1 && errorIndexes[0] === 1;
    });
  });

  test("a transaction with an unknown command is not begun", async () => {
    const failed = r.multi().set("k", "v").addCommand(["NOSUCHCOMMAND"]).exec();
    // node-redis shows the error that was the cause, in place of EXEC's own.
    const unknown = /^ERR unknown command 'NOSUCHCOMMAND'/;
    await assert.rejects(failed, (error) => error instanceof ErrorReply && unknown.test(error.message));
    assert.equal(await r.get("k"), null);
  });

  test("a watched key that changes makes the transaction run again", async () => {
    await r.set("n", "1");
    const other = await connect();
    const runs = [];
    for (let done = false; !done;) {
      await r.watch("n");
      const n = Number(await r.get("n"));
      if (runs.length === 0) await other.set("n", "10");
      runs.push(n);
      try {
        done = await r.multi().set("n", `${n * 2}`).exec();
      } catch (error) {
        assert.ok(error instanceof WatchError, error);
      }
    }
    assert.deepEqual(runs, [1, 10]);
    assert.equal(await r.get("n"), "20");
  });

  test("a scan returns every key", async () => {
    const keys = list(1000, (i) => `scan:${i}`);
    await r.mSet(keys.map((key) => [key, ""]));
    await r.set("other", "");
    const found = new Set();
    for await (const page of r.scanIterator({ MATCH: "scan:*", COUNT: 100, TYPE: "string" })) {
      page.forEach((key) => found.add(key));
    }
    assert.deepEqual([...found].sort(), keys.sort());
  });

  test("a lock is held by one until it is given back or expires", async () => {
    const other = await connect();
    const take = (holder, name, PX) => holder.set("lock", name, { PX, NX: true });
    const give = (holder, name) => holder.sendCommand(["DELIFEQ", "lock", name]);
    assert.equal(await take(r, "mine", 30_000), "OK");
    assert.equal(await take(other, "theirs", 30_000), null);
    assert.equal(await give(other, "theirs"), 0);
    assert.equal(await give(r, "mine"), 1);
    assert.equal(await take(r, "mine", 100), "OK");
    await eventually(async () => (await take(other, "theirs", 30_000)) === "OK");
    assert.equal(await give(r, "mine"), 0);
    assert.equal(await other.get("lock"), "theirs");
  });

  test("keys and values are any bytes", async () => {
    const bytes = r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    const value = Buffer.from(everyByte).reverse();
    await bytes.set(everyByte, value);
    assert.deepEqual(await bytes.get(everyByte), value);
    const found = [];
    for await (const page of bytes.scanIterator()) found.push(...page);
    assert.deepEqual(found, [everyByte]);
  });

  test("five megabytes pass whole", async () => {
    const bytes = r.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
    await bytes.set("large", fiveMb);
    assert.ok(fiveMb.equals(await bytes.get("large")), "a large value came back changed");
    const pipe = bytes.multi().set("other", fiveMb).get("large").get("other").strLen("large");
    const [, one, two, length] = await pipe.execAsPipeline();
    assert.ok(fiveMb.equals(one) && fiveMb.equals(two) && length === fiveMb.length);
  });

  test("racing increments are all counted", async () => {
    const count = async (one) => {
      for (let i = 0; i < 100; i++) await one.incr("n");
    };
    await Promise.all(list(20, async () => count(await connect())));
    const pool = await createClientPool({ ...chosen, socket: open }, { minimum: 1, maximum: 20 }).connect();
    await Promise.all(list(1000, () => pool.incr("n")));
    await pool.close();
    assert.equal(await r.get("n"), "3000");
  });

  test("errors arrive as errors and the connection stays usable", async () => {
    const before = await r.clientId();
    const rejects = (sent, message) =>
      assert.rejects(sent, (error) => error instanceof ErrorReply && (assert.match(error.message, message), true));
    await r.set("k", "text");
    await rejects(r.incr("k"), /^ERR value is not an integer or out of range$/);
    await rejects(r.sendCommand(["SET", "k", "v", "NOSUCHOPTION"]), /^ERR syntax error$/);
    const unknown = /^ERR unknown command 'NOSUCHCOMMAND', with args beginning with: 'a' /;
    await rejects(r.sendCommand(["NOSUCHCOMMAND", "a"]), unknown);
    assert.equal(await r.get("k"), "text");
    assert.equal(await r.clientId(), before);
  });

  test("the server tells about itself", async () => {
    await r.set("k", "v", { EX: 100 });
    const info = await r.info();
    assert.match(info, /^loading:0\r$/m);
    assert.match(info, /^db0:keys=1,expires=1,/m);
    assert.match(info, /^redis_version:\d+\.\d+\.\d+\r$/m);
    assert.ok("maxmemory" in (await r.configGet("maxmemory*")));
    const [get] = await r.commandInfo(["get"]);
    assert.equal(get.arity, 2);
    assert.ok(get.flags.has("readonly"));
  });

  test("a client has a name and an id", async () => {
    const named = await connect({ name: "first" });
    assert.equal(await named.clientGetName(), "first");
    assert.equal(await named.clientSetName("second"), "OK");
    const info = await named.clientInfo();
    assert.equal(info.id, await named.clientId());
    assert.equal(info.name, "second");
    assert.equal(info.libName, "node-redis");
    assert.ok((await r.clientList()).some(({ name }) => name === "second"));
  });

  test("keys expire", async () => {
    await r.set("k", "v", { PX: 100 });
    await r.set("kept", "v", { EX: 100 });
    const left = await r.pTTL("kept");
    assert.ok(left > 90_000 && left <= 100_000);
    await eventually(async () => (await r.get("k")) === null);
    assert.equal(await r.ttl("k"), -2);
  });

  test("a connection that ends in an orderly way still gets its replies", async () => {
    const leaving = await connect();
    const replies = Promise.all([leaving.set("k", "v"), leaving.get("k")]);
    await leaving.close();
    assert.deepEqual(await replies, ["OK", "v"]);
  });

  test("a password is asked for", unlessLocked, async () => {
    const right = await client(locked, { password }).connect();
    assert.equal(await right.set("k", "v"), "OK");
    assert.equal(await (await client(locked, { username: "default", password }).connect()).get("k"), "v");
    for (const [options, error] of [[{}, /NOAUTH/], [{ password: "wrong" }, /WRONGPASS/]]) {
      const refused = client({ ...locked, reconnectStrategy: false }, options);
      await assert.rejects(refused.connect().then(() => refused.get("k")), error);
    }
  });
}

describe("by default", () => suite({}, 3));
describe("RESP2", () => suite({ RESP: 2 }, 2));
describe("RESP3", () => suite({ RESP: 3 }, 3));
