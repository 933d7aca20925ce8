//! Heads of requests and of answers.
#![no_main]

use gateway_fuzz::http::{RequestHead, ResponseHead, head_end};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(Some(end)) = head_end(input, 0) {
        let head = &input[..end];
        let _ = ResponseHead::parse(head);
        if let Ok(request) = RequestHead::parse(head, 64) {
            let _ = (request.path().len(), request.query().len());
        }
    }
    let _ = ResponseHead::parse(input);
    let _ = RequestHead::parse(input, 64);
});
