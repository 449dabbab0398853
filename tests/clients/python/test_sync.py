"""redis-py, its blocking client: as it connects by default, and with each protocol chosen."""

import threading
import time
import unittest

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ExecAbortError,
    LockNotOwnedError,
    ResponseError,
    WatchError,
)
from redis.retry import Retry

from at import EVERY_BYTE, FIVE_MB, HOST, LOCKED_HOST, LOCKED_PORT, PASSWORD, PORT, needs_locked


class Lock(redis.lock.Lock):
    """redis-py's own lock, which would give itself back by a script, with DELIFEQ in its place."""

    def do_release(self, expected_token):
        if not self.redis.execute_command("DELIFEQ", self.name, expected_token):
            raise LockNotOwnedError("the lock is another's by now")


def eventually(holds, seconds=5):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Default(unittest.TestCase):
    protocol = None
    spoken = 3

    def connect(self, **options):
        if self.protocol:
            options["protocol"] = self.protocol
        client = redis.Redis(**{"host": HOST, "port": PORT, **options})
        self.addCleanup(client.close)
        return client

    def setUp(self):
        self.r = self.connect()
        self.r.flushall()

    def test_speaks_the_protocol_that_was_chosen(self):
        self.assertEqual(self.r.client_info()["resp"], str(self.spoken))

    def test_values_come_back(self):
        self.assertIs(self.r.ping(), True)
        self.assertIs(self.r.set("city", "Lisbon"), True)
        self.assertEqual(self.r.get("city"), b"Lisbon")
        self.assertIsNone(self.r.get("absent"))
        self.assertIsNone(self.r.set("city", "Porto", nx=True))
        self.assertEqual(self.r.set("city", "Porto", get=True), b"Lisbon")
        self.assertIs(self.r.mset({"a": 1, "b": 2.5}), True)
        self.assertEqual(self.r.mget("a", "absent", "b"), [b"1", None, b"2.5"])
        self.assertEqual(self.r.incrbyfloat("b", 0.5), 3.0)
        self.assertEqual(self.r.delete("a", "b", "absent"), 2)
        self.assertEqual(self.connect(decode_responses=True).get("city"), "Porto")

    def test_a_pipeline_answers_in_order(self):
        pipe = self.r.pipeline(transaction=False)
        for i in range(1000):
            pipe.set(f"k{i}", i).get(f"k{i}").incr("count")
        want = [reply for i in range(1000) for reply in (True, str(i).encode(), i + 1)]
        self.assertEqual(pipe.execute(), want)

    def test_a_transaction_is_carried_out_as_one(self):
        pipe = self.r.pipeline(transaction=True)
        pipe.set("k", "v").get("k").incr("n").incr("k").get("n")
        *before, error, last = pipe.execute(raise_on_error=False)
        self.assertEqual((before, last), ([True, b"v", 1], b"1"))
        self.assertIsInstance(error, ResponseError)

    def test_a_transaction_with_an_unknown_command_is_not_begun(self):
        pipe = self.r.pipeline(transaction=True)
        pipe.set("k", "v")
        pipe.execute_command("NOSUCHCOMMAND")
        # redis-py shows the error that was the cause, in place of EXEC's own.
        with self.assertRaisesRegex(ResponseError, "unknown command 'NOSUCHCOMMAND'"):
            pipe.execute()
        self.assertIsNone(self.r.get("k"))

    def test_exec_after_an_error_says_that_it_was_aborted(self):
        connection = redis.Redis(connection_pool=self.r.connection_pool, single_connection_client=True)
        self.addCleanup(connection.close)
        connection.execute_command("MULTI")
        with self.assertRaisesRegex(ResponseError, "wrong number of arguments for 'get' command"):
            connection.execute_command("GET")
        with self.assertRaises(ExecAbortError):
            connection.execute_command("EXEC")

    def test_a_watched_key_that_changes_makes_the_transaction_run_again(self):
        self.r.set("n", 1)
        other, runs = self.connect(), []

        def double(pipe):
            n = int(pipe.get("n"))
            if not runs:
                other.set("n", 10)
            runs.append(n)
            pipe.multi()
            pipe.set("n", n * 2)

        self.assertEqual(self.r.transaction(double, "n"), [True])
        self.assertEqual((runs, self.r.get("n")), ([1, 10], b"20"))
        with self.r.pipeline() as pipe:
            pipe.watch("n")
            other.set("n", 0)
            pipe.multi()
            pipe.set("n", 1)
            self.assertRaises(WatchError, pipe.execute)

    def test_a_scan_returns_every_key(self):
        keys = {f"scan:{i}".encode() for i in range(1000)}
        self.r.mset({key: "" for key in keys} | {"other": ""})
        self.assertEqual(set(self.r.scan_iter()), keys | {b"other"})
        self.assertEqual(set(self.r.scan_iter(match="scan:*", count=100)), keys)
        self.assertEqual(set(self.r.scan_iter(match="scan:1?", _type="string")), {b"scan:1%d" % i for i in range(10)})

    def test_a_lock_is_held_by_one_until_it_is_given_back_or_expires(self):
        mine, theirs = (Lock(c, "lock", timeout=30, blocking=False) for c in (self.r, self.connect()))
        self.assertTrue(mine.acquire())
        self.assertFalse(theirs.acquire())
        self.assertTrue(mine.owned() and not theirs.owned())
        mine.release()
        short = Lock(self.r, "lock", timeout=0.2)
        self.assertTrue(short.acquire())
        # The second waits until the first one's time is over.
        self.assertTrue(theirs.acquire(blocking=True, blocking_timeout=5))
        self.assertRaises(LockNotOwnedError, short.release)
        self.assertTrue(theirs.owned())

    def test_keys_and_values_are_any_bytes(self):
        self.r.set(EVERY_BYTE, EVERY_BYTE[::-1])
        self.r.set(b"", b"")
        self.assertEqual(self.r.mget(EVERY_BYTE, b""), [EVERY_BYTE[::-1], b""])
        self.assertEqual(set(self.r.scan_iter()), {EVERY_BYTE, b""})
        self.assertEqual(self.r.getrange(EVERY_BYTE, 0, 1), EVERY_BYTE[::-1][:2])

    def test_five_megabytes_pass_whole(self):
        self.r.set("large", FIVE_MB)
        self.assertTrue(self.r.get("large") == FIVE_MB, "a large value came back changed")
        pipe = self.r.pipeline(transaction=True)
        got = pipe.set("other", FIVE_MB).get("large").get("other").strlen("large").execute()
        self.assertTrue(got == [True, FIVE_MB, FIVE_MB, len(FIVE_MB)], "replies of a transaction differ")

    def test_racing_increments_are_all_counted(self):
        # A pool for each thread, so that each has a connection of its own.
        def count(client):
            for _ in range(100):
                client.incr("n")

        threads = [threading.Thread(target=count, args=[self.connect()]) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.r.get("n"), b"2000")

    def test_errors_arrive_as_errors_and_the_connection_stays_usable(self):
        one = self.connect(single_connection_client=True)
        before = one.client_id()
        one.set("k", "text")
        with self.assertRaisesRegex(ResponseError, "^value is not an integer or out of range$"):
            one.incr("k")
        with self.assertRaisesRegex(ResponseError, "^syntax error$"):
            one.execute_command("SET", "k", "v", "NOSUCHOPTION")
        with self.assertRaisesRegex(ResponseError, "^unknown command 'NOSUCHCOMMAND', with args beginning with: 'a' "):
            one.execute_command("NOSUCHCOMMAND", "a")
        self.assertEqual((one.get("k"), one.client_id()), (b"text", before))

    def test_the_server_tells_about_itself(self):
        self.r.set("k", "v", ex=100)
        info = self.r.info()
        self.assertEqual(info["loading"], 0)
        self.assertEqual((info["db0"]["keys"], info["db0"]["expires"]), (1, 1))
        self.assertGreaterEqual(info["connected_clients"], 1)
        self.assertRegex(info["redis_version"], r"^\d+\.\d+\.\d+$")
        self.assertIn("uptime_in_seconds", self.r.info("server"))
        self.assertIn("maxmemory", self.r.config_get("maxmemory*"))
        self.assertGreater(self.r.command_count(), 50)
        get = self.r.command()["get"]
        self.assertEqual((get["arity"], get["first_key_pos"], "readonly" in get["flags"]), (2, 1, True))
        self.assertLess(abs(self.r.time()[0] - time.time()), 60)

    def test_a_client_has_a_name_and_an_id(self):
        one = self.connect(client_name="first", single_connection_client=True)
        self.assertIn(one.client_getname(), ("first", b"first"))
        self.assertIs(one.client_setname("second"), True)
        info = one.client_info()
        self.assertEqual((info["name"], int(info["id"])), ("second", one.client_id()))
        self.assertEqual(info["lib-name"], "redis-py")
        self.assertIn("second", [client["name"] for client in self.r.client_list()])

    def test_keys_expire(self):
        self.r.set("k", "v", px=100)
        self.r.set("kept", "v", ex=100)
        self.assertTrue(90_000 < self.r.pttl("kept") <= 100_000 and 90 < self.r.ttl("kept") <= 100)
        self.assertTrue(eventually(lambda: self.r.get("k") is None), "the key did not expire")
        self.assertEqual((self.r.ttl("k"), self.r.exists("k")), (-2, 0))
        self.assertIs(self.r.persist("kept"), True)
        self.assertEqual(self.r.ttl("kept"), -1)
        self.assertIs(self.r.expire("kept", 0), True)
        self.assertEqual(self.r.exists("kept"), 0)

    @needs_locked
    def test_a_password_is_asked_for(self):
        at = {"host": LOCKED_HOST, "port": LOCKED_PORT}
        self.assertIs(self.connect(**at, password=PASSWORD).ping(), True)
        self.assertIs(self.connect(**at, username="default", password=PASSWORD).set("k", "v"), True)
        url = redis.Redis.from_url(f"redis://:{PASSWORD}@{LOCKED_HOST}:{LOCKED_PORT}/0")
        self.addCleanup(url.close)
        self.assertEqual(url.get("k"), b"v")
        for options in {}, {"password": "wrong"}, {"username": "nobody", "password": PASSWORD}:
            with self.subTest(options), self.assertRaises(AuthenticationError):
                # By default redis-py tries ten times, ever more slowly.
                self.connect(**at, **options, retry=Retry(NoBackoff(), 0)).get("k")


class Resp2(Default):
    protocol = spoken = 2


class Resp3(Default):
    protocol = spoken = 3


if __name__ == "__main__":
    unittest.main()
