//! Turns of a conversation as messages: roles that alternate, results of tools where the provider looks for them.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use serde_json::value::RawValue;

use super::blocks::{Block, Mark, ResultContent, document, image, mark};
use super::tools::Names;
use crate::translate::capability::Thinking;
use crate::translate::conversation::{CacheMark, Conversation, Part, Role, ToolCall, ToolResult, Turn};
use crate::translate::{Invalid, Target, Unsupported};

/// One message as it goes out.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Vec<Block<'a>>,
}

/// All of a conversation's turns.
#[derive(Debug)]
pub(super) struct Messages<'a> {
    pub(super) system: Vec<Block<'a>>,
    pub(super) messages: Vec<Message<'a>>,
    /// The last turn answers calls of a turn that has none of its thoughts with it.
    pub(super) lacks_thoughts: bool,
}

/// Writes the turns.
pub(super) fn build<'a>(
    conversation: &'a Conversation,
    target: &Target<'a>,
    names: &Names,
    unsupported: &mut Unsupported<'_>,
) -> Result<Messages<'a>, Invalid> {
    let mut writer = Writer {
        target: *target,
        names,
        unsupported,
        system: Vec::new(),
        messages: Vec::new(),
        open: None,
        calls: Calls::default(),
        used_ids: BTreeMap::new(),
    };
    for turn in &conversation.turns {
        match turn.role {
            Role::System => writer.system_turn(turn)?,
            Role::User => writer.user_turn(turn)?,
            Role::Assistant => writer.assistant_turn(turn)?,
        }
    }
    writer.finish()
}

/// A message that may still grow.
#[derive(Debug)]
struct Open<'a> {
    role: &'static str,
    /// Where its last part came from.
    place: &'a str,
    /// For each call of the turn before, its result.
    results: Vec<Option<Block<'a>>>,
    /// How many of them did not come yet.
    missing: usize,
    content: Vec<Block<'a>>,
}

/// The calls of one assistant's message, whose results have to come in the next.
#[derive(Debug, Default)]
struct Calls<'a> {
    /// As the provider knows them, in order.
    ids: Vec<Cow<'a, str>>,
    /// By the caller's id, the places of those that wait for a result.
    waiting: BTreeMap<&'a str, VecDeque<usize>>,
}

struct Writer<'a, 'n, 'u, 't> {
    target: Target<'a>,
    names: &'n Names,
    unsupported: &'u mut Unsupported<'t>,
    system: Vec<Block<'a>>,
    messages: Vec<Message<'a>>,
    open: Option<Open<'a>>,
    /// Of the last assistant's message.
    calls: Calls<'a>,
    /// Ids that are taken, and the last number that one of them was given behind it.
    used_ids: BTreeMap<String, u32>,
}

const SYSTEM: &str = "system";
const USER: &str = "user";
const ASSISTANT: &str = "assistant";

impl<'a> Writer<'a, '_, '_, '_> {
    fn system_turn(&mut self, turn: &'a Turn) -> Result<(), Invalid> {
        let mut blocks = Vec::new();
        for part in &turn.parts {
            let Part::Text { text, cache } = part else {
                return Err(Invalid::new(&*turn.place, "instructions can only be text"));
            };
            if !text.trim().is_empty() {
                blocks.push(Block::Text { text, cache_control: self.mark(*cache)? });
            }
        }
        let Some(open) = &self.open else {
            self.system.append(&mut blocks);
            return Ok(());
        };
        if blocks.is_empty() {
            return Ok(());
        }
        // Models that take the role were seen to take it behind a user's turn. Elsewhere it joins the user's words.
        let may_stand_alone = open.role == SYSTEM || (open.role == USER && self.has_all_results());
        let role = if self.target.capability.system_among_turns && may_stand_alone { SYSTEM } else { USER };
        self.message(role, &turn.place)?.content.append(&mut blocks);
        Ok(())
    }

    fn user_turn(&mut self, turn: &'a Turn) -> Result<(), Invalid> {
        let mut is_empty = true;
        for (number, part) in turn.parts.iter().enumerate() {
            let block = match part {
                Part::ToolResult(result) => {
                    self.result(result, turn)?;
                    is_empty = false;
                    continue;
                }
                Part::Text { text, .. } if text.trim().is_empty() => continue,
                part => self.content(part, &format!("{}.content[{number}]", turn.place))?,
            };
            self.message(USER, &turn.place)?.content.push(block);
            is_empty = false;
        }
        if is_empty {
            return Err(Invalid::new(&*turn.place, "the turn has no content"));
        }
        Ok(())
    }

    fn result(&mut self, result: &'a ToolResult, turn: &'a Turn) -> Result<(), Invalid> {
        let content = self.result_content(result, turn)?;
        let cache_control = self.mark(result.cache)?;
        // Opens the user's message, if it is not open yet.
        self.message(USER, &turn.place)?;
        let at = self.calls.waiting.get_mut(result.call_id.as_str()).and_then(VecDeque::pop_front);
        let open = self.open.as_mut();
        let found = at.and_then(|at| {
            let open = open?;
            Some((self.calls.ids.get(at)?, open.results.get_mut(at)?, &mut open.missing))
        });
        let Some((id, place, missing)) = found else {
            return Err(Invalid::new(
                &*turn.place,
                "a tool's result needs its call in the assistant's turn right before, and only one for each",
            ));
        };
        *missing = missing.saturating_sub(1);
        *place = Some(Block::ToolResult {
            tool_use_id: id.clone(),
            content,
            is_error: result.is_error,
            cache_control,
        });
        Ok(())
    }

    fn result_content(&mut self, result: &'a ToolResult, turn: &Turn) -> Result<ResultContent<'a>, Invalid> {
        if let [Part::Text { text, cache: None }] = result.parts.as_slice() {
            return Ok(ResultContent::Text(text));
        }
        let mut blocks = Vec::new();
        for part in &result.parts {
            match part {
                Part::Text { text, .. } if text.trim().is_empty() => {}
                part => blocks.push(self.content(part, &turn.place)?),
            }
        }
        Ok(if blocks.is_empty() { ResultContent::Text("") } else { ResultContent::Blocks(blocks) })
    }

    /// What a user or a tool says.
    fn content(&mut self, part: &'a Part, place: &str) -> Result<Block<'a>, Invalid> {
        match part {
            Part::Text { text, cache } => Ok(Block::Text { text, cache_control: self.mark(*cache)? }),
            Part::Image { source, detail, cache } => {
                // Pictures are always looked at whole.
                if detail.as_deref() == Some("low") {
                    self.unsupported.field("image_url.detail")?;
                }
                Ok(Block::Image { source: image(source, place)?, cache_control: self.mark(*cache)? })
            }
            Part::Document { source, name, cache } => Ok(Block::Document {
                source: document(source, place)?,
                title: name.as_deref().filter(|name| !name.is_empty()),
                cache_control: self.mark(*cache)?,
            }),
            Part::Audio { .. } => Err(Invalid::new(place, "anthropic takes no sound")),
            Part::ToolCall(_)
            | Part::ToolResult(_)
            | Part::Thinking { .. }
            | Part::RedactedThinking { .. }
            | Part::Refusal { .. } => Err(Invalid::new(place, "this can not stand here")),
        }
    }

    fn assistant_turn(&mut self, turn: &'a Turn) -> Result<(), Invalid> {
        let mut calls = 0_usize;
        let takes_thoughts = self.target.capability.thinking != Thinking::None;
        for (number, part) in turn.parts.iter().enumerate() {
            let block = match part {
                Part::Text { text, .. } | Part::Refusal { text } if text.trim().is_empty() => continue,
                Part::Text { text, cache } => Block::Text { text, cache_control: self.mark(*cache)? },
                Part::Refusal { text } => Block::Text { text, cache_control: None },
                // Thoughts without their proof are another provider's, or were cut; they are refused if sent.
                Part::Thinking { text, signature: Some(signature) }
                    if takes_thoughts && !signature.is_empty() =>
                {
                    Block::Thinking { thinking: text, signature }
                }
                Part::RedactedThinking { data } if takes_thoughts => Block::RedactedThinking { data },
                Part::Thinking { .. } | Part::RedactedThinking { .. } => continue,
                Part::ToolCall(call) => {
                    let place = format!("{}.tool_calls[{}]", turn.place, calls);
                    calls += 1;
                    let input = arguments(call)
                        .ok_or_else(|| Invalid::new(place, "the arguments have to be a JSON object"))?;
                    let cache_control = self.mark(call.cache)?;
                    // Closes a user's message, which ends the calls that it answered.
                    self.message(ASSISTANT, &turn.place)?;
                    let id = self.id(&call.id);
                    self.calls.waiting.entry(&call.id).or_default().push_back(self.calls.ids.len());
                    self.calls.ids.push(id.clone());
                    Block::ToolUse { id, name: self.names.of(&call.name), input, cache_control }
                }
                Part::Image { .. } | Part::Document { .. } | Part::Audio { .. } | Part::ToolResult(_) => {
                    let place = format!("{}.content[{number}]", turn.place);
                    return Err(Invalid::new(place, "an assistant's turn can not have this"));
                }
            };
            self.message(ASSISTANT, &turn.place)?.content.push(block);
        }
        Ok(())
    }

    /// The message of this role that may grow, after the one before was closed.
    fn message(&mut self, role: &'static str, place: &'a str) -> Result<&mut Open<'a>, Invalid> {
        if self.open.as_ref().is_some_and(|open| open.role != role) {
            self.close(role == USER)?;
        }
        let calls = if role == USER { self.calls.ids.len() } else { 0 };
        let open = self.open.get_or_insert_with(|| Open {
            role,
            place,
            results: std::iter::repeat_with(|| None).take(calls).collect(),
            missing: calls,
            content: Vec::new(),
        });
        open.place = place;
        Ok(open)
    }

    /// Closes the message that is open. Only a user's message may come behind calls.
    fn close(&mut self, user_follows: bool) -> Result<(), Invalid> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let is_answered = match open.role {
            ASSISTANT => user_follows || self.calls.ids.is_empty(),
            _ => open.missing == 0,
        };
        if !is_answered {
            return Err(Invalid::new(
                open.place,
                "every tool call needs its result right behind the assistant's turn",
            ));
        }
        if open.role != ASSISTANT {
            self.calls = Calls::default();
        }
        let mut content: Vec<_> = open.results.into_iter().flatten().collect();
        content.extend(open.content);
        self.messages.push(Message { role: open.role, content });
        Ok(())
    }

    fn has_all_results(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.missing == 0)
    }

    /// An id as the provider takes it, the same for the same place in the same conversation.
    fn id(&mut self, callers: &'a str) -> Cow<'a, str> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let wanted = if !callers.is_empty() && callers.chars().all(is_plain) {
            Cow::Borrowed(callers)
        } else {
            let hex: String = callers.bytes().map(|byte| format!("{byte:02x}")).collect();
            Cow::Owned(format!("call_{hex}"))
        };
        let Some(mut number) = self.used_ids.get(&*wanted).copied() else {
            self.used_ids.insert(wanted.to_string(), 1);
            return wanted;
        };
        let id = loop {
            number = number.saturating_add(1);
            let id = format!("{wanted}_{number}");
            if !self.used_ids.contains_key(&id) {
                break id;
            }
        };
        self.used_ids.insert(wanted.into_owned(), number);
        self.used_ids.insert(id.clone(), 1);
        Cow::Owned(id)
    }

    fn mark(&mut self, cache: Option<CacheMark>) -> Result<Option<Mark>, Invalid> {
        mark(cache, &self.target, self.unsupported)
    }

    fn finish(mut self) -> Result<Messages<'a>, Invalid> {
        if let Some(open) = self.open.as_mut()
            && open.role == ASSISTANT
            && self.calls.ids.is_empty()
        {
            if !self.target.capability.prefill {
                return Err(Invalid::new(
                    open.place,
                    "this model does not go on from the beginning of an answer: the last turn has to be the user's",
                ));
            }
            if let Some(Block::Text { text, .. }) = open.content.last_mut() {
                *text = text.trim_end();
            }
        }
        let answers_calls = self.open.as_ref().is_some_and(|open| !open.results.is_empty());
        self.close(false)?;
        if self.messages.is_empty() {
            return Err(Invalid::new("messages", "anthropic needs a turn of the user"));
        }
        let before = self.messages.iter().rev().find(|message| message.role == ASSISTANT);
        let begins_with_thoughts = before.is_some_and(|message| {
            matches!(message.content.first(), Some(Block::Thinking { .. } | Block::RedactedThinking { .. }))
        });
        Ok(Messages {
            system: self.system,
            messages: self.messages,
            lacks_thoughts: answers_calls && !begins_with_thoughts,
        })
    }
}

/// The arguments of a call as an object; `None` when they are none.
fn arguments(call: &ToolCall) -> Option<&RawValue> {
    let text = call.arguments.trim();
    let text = if text.is_empty() { "{}" } else { text };
    serde_json::from_str::<&RawValue>(text).ok().filter(|raw| raw.get().starts_with('{'))
}
