//! Any bytes as a frame, and as the body of one whose checksums match. What was written reads back;
//! with one bit changed it does not.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postres::time::Timestamp;
use postres::wal::Lsn;
use postres::wal::frame::{
    FrameCodec, FrameHeader, FrameKind, HEADER_LEN, OPERATION_PREFIX_LEN, Operations,
    push_operation,
};

fuzz_target!(|data: &[u8]| {
    let codec = FrameCodec::new(7);
    let _ = codec.open(data);

    let Some((&[kind, count, bit_low, bit_high], body)) = data.split_first_chunk::<4>() else {
        return;
    };
    let header = FrameHeader {
        kind: match kind % 3 {
            0 => FrameKind::Seal,
            1 => FrameKind::Close,
            _ => FrameKind::Operations,
        },
        lsn: Lsn(1),
        time: Timestamp(1),
        synced: 0,
        count: count.into(),
        body_len: 0,
    };

    // A body as a broken writer might have left it.
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend_from_slice(body);
    codec.seal(&mut bytes, header);
    if let Ok(frame) = codec.open(&bytes) {
        let lens = frame
            .operations()
            .map(|one| OPERATION_PREFIX_LEN + one.len());
        assert_eq!(lens.clone().count(), usize::from(count));
        assert_eq!(lens.sum::<usize>(), body.len());
    }

    // A body as a right one leaves it.
    let operations: Vec<&[u8]> = Operations::new(body).collect();
    let mut bytes = vec![0; HEADER_LEN];
    for operation in &operations {
        push_operation(&mut bytes, |out| out.extend_from_slice(operation));
    }
    let header = FrameHeader {
        kind: FrameKind::Operations,
        count: u32::try_from(operations.len()).unwrap(),
        ..header
    };
    codec.seal(&mut bytes, header);
    let frame = codec.open(&bytes).expect("it was just sealed");
    assert!(frame.operations().eq(operations));

    let bit = usize::from(u16::from_le_bytes([bit_low, bit_high])) % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    assert!(codec.open(&bytes).is_err(), "bit {bit} was changed");
});
