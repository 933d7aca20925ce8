//! What an OpenAI-type provider answers: whole, as an error, and as a stream that is written on to a caller.
#![no_main]

use gateway_fuzz::translate::{Event, Identity, ReplyContext, back, front};
use libfuzzer_sys::fuzz_target;

const IDENTITY: Identity<'static> = Identity { unique: "u", model: "a/m", created_s: 1 };

fuzz_target!(|input: &[u8]| {
    let context = ReplyContext::default();
    if let Ok(answer) = back::openai::read(input, &context) {
        let written = front::chat::write(&answer, &IDENTITY);
        back::openai::read(&written, &context).expect("an answer that does not read back");
    }
    let error = back::openai::error(500, &|_| None, input);
    let _: serde_json::Value =
        serde_json::from_slice(&front::chat::error(&error)).expect("an error that is no JSON");
    let mut reader = back::openai::StreamReader::new(context);
    let mut writer = front::chat::StreamWriter::new(&IDENTITY, true);
    let mut out = Vec::new();
    let mut ends = 0;
    let mut sink = |event: Event<'_>| {
        assert_eq!(ends, 0, "something behind the end");
        ends += usize::from(matches!(event, Event::End | Event::Error(_)));
        writer.write(event, &mut out);
    };
    gateway_fuzz::events(input, |event| {
        reader.read(event, &mut |event| {
            if !matches!(event, Event::Ping) {
                sink(event)
            }
        })
    });
    reader.end(&mut sink);
    let text = String::from_utf8(out).expect("a stream that is no text");
    for event in text.split_terminator("\n\n") {
        let data = event.strip_prefix("data: ").expect("an event without data");
        assert!(!data.contains(['\n', '\r']));
        if data != "[DONE]" {
            let _: serde_json::Value = serde_json::from_str(data).expect("a chunk that is no JSON");
        }
    }
});
