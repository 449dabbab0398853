//! What waits to be written to a client.

use std::collections::VecDeque;
use std::io::IoSlice;

use smallvec::SmallVec;

/// A value of at least this many bytes is shared with the store until it was written, a shorter
/// one copied: below this, copying costs less than one more piece to write.
pub const SHARE_FROM: usize = 16 << 10;
/// The most pieces that one write is given.
pub const MAX_SLICES: usize = 16;

/// Once so many copied bytes were written, and no more than that are left, those are moved to the
/// front: an output that is never quite empty does not grow for ever.
const RECLAIM_AT: usize = 64 << 10;

/// What waits to be written to one client: bytes, and between them large values that are shared
/// with the store, not copied.
///
/// It has no bound of its own. Who fills it looks at [`len`](Self::len) between replies.
#[derive(Debug)]
pub struct Output<V> {
    /// The copied bytes.
    bytes: Vec<u8>,
    /// How many of `bytes` were written.
    written: usize,
    /// The large values, if there are any. In a box, since most connections never have one.
    large: Option<Box<LargeValues<V>>>,
}

/// Large values between the copied bytes.
#[derive(Debug)]
struct LargeValues<V> {
    /// In order. Each place is at or behind `Output::written`, and behind the place of the value
    /// before.
    list: VecDeque<Placed<V>>,
    /// How much of the first was written: only where its place is `Output::written`.
    written: usize,
    /// How many bytes are to be written.
    left: usize,
}

impl<V> Default for LargeValues<V> {
    fn default() -> Self {
        Self {
            list: VecDeque::new(),
            written: 0,
            left: 0,
        }
    }
}

/// A large value, and where it goes: before the byte of this offset in `Output::bytes`.
#[derive(Debug)]
struct Placed<V> {
    at: usize,
    value: Large<V>,
}

#[derive(Debug)]
enum Large<V> {
    Shared(V),
    Owned(Vec<u8>),
}

impl<V: AsRef<[u8]>> Large<V> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(value) => value.as_ref(),
            Self::Owned(bytes) => bytes,
        }
    }
}

impl<V> Default for Output<V> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            written: 0,
            large: None,
        }
    }
}

impl<V: AsRef<[u8]>> Output<V> {
    /// Nothing to write, and no buffer yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a copy of these bytes.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a value: copied, or shared from [`SHARE_FROM`] bytes on.
    pub fn push_value(&mut self, value: V) {
        let bytes = value.as_ref();
        if bytes.len() < SHARE_FROM {
            self.push_bytes(bytes);
        } else {
            self.push_large(Large::Shared(value));
        }
    }

    /// Appends bytes that are nobody else's: moved where there are many.
    pub(super) fn push_vec(&mut self, bytes: Vec<u8>) {
        if bytes.len() < SHARE_FROM {
            self.push_bytes(&bytes);
        } else {
            self.push_large(Large::Owned(bytes));
        }
    }

    /// Appends text in whose place only one line may stand: line breaks become spaces, lest
    /// what a client sent and gets shown ends the reply.
    pub(super) fn push_in_one_line(&mut self, text: &str) {
        let bytes = text.bytes();
        self.bytes.extend(bytes.map(|byte| match byte {
            b'\r' | b'\n' => b' ',
            byte => byte,
        }));
    }

    /// Appends a number's digits.
    pub(super) fn push_number(&mut self, number: i64) {
        let mut digits = [0; 20];
        let mut rest = number.unsigned_abs();
        let mut len = 0;
        for place in digits.iter_mut().rev() {
            // A remainder of ten is one digit.
            *place = b'0' + (rest % 10) as u8;
            rest /= 10;
            len += 1;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            self.bytes.push(b'-');
        }
        self.push_bytes(digits.get(digits.len() - len..).unwrap_or_default());
    }

    fn push_large(&mut self, value: Large<V>) {
        let at = self.bytes.len();
        let large = self.large.get_or_insert_default();
        large.left += value.bytes().len();
        large.list.push_back(Placed { at, value });
    }

    /// How many bytes are to be written, those of shared values included.
    pub fn len(&self) -> usize {
        let large = self.large.as_ref().map_or(0, |large| large.left);
        self.bytes.len() - self.written + large
    }

    /// Whether all was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes to be written, where they are one piece.
    pub fn one_piece(&self) -> Option<&[u8]> {
        let bytes = self.bytes.get(self.written..).unwrap_or_default();
        self.large.is_none().then_some(bytes)
    }

    /// The bytes to be written next, in order: all that are left, or the first [`MAX_SLICES`]
    /// pieces of them. Empty only where nothing is left.
    pub fn io_slices(&self) -> SmallVec<[IoSlice<'_>; MAX_SLICES]> {
        let mut slices = SmallVec::new();
        let mut push = |bytes| {
            if !<[u8]>::is_empty(bytes) && slices.len() < MAX_SLICES {
                slices.push(IoSlice::new(bytes));
            }
        };
        let mut from = self.written;
        let mut skip = self.large.as_ref().map_or(0, |large| large.written);
        let large = self.large.iter().flat_map(|large| &large.list);
        for large in large.take(MAX_SLICES) {
            push(self.bytes.get(from..large.at).unwrap_or_default());
            push(large.value.bytes().get(skip..).unwrap_or_default());
            from = large.at;
            skip = 0;
        }
        // Large values are never empty: where some were not looked at, there is no room left.
        push(self.bytes.get(from..).unwrap_or_default());
        slices
    }

    /// Takes away the first bytes, which were written. A shared value is let go with its last.
    pub fn advance(&mut self, mut len: usize) {
        debug_assert!(len <= self.len(), "{len} of {} bytes written", self.len());
        while len > 0 {
            let large = self.large.as_ref();
            let next = large.and_then(|large| Some(large.list.front()?.at));
            if next == Some(self.written) {
                len = self.advance_large(len);
                continue;
            }
            let left = next.unwrap_or(self.bytes.len()) - self.written;
            if left == 0 {
                break;
            }
            let step = left.min(len);
            self.written += step;
            len -= step;
        }
        self.reclaim();
    }

    /// Goes on in the first large value. Says how much of `len` lies behind it.
    fn advance_large(&mut self, len: usize) -> usize {
        let Some(large) = &mut self.large else {
            return len;
        };
        let Some(first) = large.list.front() else {
            return len;
        };
        let left = first.value.bytes().len() - large.written;
        let step = left.min(len);
        large.left -= step;
        if step == left {
            large.list.pop_front();
            large.written = 0;
        } else {
            large.written += step;
        }
        if large.list.is_empty() {
            self.large = None;
        }
        len - step
    }

    /// Makes room of bytes that were written, where that costs less than they did.
    fn reclaim(&mut self) {
        let left = self.bytes.len() - self.written;
        if self.written == 0 {
            return;
        }
        if left == 0 && self.large.is_none() {
            self.bytes.clear();
            self.written = 0;
        } else if left == 0 || (self.written >= RECLAIM_AT && self.written >= left) {
            self.bytes.drain(..self.written);
            let large = self.large.iter_mut();
            for large in large.flat_map(|large| &mut large.list) {
                large.at -= self.written;
            }
            self.written = 0;
        }
    }

    /// Throws away all that was to be written; keeps the buffer.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.written = 0;
        self.large = None;
    }

    /// Whether it has a buffer to write to.
    pub fn has_buffer(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Takes this empty buffer to write to, if it has none.
    pub fn lend(&mut self, buffer: &mut Vec<u8>) {
        if !self.has_buffer() {
            buffer.clear();
            std::mem::swap(&mut self.bytes, buffer);
        }
    }

    /// Parts with its buffer if all of it was written. It then holds no memory.
    pub fn give_back(&mut self) -> Option<Vec<u8>> {
        if !self.is_empty() {
            return None;
        }
        self.written = 0;
        Some(std::mem::take(&mut self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::tests::drain;

    /// A value that tells how many hold it.
    #[derive(Debug, Clone)]
    struct Value(Rc<Vec<u8>>);

    impl AsRef<[u8]> for Value {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Bytes(Vec<u8>),
        Value(Vec<u8>),
        Vec(Vec<u8>),
        Write(usize),
        GiveBack,
        Lend(usize),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let small = vec(any::<u8>(), 0..30);
        let large = (any::<u8>(), SHARE_FROM - 1..SHARE_FROM + 50).prop_map(|(first, len)| {
            // A prime period, so that bytes from a wrong place are not the right ones.
            let period: Vec<u8> = (0..251).map(|at| first.wrapping_add(at)).collect();
            let mut bytes = period.repeat(len / period.len() + 1);
            bytes.truncate(len);
            bytes
        });
        let any_len = prop_oneof![small.clone(), large];
        let written = prop_oneof![0..40_usize, 0..3 * SHARE_FROM];
        prop_oneof![
            small.prop_map(Step::Bytes),
            any_len.clone().prop_map(Step::Value),
            any_len.prop_map(Step::Vec),
            written.prop_map(Step::Write),
            Just(Step::GiveBack),
            (0..1000_usize).prop_map(Step::Lend),
        ]
    }

    /// Writes so many bytes, if there are, each time as many as there are slices for.
    fn write(out: &mut Output<Value>, mut len: usize, written: &mut Vec<u8>) {
        while len > 0 && !out.is_empty() {
            let slices = out.io_slices();
            assert!((1..=MAX_SLICES).contains(&slices.len()));
            assert!(slices.iter().all(|slice| !slice.is_empty()));
            let mut bytes = Vec::new();
            slices
                .iter()
                .for_each(|slice| bytes.extend_from_slice(slice));
            match out.one_piece() {
                Some(piece) => assert_eq!(piece, bytes),
                None => assert!(out.large.is_some()),
            }
            drop(slices);
            let step = len.min(bytes.len());
            written.extend(&bytes[..step]);
            out.advance(step);
            len -= step;
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn writes_of_any_length_give_the_same_bytes(steps in vec(any_step(), 0..60)) {
            let (mut out, mut pushed, mut written) = (Output::new(), Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Bytes(bytes) => {
                        pushed.extend(&bytes);
                        out.push_bytes(&bytes);
                    }
                    Step::Value(bytes) => {
                        pushed.extend(&bytes);
                        out.push_value(Value(Rc::new(bytes)));
                    }
                    Step::Vec(bytes) => {
                        pushed.extend(&bytes);
                        out.push_vec(bytes);
                    }
                    Step::Write(len) => write(&mut out, len, &mut written),
                    Step::GiveBack => drop(out.give_back()),
                    Step::Lend(len) => out.lend(&mut vec![b'x'; len]),
                }
                prop_assert_eq!(out.len(), pushed.len() - written.len());
                prop_assert_eq!(out.is_empty(), pushed.len() == written.len());
            }
            written.extend(drain(&mut out));
            prop_assert!(written == pushed);
        }
    }

    #[test]
    fn a_large_value_is_shared_until_its_last_byte_was_written() {
        for (len, shared) in [(SHARE_FROM - 1, false), (SHARE_FROM, true)] {
            let value = Value(Rc::new(vec![b'v'; len]));
            let mut out = Output::new();
            out.push_bytes(b"$");
            out.push_value(value.clone());
            out.push_bytes(b"\r\n");
            assert_eq!(Rc::strong_count(&value.0) == 2, shared);
            if shared {
                let slices = out.io_slices();
                assert_eq!(slices[1].as_ptr(), value.0.as_ptr(), "it was copied");
            }
            out.advance(len);
            assert_eq!(Rc::strong_count(&value.0) == 2, shared);
            out.advance(1);
            assert_eq!(Rc::strong_count(&value.0), 1);
            assert_eq!(drain(&mut out), b"\r\n");
        }
    }

    #[test]
    fn bytes_that_are_nobody_else_s_are_moved() {
        let bytes = vec![b'v'; SHARE_FROM];
        let place = bytes.as_ptr();
        let mut out = Output::<Value>::new();
        out.push_vec(bytes);
        assert_eq!(out.io_slices()[0].as_ptr(), place);
    }

    #[test]
    fn more_pieces_than_one_write_takes_go_out_one_after_the_other() {
        let mut out = Output::new();
        let mut pushed = Vec::new();
        for count in 0..2 * MAX_SLICES {
            let value = vec![count as u8; SHARE_FROM];
            pushed.extend([b"$", &value[..]].concat());
            out.push_bytes(b"$");
            out.push_value(Value(Rc::new(value)));
        }
        assert_eq!(out.io_slices().len(), MAX_SLICES);
        assert!(drain(&mut out) == pushed);
    }

    #[test]
    fn an_output_that_is_never_empty_does_not_grow() {
        let mut out = Output::<Value>::new();
        let mut written = Vec::new();
        out.push_bytes(&[b'x'; 1000]);
        for _ in 0..10_000 {
            out.push_bytes(&[b'x'; 1000]);
            write(&mut out, 1000, &mut written);
            written.clear();
        }
        assert_eq!(out.len(), 1000);
        assert!(out.bytes.capacity() <= 4 * RECLAIM_AT);
    }

    #[test]
    fn a_buffer_that_was_lent_is_given_back_once_it_is_empty() {
        let mut out = Output::new();
        let mut buffer = Vec::with_capacity(10_000);
        out.lend(&mut buffer);
        assert_eq!(buffer.capacity(), 0);
        out.push_bytes(&[b'x'; 5000]);
        for _ in 0..100 {
            out.push_value(Value(Rc::new(vec![b'v'; SHARE_FROM])));
        }
        assert_eq!(out.give_back(), None, "it is not empty");
        out.clear();
        assert!(out.is_empty() && out.io_slices().is_empty());
        let buffer = out.give_back().unwrap();
        assert!(buffer.capacity() >= 10_000);
        assert!(out.bytes.capacity() == 0 && out.large.is_none());
        out.push_bytes(b"on");
        assert_eq!(drain(&mut out), b"on");
    }
}
