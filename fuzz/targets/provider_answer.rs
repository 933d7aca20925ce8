//! A provider's whole answer and its error, in every pair of protocols.
#![no_main]

use gateway_fuzz::pairs::{IDENTITY, context, is_json, pair};
use gateway_fuzz::translate::front::responses::Echo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [choice, bytes @ ..] = input else { return };
    let (front, back) = pair(*choice);
    if let Ok(answer) = back.read(bytes, &context(*choice)) {
        assert!(is_json(&front.write(&answer, &IDENTITY, &Echo::default())), "an answer that is no JSON");
    }
    let error = back.error(400 + u16::from(*choice) % 200, &|_| None, bytes);
    assert!((400..600).contains(&error.status), "status {}", error.status);
    assert!(is_json(&front.error(&error)), "an error that is no JSON");
});
