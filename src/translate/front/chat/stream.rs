//! Events of a stream as `chat.completion.chunk`s.
//!
//! This runs once for each piece of an answer, so what all chunks have in common is rendered once and the rest is
//! appended as bytes.

use super::{answer, extra_content, finish_word, redacted_block, thinking_block, usage};
use crate::translate::json_text::{Object, escaped, string, unsigned};
use crate::translate::{Event, Identity, Tokens};

/// Answers of one stream; what belongs to others is left out.
const MAX_CHOICES: usize = 128;
/// Text of the open thinking blocks of all answers that is kept until their signatures come. A longer block is shown, and can not be brought
/// back.
const MAX_THINKING_BYTES: usize = 2 * 1024 * 1024;

/// Writes one stream.
#[derive(Debug)]
pub struct StreamWriter {
    /// `data: {...,"choices":[{"index":`, the same in every chunk once the answer has begun.
    prefix: Vec<u8>,
    include_usage: bool,
    unique: String,
    model: String,
    created_s: u64,
    choices: Vec<Choice>,
    tokens: Option<Tokens>,
    is_over: bool,
}

#[derive(Debug)]
struct Choice {
    index: u32,
    /// Of the open thinking block.
    thinking: String,
    thinking_is_cut: bool,
    is_finished: bool,
}

impl StreamWriter {
    /// A stream that has not begun.
    pub fn new(identity: &Identity<'_>, include_usage: bool) -> Self {
        Self {
            prefix: Vec::new(),
            include_usage,
            unique: identity.unique.to_owned(),
            model: identity.model.to_owned(),
            created_s: identity.created_s,
            choices: Vec::new(),
            tokens: None,
            is_over: false,
        }
    }

    /// Appends what one event is in this dialect: whole server-sent events, perhaps none.
    pub fn write(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        if self.is_over {
            return;
        }
        match event {
            Event::Start { id, model, tokens } => {
                if self.prefix.is_empty() {
                    self.begin(id.as_deref(), model.as_deref());
                }
                self.tokens = tokens.or(self.tokens);
            }
            Event::Text { choice, text, logprobs } => {
                if self.open(choice, true, out) {
                    out.extend_from_slice(b"{\"content\":\"");
                    escaped(&text, out);
                    out.extend_from_slice(b"\"}");
                    self.close(logprobs.as_deref(), None, out);
                }
            }
            Event::Refusal { choice, text } => self.piece(choice, true, "refusal", &text, out),
            Event::Thinking { choice, text } => {
                self.piece(choice, false, "reasoning_content", &text, out);
                let held: usize = self.choices.iter().map(|choice| choice.thinking.len()).sum();
                if let Some(state) = self.choices.iter_mut().find(|known| known.index == choice) {
                    if held.saturating_add(text.len()) > MAX_THINKING_BYTES {
                        state.thinking_is_cut = true;
                    } else {
                        state.thinking.push_str(&text);
                    }
                }
            }
            Event::ThinkingSignature { choice, signature } => self.signed(choice, &signature, out),
            Event::RedactedThinking { choice, data } => {
                if self.open(choice, true, out) {
                    out.extend_from_slice(b"{\"thinking_blocks\":[");
                    redacted_block(&data, out);
                    out.extend_from_slice(b"]}");
                    self.close(None, None, out);
                }
            }
            Event::ToolStart { choice, index, id, name, signature } => {
                if self.open(choice, true, out) {
                    out.extend_from_slice(b"{\"tool_calls\":[");
                    let mut call = Object::open(out);
                    call.unsigned("index", u64::from(index));
                    call.string("id", &id);
                    call.string("type", "function");
                    let mut function = Object::open(call.name("function"));
                    function.string("name", &name);
                    function.string("arguments", "");
                    function.close();
                    if let Some(signature) = signature {
                        extra_content(&signature, &mut call);
                    }
                    call.close();
                    out.extend_from_slice(b"]}");
                    self.close(None, None, out);
                }
            }
            Event::ToolArguments { choice, index, fragment } => {
                if self.open(choice, true, out) {
                    out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
                    unsigned(u64::from(index), out);
                    out.extend_from_slice(b",\"function\":{\"arguments\":\"");
                    escaped(&fragment, out);
                    out.extend_from_slice(b"\"}}]}");
                    self.close(None, None, out);
                }
            }
            Event::ToolEnd { .. } | Event::Ping => {}
            Event::Finish { choice, finish } => {
                if let Some(explanation) = finish.explanation.as_deref().filter(|text| !text.is_empty()) {
                    self.piece(choice, true, "refusal", explanation, out);
                }
                if self.open(choice, true, out) {
                    out.extend_from_slice(b"{}");
                    self.close(None, Some(finish_word(finish.reason)), out);
                    if let Some(state) = self.choices.iter_mut().find(|known| known.index == choice) {
                        state.is_finished = true;
                    }
                }
            }
            Event::Tokens(tokens) => self.tokens = Some(tokens),
            Event::End => {
                self.usage_chunk(out);
                out.extend_from_slice(b"data: [DONE]\n\n");
                self.is_over = true;
            }
            Event::Error(error) => {
                out.extend_from_slice(b"data: ");
                out.extend_from_slice(&answer::error(&error));
                out.extend_from_slice(b"\n\ndata: [DONE]\n\n");
                self.is_over = true;
            }
        }
    }

    /// Renders what all chunks begin with.
    fn begin(&mut self, id: Option<&str>, model: Option<&str>) {
        let out = &mut self.prefix;
        out.extend_from_slice(b"data: {\"id\":");
        match id.filter(|id| !id.is_empty()) {
            Some(id) => string(id, out),
            None => string(&format!("chatcmpl-{}", self.unique), out),
        }
        out.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        unsigned(self.created_s, out);
        out.extend_from_slice(b",\"model\":");
        string(model.filter(|model| !model.is_empty()).unwrap_or(&self.model), out);
        out.extend_from_slice(b",\"choices\":[");
    }

    /// Begins a chunk of an answer, up to its delta; the answer's first chunk, with the role, goes before it.
    /// False: nothing more is written of that answer.
    fn open(&mut self, choice: u32, ends_thinking: bool, out: &mut Vec<u8>) -> bool {
        if self.prefix.is_empty() {
            self.begin(None, None);
        }
        match self.choices.iter_mut().find(|known| known.index == choice) {
            Some(known) => {
                if ends_thinking && (known.thinking_is_cut || !known.thinking.is_empty()) {
                    known.thinking = String::new();
                    known.thinking_is_cut = false;
                }
                if known.is_finished {
                    return false;
                }
            }
            None => {
                if self.choices.len() >= MAX_CHOICES {
                    return false;
                }
                self.choices.push(Choice {
                    index: choice,
                    thinking: String::new(),
                    thinking_is_cut: false,
                    is_finished: false,
                });
                self.head(choice, out);
                out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":\"\"}");
                self.close(None, None, out);
            }
        }
        self.head(choice, out);
        true
    }

    fn head(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"{\"index\":");
        unsigned(u64::from(choice), out);
        out.extend_from_slice(b",\"delta\":");
    }

    /// Ends a chunk behind its delta.
    fn close(&self, logprobs: Option<&str>, finish: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"logprobs\":");
        match logprobs {
            // A line break would end the event's line; in JSON it can only stand between tokens.
            Some(json) => {
                out.extend(json.bytes().map(|byte| if byte == b'\n' || byte == b'\r' { b' ' } else { byte }));
            }
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"finish_reason\":");
        match finish {
            Some(word) => string(word, out),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(if self.include_usage { b"}],\"usage\":null}\n\n" } else { b"}]}\n\n" });
    }

    /// A chunk whose delta is one string.
    fn piece(&mut self, choice: u32, ends_thinking: bool, name: &str, text: &str, out: &mut Vec<u8>) {
        if self.open(choice, ends_thinking, out) {
            let mut delta = Object::open(out);
            delta.string(name, text);
            delta.close();
            self.close(None, None, out);
        }
    }

    /// The thinking block that ends here, whole.
    fn signed(&mut self, choice: u32, signature: &str, out: &mut Vec<u8>) {
        let known = self.choices.iter_mut().find(|known| known.index == choice);
        let (text, is_cut) = known.map_or((String::new(), false), |known| {
            (std::mem::take(&mut known.thinking), std::mem::take(&mut known.thinking_is_cut))
        });
        if !is_cut && self.open(choice, true, out) {
            out.extend_from_slice(b"{\"thinking_blocks\":[");
            thinking_block(&text, signature, out);
            out.extend_from_slice(b"]}");
            self.close(None, None, out);
        }
    }

    /// The one chunk with token counts and without choices, for a caller who asked.
    fn usage_chunk(&mut self, out: &mut Vec<u8>) {
        let Some(tokens) = self.tokens.filter(|_| self.include_usage) else { return };
        if self.prefix.is_empty() {
            self.begin(None, None);
        }
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"],\"usage\":");
        usage(&tokens, out);
        out.extend_from_slice(b"}\n\n");
    }
}
