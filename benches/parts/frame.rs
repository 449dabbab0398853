//! Frames: what the log's thread does before it writes, and what a start does with what was written.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use postres::command::{Operation, Rest};
use postres::time::Timestamp;
use postres::wal::Lsn;
use postres::wal::frame::{self, FrameCodec, FrameHeader, FrameKind, HEADER_LEN};

use super::input::Random;
use super::measure;

/// How many frames are made in turns.
const FRAMES: usize = 64;
const SALT: u64 = 0x7361_6c74;

/// The bodies of a frame, one submission each.
type Submissions = Vec<Vec<u8>>;

pub(crate) fn measure_all(criterion: &mut Criterion) {
    let mut random = Random::new();
    for count in [1, 50] {
        let groups: Vec<Submissions> = (0..FRAMES)
            .map(|_| (0..count).map(|_| submission(&mut random)).collect())
            .collect();
        let mut group = criterion.benchmark_group("frame");
        group.throughput(Throughput::Elements(u64::from(count)));
        let codec = FrameCodec::new(SALT);
        let mut buffer = Vec::new();
        let mut frames = Vec::new();
        for submissions in &groups {
            seal(codec, submissions, &mut buffer);
            assert_eq!(read_back(codec, &buffer), Some(count));
            frames.push(buffer.clone());
        }
        let mut groups = groups.iter().cycle();
        group.bench_function(format!("seal_{count}"), |bencher| {
            measure::each(bencher, || {
                let submissions = groups.next().map_or(&[][..], Vec::as_slice);
                seal(codec, submissions, &mut buffer);
                black_box(&buffer);
            });
        });
        let mut frames = frames.iter().cycle();
        group.bench_function(format!("open_{count}"), |bencher| {
            measure::each(bencher, || read_back(codec, frames.next()?));
        });
        group.finish();
    }
}

/// A SET by a client without a pipeline.
fn submission(random: &mut Random) -> Vec<u8> {
    let (key, value) = (random.key(), random.value());
    let set = Operation::Set {
        key: &key,
        value: Rest(&value),
    };
    let mut bytes = Vec::new();
    frame::push_operation(&mut bytes, |out| set.encode(out));
    bytes
}

/// As `LogWriter::append` does it, up to the writing.
fn seal(codec: FrameCodec, submissions: &[Vec<u8>], buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.resize(HEADER_LEN, 0);
    for submission in submissions {
        buffer.extend_from_slice(submission);
    }
    let header = FrameHeader {
        kind: FrameKind::Operations,
        lsn: Lsn(1_000_000),
        time: Timestamp(1_700_000_000_000),
        synced: 1 << 20,
        count: u32::try_from(submissions.len()).unwrap_or(u32::MAX),
        body_len: 0,
    };
    codec.seal(buffer, header);
}

/// Checks the frame, and decodes its operations; how many there are, if all is well.
fn read_back(codec: FrameCodec, bytes: &[u8]) -> Option<u32> {
    let frame = codec.open(bytes).ok()?;
    let mut count = 0;
    for bytes in frame.operations() {
        black_box(Operation::decode(bytes).ok()?);
        count += 1;
    }
    (count == frame.header.count).then_some(count)
}
