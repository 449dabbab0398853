"use strict";
// ioredis: as it connects by default, and with each protocol chosen.

const assert = require("node:assert/strict");
const { afterEach, beforeEach, describe, test } = require("node:test");
const Redis = require("ioredis");
const { everyByte, eventually, fiveMb, list, locked, open, password, unlessLocked } = require("./at.cjs");

const { ReplyError } = Redis;

function suite(chosen, spoken) {
  let clients, r;

  function connect(options) {
    const client = new Redis({ ...open, ...chosen, ...options });
    clients.push(client);
    return client;
  }

  beforeEach(async () => {
    clients = [];
    r = connect();
    await r.flushall();
  });

  afterEach(() => clients.forEach((client) => client.disconnect()));

  test("speaks the protocol that was chosen", async () => {
    assert.match(await r.client("INFO"), new RegExp(` resp=${spoken}( |$)`));
  });

  test("values come back", async () => {
    assert.equal(await r.ping(), "PONG");
    assert.equal(await r.set("city", "Lisbon"), "OK");
    assert.equal(await r.get("city"), "Lisbon");
    assert.equal(await r.get("absent"), null);
    assert.equal(await r.set("city", "Porto", "NX"), null);
    assert.equal(await r.mset({ a: 1, b: 2.5 }), "OK");
    assert.deepEqual(await r.mget("a", "absent", "b"), ["1", null, "2.5"]);
    assert.equal(await r.incrbyfloat("b", 0.5), "3");
    assert.equal(await r.del("a", "b", "absent"), 2);
  });

  test("a pipeline answers in order", async () => {
    const pipe = r.pipeline();
    for (let i = 0; i < 1000; i++) pipe.set(`k${i}`, i).get(`k${i}`).incr("count");
    const want = list(1000).flatMap((i) => [[null, "OK"], [null, `${i}`], [null, i + 1]]);
    assert.deepEqual(await pipe.exec(), want);
  });

  test("commands of one tick are sent as one pipeline, and answered each", async () => {
    const auto = connect({ enableAutoPipelining: true });
    const got = await Promise.all(list(1000, (i) => auto.set(`k${i}`, i).then(() => auto.get(`k${i}`))));
    assert.deepEqual(got, list(1000, String));
  });

  test("a transaction is carried out as one", async () => {
    const replies = await r.multi().set("k", "v").get("k").incr("n").incr("k").get("n").exec();
    const [error] = replies.splice(3, 1)[0];
    assert.ok(error instanceof ReplyError && /value is not an integer/.test(error.message));
    assert.deepEqual(replies, [[null, "OK"], [null, "v"], [null, 1], [null, "1"]]);
  });

  test("a transaction with an unknown command is not begun", async () => {
    const failed = r.multi().set("k", "v").call("NOSUCHCOMMAND").exec();
    await assert.rejects(failed, { name: "ReplyError", message: /^EXECABORT / });
    assert.equal(await r.get("k"), null);
  });

  test("a watched key that changes makes the transaction run again", async () => {
    await r.set("n", 1);
    const other = connect();
    const runs = [];
    let done = null;
    while (done === null) {
      await r.watch("n");
      const n = Number(await r.get("n"));
      if (runs.length === 0) await other.set("n", 10);
      runs.push(n);
      done = await r.multi().set("n", n * 2).exec();
    }
    assert.deepEqual(runs, [1, 10]);
    assert.equal(await r.get("n"), "20");
  });

  test("a scan returns every key", async () => {
    const keys = list(1000, (i) => `scan:${i}`);
    await r.mset(new Map(keys.map((key) => [key, ""])));
    await r.set("other", "");
    const found = new Set();
    for await (const page of r.scanStream({ match: "scan:*", count: 100 })) page.forEach((key) => found.add(key));
    assert.deepEqual([...found].sort(), keys.sort());
  });

  test("a lock is held by one until it is given back or expires", async () => {
    const other = connect();
    assert.equal(await r.set("lock", "mine", "PX", 30_000, "NX"), "OK");
    assert.equal(await other.set("lock", "theirs", "PX", 30_000, "NX"), null);
    assert.equal(await other.call("DELIFEQ", "lock", "theirs"), 0);
    assert.equal(await r.call("DELIFEQ", "lock", "mine"), 1);
    assert.equal(await r.set("lock", "mine", "PX", 100, "NX"), "OK");
    await eventually(async () => (await other.set("lock", "theirs", "PX", 30_000, "NX")) === "OK");
    assert.equal(await r.call("DELIFEQ", "lock", "mine"), 0);
    assert.equal(await other.get("lock"), "theirs");
  });

  test("keys and values are any bytes", async () => {
    const value = Buffer.from(everyByte).reverse();
    await r.set(everyByte, value);
    assert.deepEqual(await r.getBuffer(everyByte), value);
    const found = [];
    for await (const page of r.scanBufferStream()) found.push(...page);
    assert.deepEqual(found, [everyByte]);
  });

  test("five megabytes pass whole", async () => {
    await r.set("large", fiveMb);
    assert.ok(fiveMb.equals(await r.getBuffer("large")), "a large value came back changed");
    const replies = await r.multi().set("other", fiveMb).getBuffer("large").getBuffer("other").exec();
    assert.ok(replies.slice(1).every(([error, value]) => !error && fiveMb.equals(value)));
  });

  test("racing increments are all counted", async () => {
    const count = async (client) => {
      for (let i = 0; i < 100; i++) await client.incr("n");
    };
    await Promise.all(list(20, () => count(connect())));
    assert.equal(await r.get("n"), "2000");
  });

  test("errors arrive as errors and the connection stays usable", async () => {
    const before = await r.client("ID");
    await r.set("k", "text");
    const message = "ERR value is not an integer or out of range";
    await assert.rejects(r.incr("k"), { name: "ReplyError", message });
    await assert.rejects(r.set("k", "v", "NOSUCHOPTION"), { name: "ReplyError", message: "ERR syntax error" });
    const unknown = /^ERR unknown command 'NOSUCHCOMMAND', with args beginning with: 'a' /;
    await assert.rejects(r.call("NOSUCHCOMMAND", "a"), { name: "ReplyError", message: unknown });
    assert.equal(await r.get("k"), "text");
    assert.equal(await r.client("ID"), before);
  });

  test("the server tells about itself", async () => {
    await r.set("k", "v", "EX", 100);
    const info = await r.info();
    assert.match(info, /^loading:0\r$/m);
    assert.match(info, /^db0:keys=1,expires=1,/m);
    assert.match(info, /^redis_version:\d+\.\d+\.\d+\r$/m);
    assert.equal(r.status, "ready"); // which ioredis says once INFO has told it `loading:0`
  });

  test("a client has a name and an id", async () => {
    const named = connect({ connectionName: "first" });
    assert.equal(await named.client("GETNAME"), "first");
    assert.equal(await named.client("SETNAME", "second"), "OK");
    const id = await named.client("ID");
    const info = await named.client("INFO");
    assert.ok(info.startsWith(`id=${id} `) && info.includes(" name=second ") && info.includes(" lib-name=ioredis "));
  });

  test("keys expire", async () => {
    await r.set("k", "v", "PX", 100);
    await r.set("kept", "v", "EX", 100);
    const left = await r.pttl("kept");
    assert.ok(left > 90_000 && left <= 100_000);
    await eventually(async () => (await r.get("k")) === null);
    assert.equal(await r.ttl("k"), -2);
  });

  test("a connection that ends in an orderly way still gets its replies", async () => {
    const leaving = connect();
    await leaving.ping();
    assert.deepEqual(await Promise.all([leaving.set("k", "v"), leaving.quit()]), ["OK", "OK"]);
  });

  test("a password is asked for", unlessLocked, async () => {
    const right = connect({ ...locked, password });
    assert.equal(await right.set("k", "v"), "OK");
    assert.equal(await connect({ ...locked, username: "default", password }).get("k"), "v");
    for (const [options, error] of [[{}, /NOAUTH/], [{ password: "wrong" }, /WRONGPASS/]]) {
      const refused = connect({ ...locked, ...options, retryStrategy: null });
      refused.on("error", () => {}); // it would be printed; what fails is rejected as well
      await assert.rejects(refused.get("k"), { name: "ReplyError", message: error });
    }
  });
}

describe("by default", () => suite({}, 3));
describe("RESP2", () => suite({ protocol: 2 }, 2));
describe("RESP3", () => suite({ protocol: 3 }, 3));
