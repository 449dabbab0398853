//! Any bytes, split anywhere: the same requests and the same error as unsplit. What was decoded
//! decodes to itself once it is encoded again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use postres::protocol::Dialect;
use postres_fuzz::{Input, decode_pieces};

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::new(data) else {
        return;
    };
    let (requests, end) = decode_pieces(input.decoder(), &[input.whole]);
    let split = decode_pieces(input.decoder(), &input.pieces);
    assert_eq!(split, (requests.clone(), end));

    let resp = Dialect::from(input.version);
    let (mut bytes, mut expected) = (Vec::new(), Vec::new());
    for (args, _) in requests.iter().filter(|request| request.1 == resp) {
        bytes.extend(format!("*{}\r\n", args.len()).bytes());
        for arg in args {
            bytes.extend(format!("${}\r\n", arg.len()).bytes());
            bytes.extend(arg);
            bytes.extend(b"\r\n");
        }
        expected.push((args.clone(), resp));
    }
    let again = decode_pieces(input.decoder(), &[&bytes]);
    assert_eq!(again, (expected, Ok(bytes.len())));
});
