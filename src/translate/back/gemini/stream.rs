//! The stream of `streamGenerateContent?alt=sse`, event by event.

use std::borrow::Cow;

use super::answer::{
    CallIds, CallRead, Candidate, Ending, MAX_CANDIDATES, PartRead, PromptFeedback, Reply, arguments,
    blocked, ending, finish,
};
use super::error;
use super::partial::{Pieces, Unusable};
use super::usage::Usage;
use crate::http::sse;
use crate::translate::few::Few;
use crate::translate::{Event, Finish, ProviderError, ReplyContext, Tokens};

/// More calls than these in one answer are no answer.
const MAX_CALLS: usize = 10_000;

/// Reads the events of one stream.
#[derive(Debug)]
pub struct StreamReader {
    context: ReplyContext,
    /// Made with the first chunk.
    ids: Option<CallIds>,
    choices: Vec<ChoiceState>,
    /// The prompt was blocked, unless a candidate comes all the same.
    blocked: Option<Finish>,
    usage: Usage,
    /// What was told last.
    tokens: Option<Tokens>,
    /// An error was told, or the end.
    is_over: bool,
    /// Something came that was no event.
    is_broken: bool,
}

/// How far one answer is.
#[derive(Debug, Default)]
struct ChoiceState {
    index: u32,
    calls: u32,
    has_content: bool,
    is_thinking: bool,
    open: Option<OpenCall>,
    reason: Option<String>,
    message: Option<String>,
}

/// A call whose arguments come in pieces.
#[derive(Debug)]
struct OpenCall {
    /// `None`: it is the tool that JSON is asked for through.
    index: Option<u32>,
    pieces: Pieces,
    /// Arguments that came whole.
    whole: Option<String>,
}

impl StreamReader {
    /// For the answer to a request.
    pub fn new(context: ReplyContext) -> Self {
        Self {
            context,
            ids: None,
            choices: Vec::new(),
            blocked: None,
            usage: Usage::default(),
            tokens: None,
            is_over: false,
            is_broken: false,
        }
    }

    /// Reads one whole event with its empty line.
    pub fn read(&mut self, event: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_over {
            return;
        }
        match sse::data(event) {
            Some(data) if data.trim_ascii().is_empty() => {}
            // No one but compatible servers sends this.
            Some(data) if data.trim_ascii() == b"[DONE]" => {}
            Some(data) => self.chunk(&data, sink),
            None => self.bare(event, sink),
        }
    }

    /// Reads what stood behind the last whole event: an event without its empty line, or a bare error.
    pub fn rest(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        self.read(bytes, sink);
    }

    /// The body has ended cleanly: tells the reasons of the end and the end, if each answer had one.
    pub fn end(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        if self.is_over || self.is_broken {
            return;
        }
        if self.choices.is_empty() {
            let Some(finish) = self.blocked.take() else { return };
            self.is_over = true;
            sink(Event::Finish { choice: 0, finish });
            sink(Event::End);
            return;
        }
        if self.choices.iter().any(|choice| choice.reason.is_none()) {
            return;
        }
        self.is_over = true;
        if let Some(failed) = self.failed() {
            sink(Event::Error(failed));
            return;
        }
        self.choices.sort_by_key(|choice| choice.index);
        for choice in &mut self.choices {
            choice.close_call(sink);
            let reason = choice.reason.as_deref().unwrap_or_default();
            let finish = finish(reason, choice.message.as_deref(), choice.calls > 0);
            sink(Event::Finish { choice: choice.index, finish });
        }
        sink(Event::End);
    }

    /// The error, when every model failed before it said anything.
    fn failed(&self) -> Option<ProviderError> {
        let mut failed = None;
        for choice in &self.choices {
            let reason = choice.reason.as_deref().unwrap_or_default();
            if choice.has_content || ending(reason) != Ending::Failed {
                return None;
            }
            failed = Some(error::failed(reason, choice.message.as_deref()));
        }
        failed
    }

    fn fail(&mut self, error: ProviderError, sink: &mut dyn FnMut(Event<'_>)) {
        self.is_over = true;
        sink(Event::Error(error));
    }

    /// Bytes without a data line: comments, other fields, or an error that was written into the stream as it is.
    fn bare(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let text = bytes.trim_ascii();
        if matches!(text.first(), Some(b'{' | b'[')) {
            self.fail(error::in_stream(text).unwrap_or_else(error::unreadable), sink);
            return;
        }
        let is_field = |line: &[u8]| {
            line.is_empty()
                || [":", "event", "id", "retry"].iter().any(|name| line.starts_with(name.as_bytes()))
        };
        if !sse::lines(bytes).all(is_field) {
            self.is_broken = true;
        } else if !text.is_empty() {
            sink(Event::Ping);
        }
    }

    fn chunk(&mut self, data: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        let Ok(reply) = serde_json::from_slice::<Reply<'_>>(data) else {
            let error = error::in_stream(data).unwrap_or_else(error::unreadable);
            self.fail(error, sink);
            return;
        };
        if reply.error.is_some() {
            self.fail(error::in_stream(data).unwrap_or_else(error::unreadable), sink);
            return;
        }
        let Few(candidates) = reply.candidates.unwrap_or_default();
        let is_last = candidates.iter().any(|candidate| candidate.finish_reason.is_some());
        if let Some(usage) = &reply.usage_metadata {
            self.usage.update(usage, is_last);
        }
        let id = reply.response_id.map(|id| id.0).filter(|id| !id.is_empty());
        let tokens = self.usage.tokens();
        if self.ids.is_none() {
            self.ids = Some(CallIds::new(id.as_deref(), data));
            self.tokens = tokens;
            let model = reply.model_version.map(|model| model.0).filter(|model| !model.is_empty());
            sink(Event::Start { id, model, tokens });
        }
        if let Some(feedback) = reply.prompt_feedback.filter(PromptFeedback::blocks) {
            self.blocked = Some(blocked(&feedback));
        }
        for candidate in &candidates {
            if let Err(Unusable) = self.candidate(candidate, sink) {
                self.fail(error::unreadable(), sink);
                return;
            }
        }
        if tokens != self.tokens
            && let Some(tokens) = tokens
        {
            self.tokens = Some(tokens);
            sink(Event::Tokens(tokens));
        }
    }

    fn candidate(
        &mut self,
        candidate: &Candidate<'_>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Unusable> {
        let index = candidate.index.unwrap_or_default();
        let known = self.choices.iter().position(|choice| choice.index == index);
        let place = match known {
            Some(place) => place,
            None if self.choices.len() >= MAX_CANDIDATES || index as usize >= MAX_CANDIDATES => {
                return Err(Unusable);
            }
            None => {
                self.choices.push(ChoiceState { index, ..ChoiceState::default() });
                self.choices.len() - 1
            }
        };
        let (Some(choice), Some(ids)) = (self.choices.get_mut(place), self.ids.as_mut()) else {
            return Err(Unusable);
        };
        let parts = candidate
            .content
            .as_ref()
            .and_then(|content| content.parts.as_ref())
            .map_or(&[][..], |few| &few.0);
        let logprobs = candidate.logprobs_result.as_ref().map(|found| found.in_chat_form().to_string());
        let mut logprobs = logprobs.map(Cow::Owned);
        for part in parts {
            choice.part(part, &self.context, ids, &mut logprobs, sink)?;
        }
        if let Some(reason) = &candidate.finish_reason {
            choice.close_call(sink);
            choice.reason = Some(reason.0.chars().take(64).collect());
            choice.message = candidate.finish_message.as_ref().map(|message| error::sentence(&message.0));
        }
        Ok(())
    }
}

impl ChoiceState {
    fn part(
        &mut self,
        part: &PartRead<'_>,
        context: &ReplyContext,
        ids: &mut CallIds,
        logprobs: &mut Option<Cow<'_, str>>,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Unusable> {
        let choice = self.index;
        let signature = part.thought_signature.as_ref().map(|signature| signature.0.as_ref());
        let signature = signature.filter(|signature| !signature.is_empty());
        if let Some(call) = &part.function_call {
            return self.call(call, signature, context, ids, sink);
        }
        let text = part.text.as_ref().map_or("", |text| text.0.as_ref());
        let is_thought = part.thought == Some(true);
        let proof = |sink: &mut dyn FnMut(Event<'_>)| {
            if let Some(signature) = signature {
                sink(Event::ThinkingSignature { choice, signature: Cow::Borrowed(signature) });
            }
        };
        if is_thought {
            if !text.is_empty() {
                self.close_call(sink);
                self.is_thinking = true;
                sink(Event::Thinking { choice, text: Cow::Borrowed(text) });
            }
            if signature.is_some() {
                self.is_thinking = false;
                proof(sink);
            }
            return Ok(());
        }
        let signs_thoughts = self.is_thinking;
        if signs_thoughts && signature.is_some() {
            self.is_thinking = false;
            proof(sink);
        }
        if !text.is_empty() {
            self.close_call(sink);
            self.is_thinking = false;
            self.has_content = true;
            sink(Event::Text { choice, text: Cow::Borrowed(text), logprobs: logprobs.take() });
        }
        if !signs_thoughts && signature.is_some() {
            proof(sink);
        }
        self.has_content |= part.inline_data.is_some();
        Ok(())
    }

    fn call(
        &mut self,
        call: &CallRead<'_>,
        signature: Option<&str>,
        context: &ReplyContext,
        ids: &mut CallIds,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> Result<(), Unusable> {
        let choice = self.index;
        let name = call.name.as_ref().map(|name| name.0.as_ref()).filter(|name| !name.is_empty());
        if let Some(name) = name {
            self.close_call(sink);
            self.is_thinking = false;
            self.has_content = true;
            if ids.count() >= MAX_CALLS {
                return Err(Unusable);
            }
            let index = if context.json_tool.as_deref() == Some(name) {
                None
            } else {
                let index = self.calls;
                self.calls += 1;
                sink(Event::ToolStart {
                    choice,
                    index,
                    id: Cow::Owned(ids.take(call.id.as_ref().map(|id| id.0.as_ref()))),
                    name: Cow::Borrowed(context.callers_tool_name(name)),
                    signature: signature.map(Cow::Borrowed),
                });
                Some(index)
            };
            self.open = Some(OpenCall { index, pieces: Pieces::default(), whole: None });
        }
        // A piece of no call says nothing.
        let Some(open) = self.open.as_mut() else { return Ok(()) };
        for piece in call.partial_args.iter().flat_map(|few| &few.0) {
            open.pieces.add(piece)?;
        }
        if call.args.is_some() {
            open.whole = Some(arguments(call.args));
        }
        if call.will_continue != Some(true) {
            self.close_call(sink);
        }
        Ok(())
    }

    /// Tells the arguments and the end of the call that is open.
    fn close_call(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(open) = self.open.take() else { return };
        let choice = self.index;
        let fragment = Cow::Owned(open.whole.unwrap_or_else(|| open.pieces.into_text()));
        match open.index {
            None => sink(Event::Text { choice, text: fragment, logprobs: None }),
            Some(index) => {
                sink(Event::ToolArguments { choice, index, fragment });
                sink(Event::ToolEnd { choice, index });
            }
        }
    }
}
