//! What the fuzz targets share: an input, a decoder driven as a connection drives it, and files.

pub mod memory;

use postres::protocol::{Decoder, Dialect, ProtocolError, RespVersion};

/// A request as it outlives its bytes.
pub type Owned = (Vec<Vec<u8>>, Dialect);

/// Bytes of a client, and where they are split.
#[derive(Debug)]
pub struct Input<'a> {
    /// Whether the client has given its password.
    pub trusted: bool,
    /// The version of RESP that it speaks.
    pub version: RespVersion,
    /// What it sends, as it arrives.
    pub pieces: Vec<&'a [u8]>,
    /// The same in one piece.
    pub whole: &'a [u8],
}

impl<'a> Input<'a> {
    /// The first byte holds two switches and how many of the next say how long a piece is: up to
    /// 15, and what is left is the last piece.
    pub fn new(data: &'a [u8]) -> Option<Self> {
        let (&switches, rest) = data.split_first()?;
        let (lens, whole) = rest.split_at_checked(usize::from(switches & 15))?;
        let mut pieces = Vec::new();
        let mut left = whole;
        for len in lens {
            let (piece, behind) = left.split_at(usize::from(*len).min(left.len()));
            pieces.push(piece);
            left = behind;
        }
        pieces.push(left);
        Some(Self {
            trusted: switches & 64 == 0,
            version: if switches & 128 == 0 {
                RespVersion::Two
            } else {
                RespVersion::Three
            },
            pieces,
            whole,
        })
    }

    /// A decoder that was told what it must know of this client.
    pub fn decoder(&self) -> Decoder {
        let mut decoder = Decoder::default();
        decoder.trust(self.trusted);
        decoder.speak(self.version);
        decoder
    }
}

/// Decodes pieces up to the first error, and checks what a connection relies on. Gives the requests
/// as well as how many bytes they took, unless there was an error.
pub fn decode_pieces(
    mut decoder: Decoder,
    pieces: &[&[u8]],
) -> (Vec<Owned>, Result<usize, ProtocolError>) {
    let (mut buffer, mut decoded) = (Vec::new(), Vec::new());
    let (mut all_taken, mut wanted) = (0, 0_usize);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        wanted = wanted.saturating_sub(piece.len());
        loop {
            let (request, taken) = match decoder.decode(&buffer) {
                Ok(found) => found,
                Err(error) => return (decoded, Err(error)),
            };
            assert!(taken <= buffer.len(), "took {taken} of {}", buffer.len());
            let request = request.map(|request| {
                let args: Vec<_> = request.args.iter().map(|arg| arg.to_vec()).collect();
                (args, request.dialect)
            });
            let done = request.is_none();
            if let Some((args, _)) = &request {
                assert_eq!(wanted, 0, "complete, though it said that it was not");
                assert!(!args.is_empty());
                assert!(args.iter().map(Vec::len).sum::<usize>() < taken);
            }
            decoded.extend(request);
            buffer.drain(..taken);
            all_taken += taken;
            if done {
                wanted = decoder.wanted();
                break;
            }
        }
    }
    (decoded, Ok(all_taken))
}
