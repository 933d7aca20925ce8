//! A provider's stream on its way to a caller, in every pair of protocols: however it is cut, the same is said.
#![no_main]

use gateway_fuzz::pairs::{IDENTITY, context, pair};
use gateway_fuzz::translate::Translation;
use gateway_fuzz::translate::front::responses::Echo;
use libfuzzer_sys::fuzz_target;

const MAX_EVENT_BYTES: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let [choice, step, bytes @ ..] = input else { return };
    let (front, back) = pair(*choice);
    let run = |step: usize| {
        let mut translation =
            Translation::new(front, back, &IDENTITY, (true, Echo::default()), context(*choice), MAX_EVENT_BYTES);
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            translation.push(piece, &mut out);
        }
        translation.body_ended(&mut out);
        let said = (translation.is_finished(), translation.has_errored(), translation.first_error().cloned());
        (String::from_utf8(out).expect("a stream that is no text"), said)
    };
    assert_eq!(run(usize::from(*step % 7) + 1), run(usize::MAX));
});
