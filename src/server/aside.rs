//! A request that was set aside (see [`round`](super::round)): its bytes, and what was found in them.

use std::ops::Range;

use smallvec::SmallVec;

use super::stretch::Found;
use crate::command::Spec;
use crate::protocol::Dialect;
use crate::spares::Spare;

/// The longest request that is set aside, in bytes.
pub(super) const LONGEST: usize = 1 << 10;

/// One request, which need not be decoded again.
#[derive(Debug)]
pub(super) struct Aside {
    bytes: Vec<u8>,
    /// Where its words lie.
    words: SmallVec<[Range<usize>; 4]>,
    dialect: Dialect,
    named: Option<&'static Spec>,
}

impl Default for Aside {
    /// That of no request.
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            words: SmallVec::new(),
            dialect: Dialect::Silent,
            named: None,
        }
    }
}

impl Spare for Aside {
    fn empty(&mut self) -> bool {
        self.bytes.clear();
        self.words.clear();
        self.bytes.capacity() <= LONGEST && !self.words.spilled()
    }
}

impl Aside {
    /// Keeps `request`, which was found in `bytes`, and is all of them.
    pub(super) fn keep(&mut self, bytes: &[u8], request: &Found<'_>) {
        self.bytes.extend_from_slice(bytes);
        let words = request.args.iter().map(|word| {
            let start = word.as_ptr().addr().wrapping_sub(bytes.as_ptr().addr());
            start..start.wrapping_add(word.len())
        });
        self.words.extend(words);
        (self.dialect, self.named) = (request.dialect, request.named);
    }

    /// The request as it was found.
    pub(super) fn request(&self) -> Found<'_> {
        let word = |place: &Range<usize>| self.bytes.get(place.clone()).unwrap_or_default();
        Found {
            args: self.words.iter().map(word).collect(),
            dialect: self.dialect,
            len: self.bytes.len(),
            named: self.named,
        }
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::stretch::Stretch;
    use super::*;
    use crate::protocol::Decoder;

    #[test]
    fn a_request_is_the_same_when_it_was_kept() {
        for bytes in [
            &b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n"[..],
            b"*3\r\n$4\r\nMGET\r\n$0\r\n\r\n$2\r\n\r\n\r\n",
            b"get key\r\n",
            b"  GET \"a key\"  \n",
            b"EXISTS a b c d e f g h\n",
            b"NOSUCH\n",
        ] {
            let mut stretch = Stretch::new();
            stretch.decode(&mut Decoder::default(), bytes);
            let [found] = &stretch.requests[..] else {
                panic!("{stretch:?}");
            };
            let mut aside = Aside::default();
            aside.keep(bytes, found);
            {
                let kept = aside.request();
                assert_eq!(kept.args, found.args);
                assert_eq!((kept.dialect, kept.len), (found.dialect, bytes.len()));
                let names = [kept.named, found.named].map(|spec| spec.map(|spec| spec.name));
                assert_eq!(names[0], names[1]);
            }
            assert_eq!(aside.bytes(), bytes);
            let few = found.args.len() <= 4;
            assert_eq!(aside.empty(), few, "of many words the room is not kept");
            assert!(aside.request().args.is_empty());
        }
    }
}
