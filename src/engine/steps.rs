//! The steps of a batch: what is to be done for each of its requests, and answered.

use smallvec::SmallVec;

use super::execution::decoded;
use crate::command::{ReadFn, Reply};
use crate::wal::frame;

/// What a step costs beside its operation's bytes, in the account of what waits for the log.
const STEP_COST: usize = 64;

/// What a read counts for, beside its arguments: its reply keeps a value of unknown size in memory
/// for as long as the client does not take it, even if the key is gone by then.
const READ_COST: usize = 4 << 10;

/// Room for the arguments of so many reads is made at once.
const READS: usize = 16;

/// One of them.
#[derive(Debug)]
pub(super) enum Step {
    /// Applies the next operation.
    Write,
    /// Reads, behind a write of the same pipeline.
    Read {
        run: ReadFn,
        /// How many arguments it has.
        args: usize,
        /// Whether the first of them is a key.
        of_key: bool,
    },
    /// Hands back a reply that was ready when the pipeline was read.
    Ready(Reply),
    /// Applies the next operation, a transaction, whose steps these are.
    Transaction(Box<Steps>),
}

/// Steps, in order.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Most batches have one.
    list: SmallVec<[Step; 1]>,
    /// In a box, since most batches have no read.
    args: Option<Box<Args>>,
    /// What they hold beside their operations.
    held: usize,
}

/// The arguments of reads that must wait, in two allocations however many they are.
#[derive(Debug, Default)]
struct Args {
    /// One behind the other.
    bytes: Vec<u8>,
    /// How long each is.
    lens: Vec<usize>,
}

impl Steps {
    pub(super) fn reserve(&mut self, steps: usize) {
        self.list.reserve(steps);
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// How much they count among what waits for the log.
    pub(super) fn cost(&self) -> usize {
        self.list.len() * STEP_COST + self.held
    }

    pub(super) fn write(&mut self) {
        self.list.push(Step::Write);
    }

    pub(super) fn transaction(&mut self, steps: Self) {
        self.held += steps.cost();
        self.list.push(Step::Transaction(Box::new(steps)));
    }

    pub(super) fn read(&mut self, run: ReadFn, args: &[&[u8]], of_key: bool) {
        let own = self.args.get_or_insert_with(|| {
            let bytes: usize = args.iter().map(|arg| arg.len()).sum();
            let reads = READS.min(self.list.capacity());
            Box::new(Args {
                bytes: Vec::with_capacity(reads * bytes.min(STEP_COST)),
                lens: Vec::with_capacity(reads * args.len().min(2)),
            })
        });
        for arg in args {
            own.bytes.extend_from_slice(arg);
            own.lens.push(arg.len());
            self.held += arg.len() + size_of::<usize>();
        }
        self.held += READ_COST;
        let args = args.len();
        self.list.push(Step::Read { run, args, of_key });
    }

    pub(super) fn ready(&mut self, reply: Reply) {
        self.held += held_by(&reply);
        self.list.push(Step::Ready(reply));
    }

    /// To carry them out, one after the other, once.
    pub(super) fn left(&mut self) -> StepsLeft<'_> {
        let args = self.args.as_ref();
        StepsLeft {
            list: self.list.iter_mut(),
            bytes: args.map_or(&[], |args| &args.bytes),
            lens: args.map_or(&[], |args| &args.lens),
        }
    }

    /// Makes it one of no steps, and says how many bytes of memory it holds all the same.
    pub(super) fn empty(&mut self) -> usize {
        self.list.clear();
        self.args = None;
        self.held = 0;
        self.list.capacity() * size_of::<Step>()
    }

    /// To look at the keys of all of them, which these are the operations of.
    pub(super) fn keys<'a>(&'a self, operations: &'a [u8]) -> Keys<'a> {
        let args = self.args.as_ref();
        Keys {
            steps: self.list.iter(),
            bytes: args.map_or(&[], |args| &args.bytes),
            lens: args.map_or(&[], |args| &args.lens),
            operations: frame::Operations::new(operations),
        }
    }
}

/// What a reply keeps in memory until it is sent, roughly.
fn held_by(reply: &Reply) -> usize {
    match reply {
        Reply::Bytes(bytes) => bytes.len(),
        Reply::Text(text) => text.len(),
        Reply::Lines(lines) => lines.iter().map(|line| line.len() + STEP_COST).sum(),
        Reply::Array(items) | Reply::Set(items) => {
            items.iter().map(|item| STEP_COST + held_by(item)).sum()
        }
        Reply::Map(items) => items
            .iter()
            .map(|(key, value)| 2 * STEP_COST + held_by(key) + held_by(value))
            .sum(),
        // A value is mostly shared. Those that are copied once too many share it are shorter than what
        // they are encoded to.
        _ => 0,
    }
}

/// Steps that are being carried out: those that are left, and their arguments.
#[derive(Debug)]
pub(super) struct StepsLeft<'a> {
    list: std::slice::IterMut<'a, Step>,
    bytes: &'a [u8],
    lens: &'a [usize],
}

impl<'a> StepsLeft<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.list.as_slice().is_empty()
    }

    /// The next step. The arguments of a read must be taken before the one after it.
    pub(super) fn next(&mut self) -> Option<Step> {
        let step = self.list.next()?;
        Some(std::mem::replace(step, Step::Write))
    }

    /// The arguments of the read that was taken just now, which has so many.
    pub(super) fn args(&mut self, count: usize) -> SmallVec<[&'a [u8]; 4]> {
        let (lens, rest) = self.lens.split_at_checked(count).unwrap_or_default();
        self.lens = rest;
        let args = lens.iter().map(|len| split_off(&mut self.bytes, *len));
        args.collect()
    }

    /// To look at the keys of those that are left; `operations` are those of their writes.
    pub(super) fn keys<'b>(&'b self, operations: frame::Operations<'b>) -> Keys<'b> {
        Keys {
            steps: self.list.as_slice().iter(),
            bytes: self.bytes,
            lens: self.lens,
            operations,
        }
    }
}

/// Takes so many bytes off the front.
fn split_off<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (first, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
    *bytes = rest;
    first
}

/// For each step the key that it looks at first, if it does.
pub(super) struct Keys<'a> {
    steps: std::slice::Iter<'a, Step>,
    bytes: &'a [u8],
    lens: &'a [usize],
    operations: frame::Operations<'a>,
}

impl<'a> Iterator for Keys<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.steps.next()? {
            Step::Write | Step::Transaction(_) => {
                decoded(self.operations.next().unwrap_or_default()).first_key()
            }
            Step::Read { args, of_key, .. } => {
                let (lens, rest) = self.lens.split_at_checked(*args).unwrap_or_default();
                self.lens = rest;
                let key = lens.first().and_then(|len| self.bytes.get(..*len));
                split_off(&mut self.bytes, lens.iter().sum());
                key.filter(|_| *of_key)
            }
            Step::Ready(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_read_gets_its_own_arguments_whatever_stands_between() {
        let many: Vec<Vec<u8>> = (0..100).map(|n| vec![b'x'; n]).collect();
        let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        let reads: [&[&[u8]]; 6] = [
            &[b"a"],
            &[],
            &many,
            &[b"", b"b"],
            &[b""],
            &[b"c", b"d", b"e"],
        ];
        let mut steps = Steps::default();
        for args in reads {
            steps.read(|_, _| Reply::Ok, args, true);
            steps.ready(Reply::Pong);
        }
        let keys: Vec<_> = steps.keys(&[]).flatten().collect();
        let first: Vec<_> = reads.iter().filter_map(|args| args.first()).collect();
        assert_eq!(keys.iter().collect::<Vec<_>>(), first);

        let mut left = steps.left();
        for args in reads {
            let none = frame::Operations::new(&[]);
            let key = left.keys(none).next().unwrap();
            assert_eq!(key, args.first().copied());
            let Some(Step::Read { args: count, .. }) = left.next() else {
                panic!("no read");
            };
            assert_eq!(*left.args(count), *args);
            assert!(matches!(left.next(), Some(Step::Ready(Reply::Pong))));
        }
        assert!(left.is_empty() && left.next().is_none());
    }

    #[test]
    fn what_waits_is_accounted_for_with_all_that_its_reads_and_replies_hold() {
        let mut steps = Steps::default();
        steps.write();
        assert_eq!(steps.cost(), STEP_COST);
        steps.read(|_, _| Reply::Ok, &[&[b'k'; 1000], b"more"], true);
        let read = STEP_COST + READ_COST + 1004 + 2 * size_of::<usize>();
        assert_eq!(steps.cost(), STEP_COST + read);
        let mut outer = Steps::default();
        outer.transaction(steps);
        outer.ready(Reply::Bytes(vec![0; 5000]));
        assert_eq!(
            outer.cost(),
            STEP_COST + STEP_COST + read + STEP_COST + 5000
        );
    }
}
