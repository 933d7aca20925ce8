//! A caller's request to each provider: refused, or written as JSON.
#![no_main]

use gateway_fuzz::pairs::{is_json, pair};
use gateway_fuzz::translate::{Back, Target, capability};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [choice, bytes @ ..] = input else { return };
    let Ok(conversation) = pair(*choice).0.read(bytes) else { return };
    for (back, provider, model_id) in [
        (Back::OpenAi, "groq", "llama-3.3-70b"),
        (Back::Anthropic, "anthropic", "claude-sonnet-4-5"),
        (Back::Anthropic, "anthropic", "claude-opus-4-8"),
        (Back::Converse, "aws-bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
        (Back::Gemini, "google-gemini", "gemini-2.0-flash"),
        (Back::Gemini, "google-vertex", "gemini-3-pro"),
    ] {
        let capability = capability::of(back.as_str(), model_id, None);
        let target = Target { provider, model_id, capability, drop_unsupported: *choice >= 128 };
        if let Ok(built) = back.build(&conversation, &target) {
            assert!(is_json(&built.body), "a request that is no JSON");
        }
    }
});
