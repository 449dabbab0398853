//! Where the servers are, as `run` tells it, and what the suites of both clients need.

use std::env;
use std::iter;

/// Host and port of the server.
#[must_use]
pub fn open() -> (String, u16) {
    parse(&env::var("CLIENTS_ADDRESS").expect("CLIENTS_ADDRESS is set, as `run` does"))
}

/// Host, port and password of a server that asks for one; there is none where `run` was given an
/// address.
#[must_use]
pub fn locked() -> Option<(String, u16, String)> {
    let Ok(address) = env::var("CLIENTS_LOCKED_ADDRESS") else {
        println!("skipped: no server with a password");
        return None;
    };
    let (host, port) = parse(&address);
    Some((
        host,
        port,
        env::var("CLIENTS_PASSWORD").expect("CLIENTS_PASSWORD is set too"),
    ))
}

fn parse(address: &str) -> (String, u16) {
    let (host, port) = address.rsplit_once(':').expect("an address is HOST:PORT");
    (host.to_owned(), port.parse().expect("a port is a number"))
}

/// Each byte there is, and what would end a value if it were not told by its length.
#[must_use]
pub fn every_byte() -> Vec<u8> {
    (0..=255).chain(*b"\r\n$-1\r\n*0\r\n").collect()
}

/// Five million bytes whose order shows a part that is lost or twice.
#[must_use]
pub fn five_mb() -> Vec<u8> {
    let thousand = (0..1000_u32).map(|i| u8::try_from(i * 7919 % 251).expect("251 is below 256"));
    let thousand: Vec<u8> = thousand.collect();
    iter::repeat_n(thousand, 5000).flatten().collect()
}
