//! What a field is called in each dialect. Backs name what a provider can not do in the words of chat; a caller of
//! another dialect has to be told in its own.

use crate::translate::{Built, Conversation, Front, Invalid};

/// Chat's word and the dialect's own.
type Words = &'static [(&'static str, &'static str)];

const CHAT: Words = &[("tools.strict", "tools[].function.strict"), ("strict", "tools[].function.strict")];

const MESSAGES: Words = &[
    ("max_completion_tokens", "max_tokens"),
    ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
    ("reasoning_effort", "output_config.effort"),
    ("response_format", "output_config.format"),
    ("stop", "stop_sequences"),
    ("strict", "tools[].strict"),
    ("thinking_blocks", "messages[].content[].thinking"),
    ("tools.strict", "tools[].strict"),
    ("user", "metadata.user_id"),
];

const RESPONSES: Words = &[
    ("image_url.detail", "input[].content[].detail"),
    ("max_completion_tokens", "max_output_tokens"),
    ("max_tokens", "max_output_tokens"),
    ("reasoning_effort", "reasoning.effort"),
    ("response_format", "text.format"),
    ("strict", "tools[].strict"),
    ("thinking", "reasoning"),
    ("thinking_blocks", "input[].encrypted_content"),
    ("tools.strict", "tools[].strict"),
];

/// The dialect's word for one of chat's, unless the caller wrote that very word as a field of its own.
fn word(front: Front, conversation: &Conversation, chats: &str) -> Option<&'static str> {
    let words = match front {
        Front::Chat => CHAT,
        Front::Messages => MESSAGES,
        Front::Responses => RESPONSES,
    };
    let found = words.iter().find(|(known, _)| *known == chats).map(|(_, own)| *own)?;
    (!conversation.others.iter().any(|(name, _)| name == chats)).then_some(found)
}

/// A refusal, or what was dropped, in the words of the dialect.
pub fn in_callers_words(
    front: Front,
    conversation: &Conversation,
    result: Result<Built, Invalid>,
) -> Result<Built, Invalid> {
    match result {
        Ok(mut built) => {
            for name in &mut built.dropped {
                if let Some(own) = word(front, conversation, name) {
                    own.clone_into(name);
                }
            }
            Ok(built)
        }
        Err(mut invalid) => {
            if let Some(own) = word(front, conversation, &invalid.field) {
                invalid.message =
                    invalid.message.replacen(&format!("'{}'", invalid.field), &format!("'{own}'"), 1);
                own.clone_into(&mut invalid.field);
            }
            Err(invalid)
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::translate::{Back, Front, Target, capability};

    fn refused_and_dropped(
        front: Front,
        back: Back,
        model_id: &str,
        body: &str,
    ) -> (String, String, Vec<String>) {
        let conversation = front.read(body.as_bytes()).unwrap();
        let capability = capability::of(back.as_str(), model_id, None);
        let target = Target { provider: "google-gemini", model_id, capability, drop_unsupported: false };
        let refusal = front.build(back, &conversation, &target).unwrap_err();
        let built = front.build(back, &conversation, &Target { drop_unsupported: true, ..target }).unwrap();
        (refusal.field, refusal.message, built.dropped)
    }

    #[test]
    fn messages_are_refused_in_their_own_words() {
        let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"metadata":{"user_id":"u"}}"#;
        let (field, message, dropped) =
            refused_and_dropped(Front::Messages, Back::Gemini, "gemini-2.5-flash", body);
        assert_eq!(field, "metadata.user_id");
        assert!(message.starts_with("'metadata.user_id' is not supported by google-gemini"), "{message}");
        assert_eq!(dropped, ["metadata.user_id"]);
    }

    #[test]
    fn responses_are_refused_in_their_own_words() {
        let body = r#"{"model":"m","input":"Hi","reasoning":{"effort":"high"}}"#;
        let (field, _, dropped) =
            refused_and_dropped(Front::Responses, Back::Converse, "amazon.nova-pro-v1:0", body);
        assert_eq!(field, "reasoning.effort");
        assert_eq!(dropped, ["reasoning.effort"]);
    }

    #[test]
    fn chats_words_and_callers_own_stay() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"Hi"}],"user":"u"}"#;
        let (field, ..) = refused_and_dropped(Front::Chat, Back::Gemini, "gemini-2.5-flash", body);
        assert_eq!(field, "user");
        // No field of Messages: the caller made it up, and hears its own word.
        let body = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}],"stop":["a"]}"#;
        let (field, _, dropped) =
            refused_and_dropped(Front::Messages, Back::Gemini, "gemini-2.5-flash", body);
        assert_eq!((field.as_str(), dropped.as_slice()), ("stop", ["stop".to_owned()].as_slice()));
    }

    #[test]
    fn only_chats_words_are_said_again() {
        for words in [super::CHAT, super::MESSAGES, super::RESPONSES] {
            for (number, (chats, own)) in words.iter().enumerate() {
                assert!(!words.iter().skip(number + 1).any(|(known, _)| known == chats), "{chats} twice");
                assert_ne!(chats, own);
            }
        }
    }
}
