//! A caller's chat request: refused, or built for a provider as JSON.
#![no_main]

use gateway_fuzz::translate::capability::Capability;
use gateway_fuzz::translate::{Target, back, front};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(conversation) = front::chat::read(body) else { return };
    let capability = Capability::default();
    for drop_unsupported in [false, true] {
        let target = Target { provider: "openai", model_id: "m", capability: &capability, drop_unsupported };
        if let Ok(built) = back::openai::build(&conversation, &target) {
            let _: serde_json::Value =
                serde_json::from_slice(&built.body).expect("a request that is no JSON");
            // What goes to the provider as it is need not be of this dialect.
            if conversation.provider_options.is_empty() {
                front::chat::read(&built.body).expect("a request that the dialect refuses");
            }
        }
    }
});
