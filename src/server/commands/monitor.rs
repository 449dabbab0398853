//! MONITOR: what all clients ask, shown to those who want to see it.
//!
//! A monitor that does not take its lines is ended once a limit of them waits: neither the other
//! clients nor memory suffer for it (P8).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::secret;
use crate::command::{Flags, Spec};
use crate::server::clients::Client;
use crate::time::Timestamp;

/// Lines that may wait for a monitor.
const MAX_LINES: usize = 1 << 16;

/// Bytes that may.
const MAX_BYTES: usize = 16 << 20;

/// Bytes of an argument that are shown.
const SHOWN: usize = 16 << 10;

/// Arguments that are shown.
const MAX_SHOWN: usize = 256;

/// Who wants to see what is asked.
#[derive(Debug, Default)]
pub(in crate::server) struct Monitors {
    count: AtomicUsize,
    all: Mutex<Vec<Monitor>>,
}

#[derive(Debug)]
struct Monitor {
    client: Arc<Client>,
    lines: mpsc::Sender<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
}

/// A monitor's end: the lines that it has not been shown yet.
#[derive(Debug)]
pub(in crate::server) struct Feed {
    lines: mpsc::Receiver<Arc<[u8]>>,
    waiting: Arc<AtomicUsize>,
}

impl Feed {
    /// The next line, without its end.
    pub(in crate::server) fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Arc<[u8]>>> {
        let polled = self.lines.poll_recv(cx);
        if let Poll::Ready(Some(line)) = &polled {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        }
        polled
    }
}

impl Monitors {
    /// Lets a client see what is asked from now on.
    pub(super) fn add(&self, client: Arc<Client>) -> Feed {
        let (sender, lines) = mpsc::channel(MAX_LINES);
        let waiting = Arc::new(AtomicUsize::new(0));
        let mut all = self.all.lock();
        all.push(Monitor {
            client,
            lines: sender,
            waiting: Arc::clone(&waiting),
        });
        self.count.store(all.len(), Ordering::Relaxed);
        Feed { lines, waiting }
    }

    /// Whether nobody wants to see anything.
    pub(in crate::server) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Shows what `client` asked; says how many monitors were too slow and are gone.
    pub(in crate::server) fn show(
        &self,
        now: Timestamp,
        client: &Client,
        spec: &Spec,
        request: &[&[u8]],
    ) -> usize {
        if spec.flags.has(Flags::ADMIN) || spec.flags.has(Flags::SKIP_MONITOR) {
            return 0;
        }
        let line: Arc<[u8]> = line(now, client, spec, request).into();
        let mut too_slow = 0;
        let mut all = self.all.lock();
        all.retain(|monitor| {
            if monitor.lines.is_closed() {
                return false;
            }
            let waiting = monitor.waiting.fetch_add(line.len(), Ordering::Relaxed);
            let room = waiting + line.len() <= MAX_BYTES;
            let kept = room && monitor.lines.try_send(Arc::clone(&line)).is_ok();
            if !kept {
                tracing::warn!(addr = %monitor.client.addr, "ending a monitor that is too slow");
                monitor.client.end();
                too_slow += 1;
            }
            kept
        });
        self.count.store(all.len(), Ordering::Relaxed);
        too_slow
    }
}

fn line(now: Timestamp, client: &Client, spec: &Spec, request: &[&[u8]]) -> Vec<u8> {
    let Timestamp(millis) = now;
    let (seconds, micros) = (millis / 1000, millis % 1000 * 1000);
    let mut line = format!("{seconds}.{micros:06} [0 {}]", client.addr).into_bytes();
    for (index, word) in request.iter().enumerate().take(MAX_SHOWN) {
        line.push(b' ');
        if secret(spec, request, index) {
            line.extend_from_slice(b"\"(redacted)\"");
        } else {
            quote(word, &mut line);
        }
    }
    if request.len() > MAX_SHOWN {
        let more = request.len() - MAX_SHOWN;
        line.extend_from_slice(format!(" \"... ({more} more arguments)\"").as_bytes());
    }
    line
}

/// Appends a word between quotation marks, so that it is printable and unmistakable.
fn quote(word: &[u8], line: &mut Vec<u8>) {
    let (shown, hidden) = word.split_at(word.len().min(SHOWN));
    line.push(b'"');
    for &byte in shown {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            0x07 => line.extend_from_slice(b"\\a"),
            0x08 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    if !hidden.is_empty() {
        line.extend_from_slice(format!("... ({} more bytes)", hidden.len()).as_bytes());
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::command::lookup;
    use crate::server::clients::{Clients, Connected};

    fn client() -> Connected {
        let addr = SocketAddr::from(([127, 0, 0, 1], 1234));
        Arc::new(Clients::default()).add(addr, addr, CancellationToken::new())
    }

    fn shown(request: &[&[u8]]) -> String {
        let spec = lookup(request[0]).unwrap();
        let spec = request
            .get(1)
            .and_then(|sub| spec.subcommand(sub))
            .unwrap_or(spec);
        let line = line(
            Timestamp(1_700_000_000_042),
            &client().client,
            spec,
            request,
        );
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_is_valkey_s() {
        assert_eq!(
            shown(&[b"set", b"a", b"b\x00\xff\r\"\\ ~\x7f"]),
            r#"1700000000.042000 [0 127.0.0.1:1234] "set" "a" "b\x00\xff\r\"\\ ~\x7f""#
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        for request in [
            &[&b"AUTH"[..], b"secret"][..],
            &[b"auth", b"secret", b"secret"],
            &[b"HELLO", b"3", b"auth", b"secret", b"secret"],
            &[
                b"config",
                b"set",
                b"maxmemory",
                b"0",
                b"RequirePass",
                b"secret",
            ],
        ] {
            let line = shown(request);
            assert!(
                line.contains("(redacted)") && !line.contains("secret"),
                "{line}"
            );
        }
    }

    #[test]
    fn what_is_long_is_cut() {
        let long = vec![b'x'; SHOWN + 5];
        assert!(shown(&[b"GET", &long]).ends_with("... (5 more bytes)\""));
        let many = vec![&b"k"[..]; MAX_SHOWN + 1];
        let many = [&[&b"MGET"[..]], &many[..]].concat();
        assert!(shown(&many).ends_with("\"... (2 more arguments)\""));
    }

    #[test]
    fn a_monitor_that_takes_nothing_is_ended_at_a_limit_and_others_are_not() {
        let (asks, slow, quick) = (client(), client(), client());
        let monitors = Monitors::default();
        assert!(monitors.is_empty());
        let _kept = monitors.add(Arc::clone(&slow.client));
        let mut taken = monitors.add(Arc::clone(&quick.client));
        let spec = lookup(b"GET").unwrap();
        let value = vec![b'x'; SHOWN];
        let mut ended = 0;
        for _ in 0..2 * MAX_BYTES / SHOWN {
            ended += monitors.show(Timestamp(0), &asks.client, spec, &[b"GET", &value]);
            assert!(taken.lines.try_recv().is_ok_and(|line| {
                taken.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                line.len() > SHOWN
            }));
        }
        assert_eq!(ended, 1);
        assert!(slow.client.is_ended() && !quick.client.is_ended());
        drop(taken);
        monitors.show(Timestamp(0), &asks.client, spec, &[b"GET", b"k"]);
        assert!(monitors.is_empty());
    }
}
