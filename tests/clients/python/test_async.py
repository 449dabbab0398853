"""redis-py, its asyncio client: as it connects by default, and with each protocol chosen."""

import asyncio
import time
import unittest

import redis.asyncio as redis
from redis.asyncio.lock import Lock as ScriptedLock
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, LockNotOwnedError, ResponseError, WatchError

from at import EVERY_BYTE, FIVE_MB, HOST, LOCKED_HOST, LOCKED_PORT, PASSWORD, PORT, needs_locked


class Lock(ScriptedLock):
    """redis-py's own lock, given back by a transaction on the watched key and not by a script."""

    async def do_release(self, expected_token):
        async with self.redis.pipeline() as pipe:
            await pipe.watch(self.name)
            if await pipe.get(self.name) != expected_token:
                raise LockNotOwnedError("the lock is another's by now")
            pipe.multi()
            pipe.delete(self.name)
            await pipe.execute()


class Default(unittest.IsolatedAsyncioTestCase):
    protocol = None
    spoken = 3

    def connect(self, **options):
        if self.protocol:
            options["protocol"] = self.protocol
        client = redis.Redis(**{"host": HOST, "port": PORT, **options})
        self.addAsyncCleanup(client.aclose)
        return client

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)  # unittest sets it, and it is slow
        self.r = self.connect()
        await self.r.flushall()

    async def test_speaks_the_protocol_that_was_chosen(self):
        self.assertEqual((await self.r.client_info())["resp"], str(self.spoken))

    async def test_values_come_back(self):
        self.assertIs(await self.r.ping(), True)
        self.assertIs(await self.r.set("city", "Lisbon"), True)
        self.assertEqual(await self.r.get("city"), b"Lisbon")
        self.assertIsNone(await self.r.get("absent"))
        self.assertIsNone(await self.r.set("city", "Porto", nx=True))
        self.assertEqual(await self.r.mget("city", "absent"), [b"Lisbon", None])
        self.assertEqual(await self.r.delete("city", "absent"), 1)

    async def test_a_pipeline_answers_in_order(self):
        pipe = self.r.pipeline(transaction=False)
        for i in range(1000):
            pipe.set(f"k{i}", i).get(f"k{i}").incr("count")
        want = [reply for i in range(1000) for reply in (True, str(i).encode(), i + 1)]
        self.assertEqual(await pipe.execute(), want)

    async def test_a_transaction_is_carried_out_as_one(self):
        pipe = self.r.pipeline(transaction=True)
        pipe.set("k", "v").get("k").incr("n").incr("k").get("n")
        *before, error, last = await pipe.execute(raise_on_error=False)
        self.assertEqual((before, last), ([True, b"v", 1], b"1"))
        self.assertIsInstance(error, ResponseError)

    async def test_a_watched_key_that_changes_makes_the_transaction_run_again(self):
        await self.r.set("n", 1)
        other, runs = self.connect(), []

        async def double(pipe):
            n = int(await pipe.get("n"))
            if not runs:
                await other.set("n", 10)
            runs.append(n)
            pipe.multi()
            pipe.set("n", n * 2)

        self.assertEqual(await self.r.transaction(double, "n"), [True])
        self.assertEqual((runs, await self.r.get("n")), ([1, 10], b"20"))
        async with self.r.pipeline() as pipe:
            await pipe.watch("n")
            await other.set("n", 0)
            pipe.multi()
            pipe.set("n", 1)
            with self.assertRaises(WatchError):
                await pipe.execute()

    async def test_a_scan_returns_every_key(self):
        keys = {f"scan:{i}".encode() for i in range(1000)}
        await self.r.mset({key: "" for key in keys} | {"other": ""})
        found = {key async for key in self.r.scan_iter(match="scan:*", count=100)}
        self.assertEqual(found, keys)

    async def test_a_lock_is_held_by_one_until_it_is_given_back_or_expires(self):
        mine, theirs = (Lock(c, "lock", timeout=30, blocking=False) for c in (self.r, self.connect()))
        self.assertTrue(await mine.acquire())
        self.assertFalse(await theirs.acquire())
        await mine.release()
        short = Lock(self.r, "lock", timeout=0.2)
        self.assertTrue(await short.acquire())
        # The second waits until the first one's time is over.
        self.assertTrue(await theirs.acquire(blocking=True, blocking_timeout=5))
        with self.assertRaises(LockNotOwnedError):
            await short.release()
        self.assertTrue(await theirs.owned())

    async def test_keys_and_values_are_any_bytes(self):
        await self.r.set(EVERY_BYTE, EVERY_BYTE[::-1])
        self.assertEqual(await self.r.get(EVERY_BYTE), EVERY_BYTE[::-1])
        self.assertEqual([key async for key in self.r.scan_iter()], [EVERY_BYTE])

    async def test_five_megabytes_pass_whole(self):
        await self.r.set("large", FIVE_MB)
        got = await self.r.pipeline().set("other", FIVE_MB).get("large").get("other").execute()
        self.assertTrue(got == [True, FIVE_MB, FIVE_MB], "a large value came back changed")

    async def test_racing_increments_are_all_counted(self):
        async def count(client):
            for _ in range(100):
                await client.incr("n")

        await asyncio.gather(*(count(self.connect()) for _ in range(20)))
        self.assertEqual(await self.r.get("n"), b"2000")

    async def test_errors_arrive_as_errors_and_the_connection_stays_usable(self):
        one = self.connect(single_connection_client=True)
        before = await one.client_id()
        await one.set("k", "text")
        with self.assertRaisesRegex(ResponseError, "^value is not an integer or out of range$"):
            await one.incr("k")
        with self.assertRaisesRegex(ResponseError, "^unknown command 'NOSUCHCOMMAND'"):
            await one.execute_command("NOSUCHCOMMAND", "a")
        self.assertEqual((await one.get("k"), await one.client_id()), (b"text", before))

    async def test_the_server_tells_about_itself(self):
        await self.r.set("k", "v", ex=100)
        info = await self.r.info()
        self.assertEqual((info["loading"], info["db0"]["keys"], info["db0"]["expires"]), (0, 1, 1))
        one = self.connect(client_name="named")
        self.assertEqual((await one.client_info())["name"], "named")

    async def test_keys_expire(self):
        await self.r.set("k", "v", px=100)
        await self.r.set("kept", "v", ex=100)
        self.assertTrue(90_000 < await self.r.pttl("kept") <= 100_000)
        end = time.monotonic() + 5
        while await self.r.get("k") is not None:
            self.assertLess(time.monotonic(), end, "the key did not expire")
            await asyncio.sleep(0.01)
        self.assertEqual(await self.r.ttl("k"), -2)

    @needs_locked
    async def test_a_password_is_asked_for(self):
        at = {"host": LOCKED_HOST, "port": LOCKED_PORT}
        self.assertIs(await self.connect(**at, password=PASSWORD).ping(), True)
        self.assertIs(await self.connect(**at, username="default", password=PASSWORD).ping(), True)
        for options in {}, {"password": "wrong"}:
            with self.subTest(options), self.assertRaises(AuthenticationError):
                await self.connect(**at, **options, retry=Retry(NoBackoff(), 0)).get("k")


class Resp2(Default):
    protocol = spoken = 2


class Resp3(Default):
    protocol = spoken = 3


if __name__ == "__main__":
    unittest.main()
