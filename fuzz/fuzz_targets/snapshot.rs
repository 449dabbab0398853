//! Any bytes as a snapshot's file, as they are and with checksums that match: read to its end or
//! refused. What was written reads back, record by record; with one bit changed it does not. What
//! is a record encodes to the bytes that it was decoded from.

#![no_main]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use postres::command::Record;
use postres::time::Timestamp;
use postres::wal::Lsn;
use postres::wal::frame::{FrameCodec, FrameHeader, FrameKind, HEADER_LEN, push_operation};
use postres::wal::fs::Fs;
use postres::wal::header;
use postres::wal::name::LogName;
use postres::wal::snapshot::{SnapshotHeader, SnapshotReader, SnapshotWriter, Totals};
use postres_fuzz::memory::Memory;

const HEADER: SnapshotHeader = SnapshotHeader {
    log_id: 1,
    next: Lsn(2),
    salt: 3,
    time: Timestamp(4),
    keys: 5,
};

fuzz_target!(|data: &[u8]| {
    decode(data);
    let _ = read(data.to_vec());
    if let Some((file, expected)) = blocks(data) {
        let found = read(file);
        if let Some(expected) = expected {
            assert_eq!(found, Some(expected));
        }
    }
    written(data);
});

fn decode(bytes: &[u8]) {
    if let Ok(record) = Record::decode(bytes) {
        let mut again = Vec::new();
        record.encode(&mut again);
        assert_eq!(again, bytes, "{record:?}");
    }
}

/// All records of a file, if it is a whole snapshot.
fn read(file: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let (fs, path) = (Memory::default(), Path::new("snapshot"));
    let bytes = file.len() as u64;
    fs.put(path, file);
    let mut reader = SnapshotReader::open(&fs, path).ok()?;
    let mut found = Vec::new();
    while let Some(block) = reader.next_block().ok()? {
        block.records().for_each(decode);
        found.extend(block.records().map(<[u8]>::to_vec));
        let (at, whole) = reader.progress();
        assert!(at <= whole && whole == bytes);
    }
    assert_eq!(reader.progress(), (bytes, bytes));
    let totals = SnapshotReader::open(&fs, path).ok()?.verify().ok()?;
    let records = found.len() as u64;
    assert_eq!(totals, Totals { records, bytes });
    Some(found)
}

/// A file of blocks whose checksums match, as `data` tells: for each a byte of switches, one for
/// its length, and its body. With it its records, where it is a right one.
fn blocks(data: &[u8]) -> Option<(Vec<u8>, Option<Vec<Vec<u8>>>)> {
    let (&version, mut rest) = data.split_first()?;
    let mut file = HEADER.encode();
    if version & 1 == 1 {
        // A later version, or what follows the numbers.
        let at = if version & 2 == 2 { 8 } else { 100 };
        file[at] ^= version;
        let end = header::HEADER_LEN as usize - 4;
        let sum = crc32c::crc32c(&file[..end]);
        file[end..].copy_from_slice(&sum.to_le_bytes());
    }
    let mut right = version & 3 != 3;
    let (codec, mut records) = (FrameCodec::new(HEADER.salt), Vec::new());
    let mut ended = false;
    while let Some((&[switches, len], behind)) = rest.split_first_chunk::<2>() {
        let (body, behind) = behind.split_at(usize::from(len).min(behind.len()));
        rest = behind;
        let mut block = vec![0; HEADER_LEN];
        // Pieces, each of which its first byte says the length of; or any bytes.
        let mut pieces = Vec::new();
        if switches & 1 == 0 {
            let mut body = body;
            while let Some((&len, behind)) = body.split_first() {
                let (piece, behind) = behind.split_at(usize::from(len).min(behind.len()));
                push_operation(&mut block, |out| out.extend_from_slice(piece));
                pieces.push(piece.to_vec());
                body = behind;
            }
        } else {
            block.extend_from_slice(body);
            right &= body.is_empty();
        }
        let kind = match switches >> 1 & 7 {
            7 => FrameKind::Seal,
            6 => FrameKind::Close,
            _ => FrameKind::Operations,
        };
        let (place, time, count) = (switches >> 4 & 1, switches >> 5 & 1, switches >> 6 & 1);
        let header = FrameHeader {
            kind,
            lsn: Lsn(records.len() as u64 + 1 + u64::from(place)),
            time: Timestamp(HEADER.time.0 + u64::from(time)),
            synced: u64::from(switches >> 7),
            count: pieces.len() as u32 + u32::from(count),
            body_len: 0,
        };
        right &= !ended && place == 0 && time == 0 && count == 0;
        right &= match kind {
            FrameKind::Operations => true,
            FrameKind::Close => pieces.is_empty(),
            FrameKind::Seal => false,
        };
        ended |= kind == FrameKind::Close;
        records.append(&mut pieces);
        codec.seal(&mut block, header);
        file.append(&mut block);
    }
    right &= ended && rest.is_empty();
    Some((file, right.then_some(records)))
}

/// What is written as records, split where the first bytes tell, reads back as it was; the file
/// with one bit changed does not.
fn written(data: &[u8]) {
    let Some((&[at_low, at_high, bit], mut rest)) = data.split_first_chunk::<3>() else {
        return;
    };
    let fs = Memory::default();
    let name = LogName::new(Path::new("log")).expect("it is a name");
    let path: PathBuf = name.snapshot(HEADER.next);
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut writer = SnapshotWriter::create(shared, name, HEADER).expect("memory does not fail");
    let mut records = Vec::new();
    while let Some((&len, behind)) = rest.split_first() {
        let (record, behind) = behind.split_at(usize::from(len).min(behind.len()));
        let pushed = writer.push(|out| out.extend_from_slice(record));
        pushed.expect("memory does not fail");
        records.push(record.to_vec());
        rest = behind;
    }
    let totals = writer.finish().expect("it is read back as it was written");
    let mut file = fs.take(&path);
    assert_eq!(totals.bytes, file.len() as u64);
    assert_eq!(read(file.clone()), Some(records));
    let at = usize::from(u16::from_le_bytes([at_low, at_high])) % file.len();
    file[at] ^= 1 << (bit & 7);
    assert_eq!(read(file), None, "byte {at} was changed");
}
