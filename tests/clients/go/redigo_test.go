// redigo, as Debian packages it. It speaks RESP2 only, and says nothing of its own on connecting.
package clients

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// everyByte is each byte there is, and what would end a value if it were not told by its length.
var everyByte = func() []byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return append(all, "\r\n$-1\r\n*0\r\n"...)
}()

// fiveMB is five million bytes whose order shows a part that is lost or twice.
var fiveMB = func() []byte {
	thousand := make([]byte, 1000)
	for i := range thousand {
		thousand[i] = byte(i * 7919 % 251)
	}
	return bytes.Repeat(thousand, 5000)
}()

func connect(t *testing.T) redis.Conn {
	t.Helper()
	c, err := redis.Dial("tcp", os.Getenv("CLIENTS_ADDRESS"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// begin connects to a server that it empties.
func begin(t *testing.T) redis.Conn {
	t.Helper()
	c := connect(t)
	expect(t, c, "OK", "FLUSHALL")
	return c
}

// expect sends a command and compares its reply; a string is wanted for a bulk string too.
func expect(t *testing.T, c redis.Conn, want interface{}, name string, args ...interface{}) {
	t.Helper()
	got, err := c.Do(name, args...)
	if text, ok := got.([]byte); ok {
		got = string(text)
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %#v, %v; want %#v", name, got, err, want)
	}
}

// expectError sends a command that is to be answered with redigo's type for an error reply.
func expectError(t *testing.T, c redis.Conn, pattern string, name string, args ...interface{}) {
	t.Helper()
	got, err := c.Do(name, args...)
	var reply redis.Error
	if !errors.As(err, &reply) || !regexp.MustCompile(pattern).MatchString(string(reply)) {
		t.Fatalf("%s: got %#v, %v; want an error %q", name, got, err, pattern)
	}
}

func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

func TestValuesComeBack(t *testing.T) {
	c := begin(t)
	expect(t, c, "PONG", "PING")
	expect(t, c, "OK", "SET", "city", "Lisbon")
	expect(t, c, "Lisbon", "GET", "city")
	expect(t, c, nil, "GET", "absent")
	expect(t, c, nil, "SET", "city", "Porto", "NX")
	expect(t, c, "OK", "MSET", "a", 1, "b", 2.5)
	expect(t, c, "3", "INCRBYFLOAT", "b", 0.5)
	values, err := redis.Strings(c.Do("MGET", "a", "absent", "b"))
	if want := []string{"1", "", "3"}; err != nil || !reflect.DeepEqual(values, want) {
		t.Fatal(values, err)
	}
	expect(t, c, int64(2), "DEL", "a", "b", "absent")
}

func TestAPipelineAnswersInOrder(t *testing.T) {
	c := begin(t)
	for i := 0; i < 1000; i++ {
		c.Send("SET", i, i)
		c.Send("GET", i)
		c.Send("INCR", "count")
	}
	c.Flush()
	for i := 0; i < 1000; i++ {
		set, err1 := redis.String(c.Receive())
		value, err2 := redis.Int(c.Receive())
		count, err3 := redis.Int(c.Receive())
		if err1 != nil || err2 != nil || err3 != nil || set != "OK" || value != i || count != i+1 {
			t.Fatal(i, set, value, count, err1, err2, err3)
		}
	}
}

func TestATransactionIsCarriedOutAsOne(t *testing.T) {
	c := begin(t)
	c.Send("MULTI")
	c.Send("SET", "k", "v")
	c.Send("INCR", "n")
	c.Send("INCR", "k")
	c.Send("GET", "n")
	replies, err := redis.Values(c.Do("EXEC"))
	if err != nil || len(replies) != 4 {
		t.Fatal(replies, err)
	}
	if _, failed := replies[2].(redis.Error); !failed || replies[1] != int64(1) || string(replies[3].([]byte)) != "1" {
		t.Fatalf("%#v", replies)
	}
}

func TestATransactionWithAnUnknownCommandIsNotBegun(t *testing.T) {
	c := begin(t)
	expect(t, c, "OK", "MULTI")
	expect(t, c, "QUEUED", "SET", "k", "v")
	expectError(t, c, "^ERR unknown command 'NOSUCHCOMMAND'", "NOSUCHCOMMAND")
	expectError(t, c, "^EXECABORT ", "EXEC")
	expect(t, c, nil, "GET", "k")
}

func TestAWatchedKeyThatChangesMakesTheTransactionRunAgain(t *testing.T) {
	c, other := begin(t), connect(t)
	expect(t, c, "OK", "SET", "n", 1)
	var runs []int
	for done := false; !done; {
		expect(t, c, "OK", "WATCH", "n")
		n, err := redis.Int(c.Do("GET", "n"))
		if err != nil {
			t.Fatal(err)
		}
		if len(runs) == 0 {
			expect(t, other, "OK", "SET", "n", 10)
		}
		runs = append(runs, n)
		c.Send("MULTI")
		c.Send("SET", "n", n*2)
		reply, err := c.Do("EXEC")
		if err != nil {
			t.Fatal(err)
		}
		done = reply != nil
	}
	if !reflect.DeepEqual(runs, []int{1, 10}) {
		t.Fatal(runs)
	}
	expect(t, c, "20", "GET", "n")
}

func TestAScanReturnsEveryKey(t *testing.T) {
	c := begin(t)
	for i := 0; i < 1000; i++ {
		c.Send("SET", fmt.Sprintf("scan:%d", i), "")
	}
	if _, err := c.Do("SET", "other", ""); err != nil {
		t.Fatal(err)
	}
	found, cursor := map[string]bool{}, 0
	for begun := false; !begun || cursor != 0; begun = true {
		page, err := redis.Values(c.Do("SCAN", cursor, "MATCH", "scan:*", "COUNT", 100))
		var keys []string
		if err == nil {
			_, err = redis.Scan(page, &cursor, &keys)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			found[key] = true
		}
	}
	for i := 0; i < 1000; i++ {
		if !found[fmt.Sprintf("scan:%d", i)] {
			t.Fatalf("scan:%d is missing", i)
		}
	}
	if len(found) != 1000 {
		t.Fatal(len(found))
	}
}

func TestALockIsHeldByOneUntilItIsGivenBackOrExpires(t *testing.T) {
	c, other := begin(t), connect(t)
	expect(t, c, "OK", "SET", "lock", "mine", "PX", 30000, "NX")
	expect(t, other, nil, "SET", "lock", "theirs", "PX", 30000, "NX")
	expect(t, other, int64(0), "DELIFEQ", "lock", "theirs")
	expect(t, c, int64(1), "DELIFEQ", "lock", "mine")
	expect(t, c, "OK", "SET", "lock", "mine", "PX", 100, "NX")
	eventually(t, func() bool {
		reply, _ := redis.String(other.Do("SET", "lock", "theirs", "PX", 30000, "NX"))
		return reply == "OK"
	})
	expect(t, c, int64(0), "DELIFEQ", "lock", "mine")
	expect(t, other, "theirs", "GET", "lock")
}

func TestKeysAndValuesAreAnyBytes(t *testing.T) {
	c := begin(t)
	expect(t, c, "OK", "SET", everyByte, everyByte[1:])
	expect(t, c, string(everyByte[1:]), "GET", everyByte)
	keys, err := redis.ByteSlices(c.Do("KEYS", "*"))
	if err != nil || len(keys) != 1 || !bytes.Equal(keys[0], everyByte) {
		t.Fatal(keys, err)
	}
}

func TestFiveMegabytesPassWhole(t *testing.T) {
	c := begin(t)
	expect(t, c, "OK", "SET", "large", fiveMB)
	c.Send("SET", "other", fiveMB)
	c.Send("GET", "large")
	c.Flush()
	c.Receive()
	large, err := redis.Bytes(c.Receive())
	other, err2 := redis.Bytes(c.Do("GET", "other"))
	if err != nil || err2 != nil || !bytes.Equal(large, fiveMB) || !bytes.Equal(other, fiveMB) {
		t.Fatal("a large value came back changed", err, err2)
	}
}

func TestRacingIncrementsAreAllCounted(t *testing.T) {
	c := begin(t)
	pool := &redis.Pool{MaxIdle: 20, Dial: func() (redis.Conn, error) {
		return redis.Dial("tcp", os.Getenv("CLIENTS_ADDRESS"), redis.DialClientName("racer"))
	}}
	defer pool.Close()
	var all sync.WaitGroup
	for i := 0; i < 20; i++ {
		all.Add(1)
		go func() {
			defer all.Done()
			one := pool.Get()
			defer one.Close()
			for j := 0; j < 100; j++ {
				if _, err := one.Do("INCR", "n"); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	all.Wait()
	expect(t, c, "2000", "GET", "n")
}

func TestErrorsArriveAsErrorsAndTheConnectionStaysUsable(t *testing.T) {
	c := begin(t)
	before, _ := c.Do("CLIENT", "ID")
	expect(t, c, "OK", "SET", "k", "text")
	expectError(t, c, "^ERR value is not an integer or out of range$", "INCR", "k")
	expectError(t, c, "^ERR syntax error$", "SET", "k", "v", "NOSUCHOPTION")
	expectError(t, c, "^ERR unknown command 'NOSUCHCOMMAND', with args beginning with: 'a' ", "NOSUCHCOMMAND", "a")
	expect(t, c, "text", "GET", "k")
	expect(t, c, before, "CLIENT", "ID")
}

func TestTheServerTellsAboutItself(t *testing.T) {
	c := begin(t)
	expect(t, c, "OK", "SET", "k", "v", "EX", 100)
	info, err := redis.String(c.Do("INFO"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"# Server\r\n", "\r\nloading:0\r\n", "\r\ndb0:keys=1,expires=1,"} {
		if !strings.Contains(info, line) {
			t.Errorf("INFO has no %q", line)
		}
	}
}

func TestAClientHasANameAndAnID(t *testing.T) {
	c, err := redis.Dial("tcp", os.Getenv("CLIENTS_ADDRESS"), redis.DialClientName("first"), redis.DialDatabase(0))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	expect(t, c, "first", "CLIENT", "GETNAME")
	expect(t, c, "OK", "CLIENT", "SETNAME", "second")
	id, _ := redis.Int64(c.Do("CLIENT", "ID"))
	info, err := redis.String(c.Do("CLIENT", "INFO"))
	if err != nil || !strings.HasPrefix(info, "id="+strconv.FormatInt(id, 10)+" ") || !strings.Contains(info, " name=second ") {
		t.Fatal(info, err)
	}
}

func TestKeysExpire(t *testing.T) {
	c := begin(t)
	expect(t, c, "OK", "SET", "k", "v", "PX", 100)
	expect(t, c, "OK", "SET", "kept", "v", "EX", 100)
	if left, err := redis.Int(c.Do("PTTL", "kept")); err != nil || left <= 90000 || left > 100000 {
		t.Fatal(left, err)
	}
	eventually(t, func() bool {
		reply, err := c.Do("GET", "k")
		return reply == nil && err == nil
	})
	expect(t, c, int64(-2), "TTL", "k")
}

func TestAPasswordIsAskedFor(t *testing.T) {
	address, password := os.Getenv("CLIENTS_LOCKED_ADDRESS"), os.Getenv("CLIENTS_PASSWORD")
	if address == "" {
		t.Skip("no server with a password")
	}
	for _, options := range [][]redis.DialOption{
		{redis.DialPassword(password)},
		{redis.DialUsername("default"), redis.DialPassword(password)},
	} {
		c, err := redis.Dial("tcp", address, options...)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, c, "PONG", "PING")
		c.Close()
	}
	if _, err := redis.Dial("tcp", address, redis.DialPassword("wrong")); err == nil || !strings.HasPrefix(err.Error(), "WRONGPASS ") {
		t.Fatal(err)
	}
	c, err := redis.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	expectError(t, c, "^NOAUTH ", "GET", "k")
	expect(t, c, "OK", "AUTH", password)
	expect(t, c, "PONG", "PING")
}
