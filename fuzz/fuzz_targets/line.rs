//! Lines split anywhere: what a plain reading of them gives, line by line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postres::protocol::Dialect;
use postres_fuzz::{Input, Owned, decode_pieces};

fuzz_target!(|data: &[u8]| {
    // RESP has a target of its own. A line may hold this byte, but not first.
    let data: Vec<u8> = data
        .iter()
        .scan(b'\n', |before, byte| {
            let begins = std::mem::replace(before, *byte) == b'\n';
            Some(if begins && *byte == b'*' { b'x' } else { *byte })
        })
        .collect();
    let Some(input) = Input::new(&data) else {
        return;
    };
    if input.whole.first() == Some(&b'*') {
        return;
    }
    let mut lines: Vec<&[u8]> = input.whole.split(|byte| *byte == b'\n').collect();
    let unended = lines.pop().unwrap_or_default().len();
    let expected: Vec<Owned> = lines.iter().filter_map(|line| read(line)).collect();

    let taken = Ok(input.whole.len() - unended);
    for pieces in [&[input.whole][..], &input.pieces] {
        let decoded = decode_pieces(input.decoder(), pieces);
        assert_eq!(decoded, (expected.clone(), taken));
    }
});

fn read(line: &[u8]) -> Option<Owned> {
    let (line, dialect) = match line {
        [line @ .., b'\r'] => (line, Dialect::LineCrLf),
        line => (line, Dialect::Line),
    };
    let mut fields = vec![Vec::new()];
    for byte in line {
        match byte {
            b' ' | b'\t' => fields.push(Vec::new()),
            byte => fields.last_mut()?.push(*byte),
        }
    }
    fields.retain(|field| !field.is_empty());
    (!fields.is_empty()).then_some((fields, dialect))
}
