"use strict";
// Where the servers are, as `run` tells it, and what the suites of both clients need.

function server(address) {
  if (!address) return null;
  const colon = address.lastIndexOf(":");
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}

exports.open = server(process.env.CLIENTS_ADDRESS);

// A server that asks for the password; there is none where `run` was given an address.
exports.locked = server(process.env.CLIENTS_LOCKED_ADDRESS);
exports.password = process.env.CLIENTS_PASSWORD;
exports.unlessLocked = { skip: exports.locked ? false : "no server with a password" };

// Each byte there is, and what would end a value if it were not told by its length.
exports.everyByte = Buffer.concat([Buffer.from([...Array(256).keys()]), Buffer.from("\r\n$-1\r\n*0\r\n")]);

// Five million bytes whose order shows a part that is lost or twice.
exports.fiveMb = Buffer.from(Array.from({ length: 5_000_000 }, (_, i) => (i % 1000) * 7919 % 251));

// The numbers below `length`, each handed to `make`.
exports.list = (length, make = (i) => i) => Array.from({ length }, (_, i) => make(i));

// Resolves once `holds` resolves to true; rejects after five seconds without that.
exports.eventually = async (holds) => {
  for (const end = Date.now() + 5000; !(await holds()); await new Promise((done) => setTimeout(done, 10))) {
    if (Date.now() > end) throw new Error("waited in vain");
  }
};
