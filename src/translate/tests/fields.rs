//! The table "Fields by provider" of `docs/providers.md`, made from what the translations do, so that it stays true.
//! `BLESS=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;

use crate::translate::{Back, Built, Front, Invalid, Target, capability};

/// The columns: the heading, and a model of a family that stands for it.
const COLUMNS: [(&str, Back, &str, &str); 7] = [
    ("OpenAI's dialect", Back::OpenAi, "groq", "llama-3.3-70b"),
    ("Claude 4.5", Back::Anthropic, "anthropic", "claude-sonnet-4-5"),
    ("Claude from 4.7", Back::Anthropic, "anthropic", "claude-opus-4-8"),
    ("Bedrock Claude 4", Back::Converse, "aws-bedrock", "us.anthropic.claude-sonnet-4-20250514-v1:0"),
    ("Bedrock Nova", Back::Converse, "aws-bedrock", "amazon.nova-pro-v1:0"),
    ("Gemini 2.5", Back::Gemini, "google-gemini", "gemini-2.5-flash"),
    ("Gemini 3", Back::Gemini, "google-vertex", "google/gemini-3-pro"),
];

const MESSAGES: &str = r#""messages":[{"role":"user","content":"Hi"}]"#;
const TOOLS: &str =
    r#""tools":[{"type":"function","function":{"name":"now","parameters":{"type":"object"}}}]"#;

/// The rows: what the table calls it, the members that are in the body with it and without it.
fn rows() -> Vec<(&'static str, String, String)> {
    let plain =
        |name: &'static str, member: &str| (name, format!("{MESSAGES},{member}"), MESSAGES.to_owned());
    let tools = |name: &'static str, member: &str| {
        (name, format!("{MESSAGES},{TOOLS},{member}"), format!("{MESSAGES},{TOOLS}"))
    };
    let parts = |name: &'static str, part: &str| {
        let text = r#"{"type":"text","text":"Hi"}"#;
        let around = |parts: &str| format!(r#""messages":[{{"role":"user","content":[{parts}]}}]"#);
        (name, around(&format!("{text},{part}")), around(text))
    };
    let turns = |name: &'static str, with: &str, without: &str| {
        let around = |turn: &str| {
            format!(
                r#""messages":[{{"role":"user","content":"Hi"}},{turn},{{"role":"user","content":"Go on"}}]"#
            )
        };
        (name, around(with), around(without))
    };
    let said = r#"{"role":"assistant","content":"Ho"}"#;
    vec![
        plain("`max_completion_tokens`, `max_tokens`", r#""max_completion_tokens":100"#),
        plain("`temperature` to 1", r#""temperature":0.5"#),
        plain("`temperature` above 1", r#""temperature":1.5"#),
        plain("`top_p`", r#""top_p":0.5"#),
        (
            "`temperature` and `top_p`",
            format!(r#"{MESSAGES},"temperature":0.5,"top_p":0.5"#),
            MESSAGES.to_owned(),
        ),
        plain("`top_k`", r#""top_k":5"#),
        plain("`stop`, up to 4", r#""stop":["a","b"]"#),
        plain("`stop`, more", r#""stop":["a","b","c","d","e","f"]"#),
        plain("`n` above 1", r#""n":2"#),
        plain("`seed`", r#""seed":7"#),
        plain("`frequency_penalty`", r#""frequency_penalty":0.5"#),
        plain("`presence_penalty`", r#""presence_penalty":0.5"#),
        plain("`logprobs`", r#""logprobs":true"#),
        plain("`logprobs` with `top_logprobs`", r#""logprobs":true,"top_logprobs":3"#),
        plain("`logit_bias`", r#""logit_bias":{"50":1}"#),
        plain("`user`, `safety_identifier`", r#""user":"u-1""#),
        plain("`service_tier`: `default`", r#""service_tier":"default""#),
        plain("`service_tier`: `flex`", r#""service_tier":"flex""#),
        plain("`service_tier`: `priority`", r#""service_tier":"priority""#),
        plain("`response_format`: `json_object`", r#""response_format":{"type":"json_object"}"#),
        plain(
            "`response_format`: `json_schema`, closed",
            r#""response_format":{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}}}"#,
        ),
        plain("`reasoning_effort`", r#""reasoning_effort":"medium""#),
        plain("`reasoning_effort`: `none`", r#""reasoning_effort":"none""#),
        plain(
            "`thinking` with `budget_tokens`",
            r#""thinking":{"type":"enabled","budget_tokens":2000},"max_tokens":9000"#,
        ),
        plain("`tools` with functions", TOOLS),
        plain(
            "`tools[].function.strict`",
            r#""tools":[{"type":"function","function":{"name":"now","strict":true,"parameters":{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}}}]"#,
        ),
        plain("other kinds of `tools`", r#""tools":[{"type":"web_search"}]"#),
        tools("`tool_choice`: `none`", r#""tool_choice":"none""#),
        tools("`tool_choice`: `required`", r#""tool_choice":"required""#),
        tools("`tool_choice`: a function", r#""tool_choice":{"type":"function","function":{"name":"now"}}"#),
        tools(
            "`tool_choice`: `allowed_tools`",
            r#""tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"now"}}]}}"#,
        ),
        tools("`parallel_tool_calls`: `false`", r#""parallel_tool_calls":false"#),
        parts(
            "a picture, as `data:`",
            r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}"#,
        ),
        parts(
            "a picture, by address",
            r#"{"type":"image_url","image_url":{"url":"https://example.com/a.png"}}"#,
        ),
        parts(
            "`image_url.detail`: `low`, `high`",
            r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo=","detail":"low"}}"#,
        ),
        parts(
            "`file`, as `data:`",
            r#"{"type":"file","file":{"filename":"a.pdf","file_data":"data:application/pdf;base64,JVBERi0="}}"#,
        ),
        parts("`file`, by address", r#"{"type":"file","file":{"file_data":"https://example.com/a.pdf"}}"#),
        parts("`file`, by `file_id`", r#"{"type":"file","file":{"file_id":"file-1"}}"#),
        parts("`input_audio`", r#"{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}"#),
        plain("`cache_control` on the body", r#""cache_control":{"type":"ephemeral"}"#),
        (
            "`cache_control` on messages and parts",
            r#""messages":[{"role":"user","content":"Hi","cache_control":{"type":"ephemeral"}}]"#.to_owned(),
            MESSAGES.to_owned(),
        ),
        turns(
            "`thinking_blocks` of earlier turns, signed",
            r#"{"role":"assistant","content":"Ho","thinking_blocks":[{"type":"thinking","thinking":"Hm","signature":"c2ln"}]}"#,
            said,
        ),
        turns(
            "`reasoning_content` of earlier turns, unsigned",
            r#"{"role":"assistant","content":"Ho","reasoning_content":"Hm"}"#,
            said,
        ),
        turns("`refusal` of earlier turns", r#"{"role":"assistant","refusal":"No"}"#, said),
        (
            "an assistant's message at the end (prefill)",
            format!(r#""messages":[{{"role":"user","content":"Hi"}},{said}]"#),
            MESSAGES.to_owned(),
        ),
        (
            "`messages[].name`",
            r#""messages":[{"role":"user","content":"Hi","name":"ada"}]"#.to_owned(),
            MESSAGES.to_owned(),
        ),
        plain("`metadata`", r#""metadata":{"a":"b"}"#),
        plain("`store`: `true`", r#""store":true"#),
        plain("`modalities` with `audio`", r#""modalities":["text","audio"]"#),
        plain("`prediction`", r#""prediction":{"type":"content","content":"Hi"}"#),
        plain("`verbosity`", r#""verbosity":"low""#),
        plain("`web_search_options`", r#""web_search_options":{}"#),
        plain("`prompt_cache_key`", r#""prompt_cache_key":"a""#),
        plain("`provider_options`", r#""provider_options":{"labels":{"a":"b"}}"#),
        plain("any other field", r#""unheard_of":1"#),
        plain("`functions`, `function_call`", r#""functions":[{"name":"now"}]"#),
    ]
}

fn built(members: &str, column: (&str, Back, &'static str, &str), drop: bool) -> Result<Built, Invalid> {
    let (_, back, provider, model_id) = column;
    let capability = capability::of(back.as_str(), model_id, None);
    let target = Target { provider, model_id, capability, drop_unsupported: drop };
    let body = format!(r#"{{"model":"account/model",{members}}}"#);
    Front::Chat.read(body.as_bytes()).and_then(|conversation| Front::Chat.build(back, &conversation, &target))
}

/// What becomes of a field, in a word.
fn fate(with: &str, without: &str, column: (&str, Back, &'static str, &str)) -> &'static str {
    let plain = built(without, column, false).unwrap().body;
    match (built(with, column, false), built(with, column, true)) {
        (Ok(built), Ok(_)) if !built.dropped.is_empty() => "listed",
        (Ok(built), Ok(_)) if built.body == plain => "same",
        (Ok(_), Ok(_)) => "yes",
        (Err(_), Ok(dropping)) => {
            assert!(!dropping.dropped.is_empty(), "{with} for {} is dropped and not listed", column.0);
            "refused"
        }
        (Err(_), Err(_)) => "never",
        (Ok(_), Err(invalid)) => panic!("refused only when dropping: {invalid}"),
    }
}

fn table() -> String {
    let mut table = String::from("| field |");
    COLUMNS.iter().for_each(|(heading, ..)| write!(table, " {heading} |").unwrap());
    table.push_str("\n|---|");
    COLUMNS.iter().for_each(|_| table.push_str("---|"));
    table.push('\n');
    for (name, with, without) in rows() {
        write!(table, "| {name} |").unwrap();
        for column in COLUMNS {
            write!(table, " {} |", fate(&with, &without, column)).unwrap();
        }
        table.push('\n');
    }
    table
}

#[test]
fn the_documents_table_of_fields_is_true() {
    const BEGIN: &str = "<!-- fields by provider: written by src/translate/tests/fields.rs, BLESS=1 -->\n";
    const END: &str = "<!-- end of fields by provider -->";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/providers.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (known, after) = rest.split_once(END).unwrap();
    let table = table();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        return;
    }
    for (ours, documented) in table.lines().zip(known.lines()) {
        assert_eq!(ours, documented, "docs/providers.md");
    }
    assert_eq!(table.lines().count(), known.lines().count(), "docs/providers.md");
}

/// A refusal names the field that the row is about, or the message where it stands.
#[test]
fn refusals_name_the_field() {
    for (name, with, _) in rows() {
        for column in COLUMNS {
            let Err(invalid) = built(&with, column, false) else { continue };
            let words = invalid.field.split(['.', '[', ']']);
            let is_named = words.filter(|word| !word.is_empty()).any(|word| name.contains(word));
            let is_placed = invalid.field.starts_with("messages[") || name == "any other field";
            assert!(is_named || is_placed, "{name} for {}: {}", column.0, invalid.field);
        }
    }
}
