//! A client of lines: a blocking socket that waits at most ten seconds for what it reads.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// How long a reply may take before the test fails.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    replies: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).expect("the server accepts a connection")
    }

    pub fn try_connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, REPLY_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        let replies = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, replies })
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).expect("the server takes bytes");
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// One reply line with its line break; empty once the server has closed.
    pub fn line(&mut self) -> Vec<u8> {
        self.try_line().expect("a reply within ten seconds")
    }

    pub fn try_line(&mut self) -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.replies.read_until(b'\n', &mut line)?;
        Ok(line)
    }

    /// One reply line, which must end in a bare `\n`, without it.
    pub fn reply(&mut self) -> String {
        let line = self.line();
        let text = line.strip_suffix(b"\n");
        let text = text.unwrap_or_else(|| panic!("a cut reply: {:?}", show(&line)));
        String::from_utf8_lossy(text).into_owned()
    }

    /// Sends one line and waits for its reply.
    pub fn request(&mut self, line: &str) -> String {
        self.send(format!("{line}\n").as_bytes());
        self.reply()
    }

    /// Asks for a list on one line, and waits for its lines.
    pub fn list(&mut self, line: &str) -> Vec<String> {
        let header = self.request(line);
        let count = header.strip_prefix("+OK ").map(str::parse::<usize>);
        let Some(Ok(count)) = count else {
            panic!("no list: {header}");
        };
        let lines = (0..count).map(|_| self.reply().trim_end().to_owned());
        lines.collect()
    }

    /// How many clients the server has, this one included.
    pub fn connected(&mut self) -> usize {
        self.list("CLIENT LIST").len()
    }

    /// Just this many bytes of replies.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.replies
            .read_exact(&mut bytes)
            .expect("all the bytes of the replies");
        bytes
    }

    /// All that is still to come, up to the server's close.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.replies
            .read_to_end(&mut bytes)
            .expect("an orderly close");
        bytes
    }

    /// Tells the server that nothing more will be sent.
    pub fn half_close(&self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("the connection is open");
    }

    /// Wants the server to close the connection without another byte; a reset counts.
    #[track_caller]
    pub fn assert_closed(&mut self) {
        match self.try_line() {
            Ok(line) => assert_same_bytes(&line, b"", "behind the last reply"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Another handle on the same connection, to send from another thread.
    pub fn sender(&self) -> TcpStream {
        self.stream.try_clone().expect("a descriptor is left")
    }
}

/// Bytes as a person can read them, cut where they go on and on.
pub fn show(bytes: &[u8]) -> String {
    let start = bytes.get(..200).unwrap_or(bytes).escape_ascii();
    format!("{start} ({} bytes)", bytes.len())
}

/// Fails with bytes a person can read, from where the two begin to differ.
#[track_caller]
pub fn assert_same_bytes(actual: &[u8], expected: &[u8], of: &str) {
    if actual == expected {
        return;
    }
    let pairs = actual.iter().zip(expected);
    let differ_at = pairs.take_while(|(a, b)| a == b).count();
    let from = differ_at.saturating_sub(40);
    panic!(
        "{of}: the replies differ at byte {differ_at}\n  got      {}\n  expected {}",
        show(&actual[from..]),
        show(&expected[from..])
    );
}
