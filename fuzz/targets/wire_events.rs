//! Relayed streams, which are read beside the relay.
#![no_main]

use gateway_fuzz::wire::events::{EventReader, Kind};
use gateway_fuzz::wire::usage;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    for kind in [Kind::Chat, Kind::Responses] {
        let mut reader = EventReader::new(kind, true);
        gateway_fuzz::events(input, |event| {
            let _ = reader.read(event);
        });
        reader.body_ended();
        let _ = (reader.outcome(), reader.missing_end(), reader.take_tokens());
    }
    let _ = usage::parse(input);
});
