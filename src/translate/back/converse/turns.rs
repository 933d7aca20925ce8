//! Turns as Converse wants them: `system` apart, a user first, roles in turn, all results of tools first in one
//! message.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::Serialize;

use super::Vendor;
use super::blocks::{Block, Writer};
use crate::translate::Invalid;
use crate::translate::conversation::{Conversation, Part, Role, Turn};

/// One message.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    pub(super) content: Vec<Block<'a>>,
    /// Results of tools (and their cache marks), until they are put at its beginning.
    #[serde(skip)]
    results: Vec<Block<'a>>,
    /// How many of them there are.
    #[serde(skip)]
    count: usize,
    #[serde(skip)]
    place: &'a str,
}

/// All that was said.
#[derive(Debug, Default)]
pub(super) struct Said<'a> {
    pub(super) system: Vec<Block<'a>>,
    pub(super) messages: Vec<Message<'a>>,
    /// Names of the tools that were called, as the provider knows them; the calls need a list of tools.
    pub(super) called: BTreeSet<String>,
    /// A tool loop goes on whose thoughts did not come back.
    pub(super) lacks_thoughts: bool,
}

/// Writes all turns.
pub(super) fn write<'a>(
    conversation: &'a Conversation,
    writer: &mut Writer<'_, '_>,
) -> Result<Said<'a>, Invalid> {
    let mut said = Said::default();
    for turn in &conversation.turns {
        add(turn, writer, &mut said)?;
    }
    // Results come first, from whichever turn they are; put there once, and not turn by turn.
    for message in &mut said.messages {
        message.count = message.results.len();
        message.results.append(&mut message.content);
        message.content = std::mem::take(&mut message.results);
    }
    if let Some(last) = said.messages.last_mut() {
        writer.mark(conversation.cache, &mut last.content)?;
    }
    check(&mut said, writer)?;
    check_ids(&said.messages)?;
    for block in said.messages.iter().flat_map(|message| &message.content) {
        if let Block::ToolUse { name, .. } = block {
            said.called.insert(name.clone().into_owned());
        }
    }
    said.lacks_thoughts = lacks_thoughts(&said.messages);
    Ok(said)
}

fn add<'a>(turn: &'a Turn, writer: &mut Writer<'_, '_>, said: &mut Said<'a>) -> Result<(), Invalid> {
    let is_system = turn.role == Role::System;
    if is_system && !turn.parts.iter().all(|part| matches!(part, Part::Text { .. })) {
        return Err(writer.refusal(&turn.place, "instructions have to be text"));
    }
    if is_system && said.messages.is_empty() {
        for part in &turn.parts {
            writer.push(part, &turn.place, &mut said.system)?;
        }
        return Ok(());
    }
    let mut results = Vec::new();
    let mut others = Vec::new();
    for part in &turn.parts {
        let out = if matches!(part, Part::ToolResult(_)) { &mut results } else { &mut others };
        writer.push(part, &turn.place, out)?;
    }
    let keeps_place = writer.vendor == Vendor::Claude && writer.target.capability.system_among_turns;
    let role = match turn.role {
        Role::Assistant => "assistant",
        // Where a model takes no instructions later on they are said by the user, at their place.
        Role::System if keeps_place => "system",
        Role::System | Role::User => "user",
    };
    if results.is_empty() && others.is_empty() {
        // An assistant that said nothing, and empty instructions, change nothing; an empty question does.
        return if turn.role == Role::User {
            Err(writer.refusal(&turn.place, "a user's turn has to hold something"))
        } else {
            Ok(())
        };
    }
    match said.messages.last_mut() {
        Some(last) if last.role == role => {
            last.results.append(&mut results);
            last.content.append(&mut others);
        }
        _ => {
            said.messages.push(Message { role, content: others, results, count: 0, place: &turn.place });
        }
    }
    Ok(())
}

/// What the provider would refuse in words that do not name the place.
fn check(said: &mut Said<'_>, writer: &Writer<'_, '_>) -> Result<(), Invalid> {
    match said.messages.first() {
        None => return Err(writer.refusal("messages", "there has to be a turn of the user")),
        Some(first) if first.role != "user" => {
            return Err(writer.refusal(first.place, "the first turn has to be the user's"));
        }
        Some(_) => {}
    }
    for message in &said.messages {
        let mut kinds = message.content.iter();
        let has_document = kinds.any(|block| matches!(block, Block::Document { .. }));
        if has_document && !message.content.iter().any(|block| matches!(block, Block::Text(_))) {
            return Err(writer.refusal(message.place, "a document needs a text beside it"));
        }
    }
    let Some(last) = said.messages.last_mut() else { return Ok(()) };
    if last.role == "assistant" && writer.vendor == Vendor::Claude {
        if !writer.target.capability.prefill {
            return Err(writer.refusal(last.place, "the model does not go on with an answer that was begun"));
        }
        if let Some(Block::Text(text)) = last.content.last_mut() {
            let end = text.trim_end().len();
            *text = match std::mem::take(text) {
                Cow::Borrowed(text) => text.get(..end).unwrap_or(text).into(),
                Cow::Owned(text) => text.trim_end().to_owned().into(),
            };
        }
    }
    Ok(())
}

fn lacks_thoughts(messages: &[Message<'_>]) -> bool {
    let [.., asked, last] = messages else { return false };
    let calls =
        asked.role == "assistant" && asked.content.iter().any(|block| matches!(block, Block::ToolUse { .. }));
    let thought = asked.content.iter().any(|block| matches!(block, Block::ReasoningContent(_)));
    last.count > 0 && calls && !thought
}

/// Calls and results of one turn have ids of their own, and a result has a call before it.
fn check_ids(messages: &[Message<'_>]) -> Result<(), Invalid> {
    let mut called = BTreeSet::new();
    for message in messages {
        let mut ids = BTreeSet::new();
        for block in &message.content {
            let id = match block {
                Block::ToolUse { id, .. } => id.as_ref(),
                Block::ToolResult { id, .. } if called.contains(id.as_ref()) => id.as_ref(),
                Block::ToolResult { .. } => {
                    return Err(Invalid::new(
                        message.place,
                        "holds the result of a tool call that was not made before",
                    ));
                }
                _ => continue,
            };
            if !ids.insert(id) {
                return Err(Invalid::new(
                    message.place,
                    "two tool calls or results of one turn have the same id",
                ));
            }
        }
        called.append(&mut ids);
    }
    Ok(())
}
