//! Conversations as Google's requests.

use serde_json::{Value, json};

use super::*;
use crate::translate::conversation::*;

#[test]
fn a_whole_conversation() {
    let conversation = Conversation {
        turns: vec![
            turn(Role::System, vec![text("Be brief."), text("")]),
            turn(Role::User, vec![text("Weather in Paris"), text("")]),
            turn(Role::User, vec![text("and Rome?")]),
            turn(
                Role::Assistant,
                vec![
                    text("I look."),
                    Part::ToolCall(call("c1", "weather", r#"{"city":"Paris","n":1.0}"#)),
                    Part::ToolCall(call("c2", "weather", "")),
                ],
            ),
            // The results come in another order and in turns of their own, as OpenAI's callers write them.
            turn(Role::User, vec![result("c2", r#"{"sky": "blue"}"#)]),
            turn(Role::User, vec![result("c1", "rain"), text("Thanks.")]),
            turn(Role::System, vec![text("Be kind.")]),
        ],
        tools: vec![Tool {
            name: "weather".into(),
            description: Some("Tells.".into()),
            parameters: Some(raw(
                r#"{"type":"object","properties":{"city":{"type":"string","minLength":1.0}}}"#,
            )),
            strict: None,
            cache: None,
        }],
        tool_choice: Some(ToolChoice::Tool("weather".into())),
        max_output_tokens: Some(100),
        temperature: Some(1.5),
        top_p: Some(0.5),
        top_k: Some(40),
        frequency_penalty: Some(0.25),
        presence_penalty: Some(-1.0),
        stop: vec!["END".into()],
        seed: Some(-7),
        count: Some(2),
        logprobs: Some(true),
        top_logprobs: Some(3),
        parallel_tool_calls: Some(true),
        service_tier: Some("flex".into()),
        stream: true,
        include_usage: true,
        ..Conversation::default()
    };
    assert_eq!(
        built(&conversation),
        json!({
            "contents": [
                {"role": "user", "parts": [{"text": "Weather in Paris"}, {"text": "and Rome?"}]},
                {"role": "model", "parts": [
                    {"text": "I look."},
                    {"functionCall": {"id": "c1", "name": "weather", "args": {"city": "Paris", "n": 1.0}}},
                    {"functionCall": {"id": "c2", "name": "weather", "args": {}}},
                ]},
                {"role": "user", "parts": [
                    {"functionResponse": {"id": "c1", "name": "weather", "response": {"result": "rain"}}},
                    {"functionResponse": {"id": "c2", "name": "weather", "response": {"sky": "blue"}}},
                ]},
                {"role": "user", "parts": [{"text": "Thanks."}]},
            ],
            "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]},
            "tools": [{"functionDeclarations": [{
                "name": "weather", "description": "Tells.",
                "parametersJsonSchema": {"type": "object", "properties": {"city": {"type": "string", "minLength": 1.0}}},
            }]}],
            "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
            "serviceTier": "flex",
            "generationConfig": {
                "temperature": 1.5, "topP": 0.5, "topK": 40, "presencePenalty": -1.0, "frequencyPenalty": 0.25,
                "seed": -7, "maxOutputTokens": 100, "candidateCount": 2, "stopSequences": ["END"],
                "responseLogprobs": true, "logprobs": 3,
            },
        })
    );
    assert_eq!(built(&says("hi")), json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}));
}

#[test]
fn numbers_and_the_order_of_keys_stay_as_they_were() {
    let mut conversation = says("x");
    let arguments = r#"{"z":12345678901234567890123,"a":1.0,"m":1e2}"#;
    conversation.turns.push(turn(Role::Assistant, vec![Part::ToolCall(call("c", "f", arguments))]));
    let schema = r#"{"type":"object","properties":{"z":{"const":9007199254740993},"a":{}}}"#;
    conversation.tools.push(Tool {
        name: "f".into(),
        description: None,
        parameters: Some(raw(schema)),
        strict: None,
        cache: None,
    });
    let capability = of("gemini-2.5-flash");
    let target = Target {
        provider: GEMINI,
        model_id: "gemini-2.5-flash",
        capability: &capability,
        drop_unsupported: false,
    };
    let body = String::from_utf8(super::super::build(&conversation, &target).unwrap().body).unwrap();
    assert!(body.contains(arguments), "{body}");
    assert!(body.contains(schema), "{body}");
}

#[test]
fn media() {
    let base64 = |media_type: &str| Source::Base64 { media_type: media_type.into(), data: "AAAA".into() };
    let image = |source| Part::Image { source, detail: Some("auto".into()), cache: None };
    let document = |source| Part::Document { source, name: Some("a.pdf".into()), cache: None };
    let conversation = Conversation {
        turns: vec![turn(
            Role::User,
            vec![
                image(base64("image/png")),
                image(Source::Url("https://example.com/a/b.JPG?x=1".into())),
                image(Source::Url("gs://bucket/c".into())),
                document(base64("application/pdf")),
                document(Source::Text("plain".into())),
                document(Source::FileId("https://generativelanguage.googleapis.com/v1beta/files/abc".into())),
                Part::Audio { data: "UklG".into(), format: "wav".into() },
            ],
        )],
        ..Conversation::default()
    };
    assert_eq!(
        built(&conversation)["contents"][0]["parts"],
        json!([
            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
            {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://example.com/a/b.JPG?x=1"}},
            {"fileData": {"fileUri": "gs://bucket/c"}},
            {"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}},
            {"text": "plain"},
            {"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/abc"}},
            {"inlineData": {"mimeType": "audio/wav", "data": "UklG"}},
        ])
    );
    for part in [
        image(Source::Url("file:///etc/passwd".into())),
        image(Source::Url("é".into())),
        image(Source::Url(String::new())),
        document(Source::FileId("file-abc".into())),
        document(Source::Text(String::new())),
        Part::Audio { data: String::new(), format: "midi".into() },
        result("none", "x"),
        Part::ToolCall(call("c", "f", "")),
        Part::Thinking { text: "x".into(), signature: None },
    ] {
        let conversation =
            Conversation { turns: vec![turn(Role::User, vec![part])], ..Conversation::default() };
        assert_eq!(refused(&conversation).field, "messages[7]", "{conversation:?}");
    }
    let low = Part::Image { source: base64("image/png"), detail: Some("low".into()), cache: None };
    let conversation = Conversation { turns: vec![turn(Role::User, vec![low])], ..Conversation::default() };
    assert_eq!(refused(&conversation).field, "image_url.detail");
}

#[test]
fn results_need_their_calls() {
    let asks = |turns: Vec<Turn>| {
        let mut conversation = says("x");
        conversation.turns.extend(turns);
        build_for(GEMINI, "gemini-2.5-flash", false, &conversation).map(|(body, ..)| body)
    };
    let calls = || {
        turn(
            Role::Assistant,
            vec![Part::ToolCall(call("a", "f", "{}")), Part::ToolCall(call("a", "g", "{}"))],
        )
    };
    let user = |parts| turn(Role::User, parts);
    // The same id twice: by order.
    let body = asks(vec![calls(), user(vec![result("a", "1"), result("a", "2")])]).unwrap();
    let parts = &body["contents"][2]["parts"];
    assert_eq!(parts[0]["functionResponse"]["name"], "f");
    assert_eq!(parts[1]["functionResponse"]["name"], "g");
    // Calls at the end wait for nothing.
    assert!(asks(vec![calls()]).is_ok());
    // Empty results are results.
    let empty = Part::ToolResult(ToolResult { call_id: "a".into(), is_error: true, ..ToolResult::default() });
    let body = asks(vec![calls(), user(vec![empty, result("a", "")])]).unwrap();
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["response"], json!({"error": ""}));
    assert_eq!(body["contents"][2]["parts"][1]["functionResponse"]["response"], json!({"result": ""}));
    for broken in [
        vec![user(vec![result("a", "1")])],
        vec![calls(), user(vec![result("b", "1")])],
        vec![calls(), user(vec![result("a", "1")])],
        vec![calls(), user(vec![text("never mind")])],
        vec![calls(), calls()],
        vec![calls(), user(vec![result("a", "1"), result("a", "2"), result("a", "3")])],
        vec![turn(Role::Assistant, vec![Part::ToolCall(call("a", "", "{}"))])],
        vec![turn(Role::Assistant, vec![Part::ToolCall(call("a", "f", "[1]"))])],
        vec![turn(Role::Assistant, vec![Part::ToolCall(call("a", "f", "{\"a\":"))])],
        vec![turn(Role::Assistant, vec![result("a", "1")])],
        vec![turn(Role::System, vec![result("a", "1")])],
    ] {
        let shown = format!("{broken:?}");
        assert!(asks(broken).is_err(), "{shown}");
    }
    assert_eq!(refused(&Conversation::default()).field, "messages");
    let only_system =
        Conversation { turns: vec![turn(Role::System, vec![text("x")])], ..Conversation::default() };
    assert_eq!(refused(&only_system).field, "messages");
}

#[test]
fn signatures_go_back_to_where_they_belong() {
    let signed = ToolCall { signature: Some("s1".into()), ..call("a", "f", "{}") };
    let thinking = |text: &str, signature: Option<&str>| Part::Thinking {
        text: text.into(),
        signature: signature.map(str::to_owned),
    };
    let model = |parts| {
        let mut conversation = says("x");
        conversation.turns.push(turn(Role::Assistant, parts));
        let (body, ..) = build_for(GEMINI, "gemini-3-pro-preview", false, &conversation).unwrap();
        body["contents"][1]["parts"].clone()
    };
    let wire = |signature: Value| json!({"functionCall": {"id": "a", "name": "f", "args": {}}, "thoughtSignature": signature});
    assert_eq!(
        model(vec![thinking("why", None), Part::ToolCall(signed)]),
        json!([{"text": "why", "thought": true}, wire(json!("s1"))])
    );
    // From dialects in which a call has none: from the block before it.
    assert_eq!(
        model(vec![thinking("why", Some("s2")), Part::ToolCall(call("a", "f", "{}"))]),
        json!([{"text": "why", "thought": true}, wire(json!("s2"))])
    );
    assert_eq!(
        model(vec![thinking("", Some("s3")), Part::ToolCall(call("a", "f", "{}"))]),
        json!([wire(json!("s3"))])
    );
    // On thoughts, and on a text's empty end.
    assert_eq!(
        model(vec![thinking("why", Some("s4")), text("so"), thinking("", Some("s5")), thinking("", None)]),
        json!([
            {"text": "why", "thought": true, "thoughtSignature": "s4"},
            {"text": "so"},
            {"text": "", "thoughtSignature": "s5"},
        ])
    );
    // Calls of another provider's model: the first of a turn has the word that Google documents for it.
    let both = model(vec![Part::ToolCall(call("a", "f", "{}")), Part::ToolCall(call("b", "g", "{}"))]);
    assert_eq!(both[0]["thoughtSignature"], "skip_thought_signature_validator");
    assert_eq!(both[1].get("thoughtSignature"), None);
    // Older models need none.
    let mut conversation = says("x");
    conversation.turns.push(turn(Role::Assistant, vec![Part::ToolCall(call("a", "f", "{}"))]));
    assert_eq!(built(&conversation)["contents"][1]["parts"][0].get("thoughtSignature"), None);
    // Vertex pairs by place.
    let (body, ..) = build_for(VERTEX, "gemini-2.5-flash", false, &conversation).unwrap();
    assert_eq!(body["contents"][1]["parts"][0]["functionCall"], json!({"name": "f", "args": {}}));

    let mut conversation = says("x");
    let redacted = Part::RedactedThinking { data: "x".into() };
    conversation.turns.push(turn(Role::Assistant, vec![redacted, text("y")]));
    // Only who wrote them could read them: told, not refused.
    let (_, dropped, _) = build_for(GEMINI, "gemini-2.5-flash", false, &conversation).unwrap();
    assert_eq!(dropped, ["thinking_blocks"]);
}

#[test]
fn pictures_in_results() {
    let picture = Part::Image {
        source: Source::Base64 { media_type: "image/png".into(), data: "AAAA".into() },
        detail: None,
        cache: None,
    };
    let mut conversation = says("x");
    conversation.turns.push(turn(Role::Assistant, vec![Part::ToolCall(call("a", "f", "{}"))]));
    let shown =
        ToolResult { call_id: "a".into(), parts: vec![text("see"), picture], ..ToolResult::default() };
    conversation.turns.push(turn(Role::User, vec![Part::ToolResult(shown)]));
    let wire = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    let (body, ..) = build_for(GEMINI, "gemini-3-flash", false, &conversation).unwrap();
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["parts"], json!([wire]));
    let body = built(&conversation);
    assert_eq!(body["contents"][2]["parts"].as_array().unwrap().len(), 1);
    assert_eq!(body["contents"][3], json!({"role": "user", "parts": [wire]}));
}

#[test]
fn tools_and_choices() {
    let tool = |name: &str, strict| Tool {
        name: name.into(),
        description: None,
        parameters: Some(raw(r#"{"type":"object","properties":{},"additionalProperties":false}"#)),
        strict,
        cache: None,
    };
    let config = |choice: Option<ToolChoice>, strict| {
        let mut conversation = says("x");
        conversation.tools = vec![tool("f", strict), tool("my/tool", None)];
        conversation.tool_choice = choice;
        let (body, _, context) = build_for(GEMINI, "gemini-2.5-flash", false, &conversation).unwrap();
        let names: Vec<_> = body["tools"][0]["functionDeclarations"].as_array().unwrap().iter().collect();
        assert_eq!(names[0], &json!({"name": "f"}));
        let theirs = names[1]["name"].as_str().unwrap();
        assert_eq!(context.callers_tool_name(theirs), "my/tool");
        body["toolConfig"]["functionCallingConfig"].clone()
    };
    assert_eq!(config(None, None), Value::Null);
    assert_eq!(config(None, Some(true)), json!({"mode": "VALIDATED"}));
    assert_eq!(config(Some(ToolChoice::Auto), Some(false)), json!({"mode": "AUTO"}));
    assert_eq!(config(Some(ToolChoice::None), None), json!({"mode": "NONE"}));
    assert_eq!(config(Some(ToolChoice::Required), Some(true)), json!({"mode": "ANY"}));
    let theirs = config(Some(ToolChoice::Tool("my/tool".into())), None);
    assert!(theirs["allowedFunctionNames"][0].as_str().unwrap().starts_with("my_tool_"), "{theirs}");
    for (required, mode) in [(true, "ANY"), (false, "VALIDATED")] {
        let allowed = ToolChoice::Allowed { names: vec!["f".into()], required };
        assert_eq!(config(Some(allowed), None), json!({"mode": mode, "allowedFunctionNames": ["f"]}));
    }
    let broken = |tools: Vec<Tool>, choice| {
        let mut conversation = says("x");
        conversation.tools = tools;
        conversation.tool_choice = choice;
        refused(&conversation).field
    };
    assert_eq!(broken(vec![], Some(ToolChoice::Required)), "tool_choice");
    assert_eq!(broken(vec![tool("f", None)], Some(ToolChoice::Tool("g".into()))), "tool_choice");
    let nothing = ToolChoice::Allowed { names: vec![], required: true };
    assert_eq!(broken(vec![tool("f", None)], Some(nothing)), "tool_choice");
    assert_eq!(broken(vec![tool("", None)], None), "tools[0]");
    let mut odd = tool("f", None);
    odd.parameters = Some(raw("[1]"));
    assert_eq!(broken(vec![odd], None), "tools[0].parameters");
}

#[test]
fn thinking() {
    let config = |model: &str, reasoning: Reasoning| {
        let mut conversation = says("x");
        conversation.reasoning = Some(reasoning);
        build_for(GEMINI, model, false, &conversation)
            .map(|(body, ..)| body["generationConfig"]["thinkingConfig"].clone())
            .map_err(|refused| refused.field)
    };
    let effort = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let budget = |tokens| Reasoning { budget_tokens: Some(tokens), ..Reasoning::default() };
    let flash = |reasoning| config("gemini-2.5-flash", reasoning);
    assert_eq!(flash(effort(Effort::None)), Ok(json!({"thinkingBudget": 0})));
    assert_eq!(flash(effort(Effort::Minimal)), Ok(json!({"thinkingBudget": 1024})));
    assert_eq!(flash(effort(Effort::Medium)), Ok(json!({"thinkingBudget": 8192})));
    assert_eq!(flash(effort(Effort::High)), Ok(json!({"thinkingBudget": 24576})));
    assert_eq!(flash(effort(Effort::XHigh)), Err("reasoning_effort".into()));
    assert_eq!(flash(budget(2048)), Ok(json!({"thinkingBudget": 2048, "includeThoughts": true})));
    assert_eq!(flash(budget(99_999_999)), Err("thinking".into()));
    let on = Reasoning { enabled: Some(true), visible: Some(false), ..Reasoning::default() };
    assert_eq!(flash(on), Ok(json!({"thinkingBudget": -1, "includeThoughts": false})));
    let off = || Reasoning { enabled: Some(false), ..Reasoning::default() };
    assert_eq!(flash(off()), Ok(json!({"thinkingBudget": 0})));
    assert_eq!(config("gemini-2.5-pro", off()), Err("thinking".into()));
    assert_eq!(config("gemini-3-pro-preview", off()), Err("thinking".into()));
    assert_eq!(config("gemini-3-flash", effort(Effort::Minimal)), Ok(json!({"thinkingLevel": "MINIMAL"})));
    assert_eq!(config("gemini-3-pro-preview", effort(Effort::Minimal)), Ok(json!({"thinkingLevel": "LOW"})));
    assert_eq!(config("gemini-3-pro-preview", effort(Effort::Medium)), Ok(json!({"thinkingLevel": "HIGH"})));
    let shown = Reasoning { visible: Some(true), ..effort(Effort::Low) };
    assert_eq!(
        config("gemini-3-pro-preview", shown),
        Ok(json!({"thinkingLevel": "LOW", "includeThoughts": true}))
    );
    assert_eq!(config("gemini-2.0-flash", off()), Ok(Value::Null));
    assert_eq!(config("gemini-2.0-flash", Reasoning::default()), Ok(Value::Null));
    assert_eq!(config("gemini-2.0-flash", effort(Effort::Low)), Err("reasoning_effort".into()));
}

#[test]
fn forms_of_answers() {
    let schema = || Format::JsonSchema {
        name: Some("n".into()),
        description: Some("D".into()),
        schema: raw(
            r#"{"type":"object","properties":{"a":{"type":["string","null"]}},"additionalProperties":false}"#,
        ),
        strict: Some(true),
    };
    let config = |model: &str, format| {
        let mut conversation = says("x");
        conversation.format = Some(format);
        let (body, _, context) = build_for(GEMINI, model, false, &conversation).unwrap();
        (body["generationConfig"].clone(), body["toolConfig"].clone(), context.json_tool)
    };
    assert_eq!(config("gemini-2.5-flash", Format::Text).0, Value::Null);
    let mime_type = "application/json";
    assert_eq!(config("gemini-2.5-flash", Format::JsonObject).0, json!({"responseMimeType": mime_type}));
    assert_eq!(
        config("gemini-2.5-flash", schema()).0,
        json!({"responseMimeType": mime_type, "responseJsonSchema": {
            "description": "D", "type": "object", "properties": {"a": {"type": ["string", "null"]}},
            "additionalProperties": false}})
    );
    assert_eq!(
        config("gemini-2.0-flash", schema()).0,
        json!({"responseMimeType": mime_type, "responseSchema": {
            "description": "D", "type": "OBJECT", "properties": {"a": {"type": "STRING", "nullable": true}}}})
    );
    let (config, choice, tool) = config("gemini-2.5-flash-image", schema());
    assert_eq!(config, Value::Null);
    assert_eq!(
        choice["functionCallingConfig"],
        json!({"mode": "ANY", "allowedFunctionNames": ["json_answer"]})
    );
    assert_eq!(tool.as_deref(), Some("json_answer"));
}

#[test]
fn what_google_can_not_do_is_named() {
    let mut conversations: Vec<(&str, Conversation)> = Vec::new();
    let mut with = |field, change: &dyn Fn(&mut Conversation)| {
        let mut conversation = says("x");
        change(&mut conversation);
        conversations.push((field, conversation));
    };
    with("logit_bias", &|c| c.others.push(("logit_bias".into(), raw("{}"))));
    with("parallel_tool_calls", &|c| c.parallel_tool_calls = Some(false));
    with("user", &|c| c.user = Some("u".into()));
    with("temperature", &|c| c.temperature = Some(2.5));
    with("temperature", &|c| c.temperature = Some(f64::NAN));
    with("top_p", &|c| c.top_p = Some(-1.0));
    with("top_k", &|c| c.top_k = Some(u64::MAX));
    with("frequency_penalty", &|c| c.frequency_penalty = Some(3.0));
    with("presence_penalty", &|c| c.presence_penalty = Some(f64::INFINITY));
    with("seed", &|c| c.seed = Some(i64::MAX));
    with("n", &|c| c.count = Some(9));
    with("n", &|c| c.count = Some(0));
    with("stop", &|c| c.stop = vec!["x".into(); 6]);
    with("max_tokens", &|c| c.max_output_tokens = Some(u64::MAX));
    with("service_tier", &|c| c.service_tier = Some("scale".into()));
    for (field, conversation) in &conversations {
        let message = refused(conversation);
        assert_eq!(message.field, *field);
        let (_, dropped, _) = build_for(GEMINI, "gemini-2.5-flash", true, conversation).unwrap();
        assert_eq!(dropped, [*field]);
    }
    // A mark changes nothing of the answer.
    let mut marked = says("x");
    let part = Part::Text { text: "x".into(), cache: Some(CacheMark::FiveMinutes) };
    marked.turns.push(turn(Role::User, vec![part]));
    assert_eq!(build_for(GEMINI, "gemini-2.5-flash", false, &marked).unwrap().1, ["cache_control"]);
    let mut flex = says("x");
    flex.service_tier = Some("flex".into());
    assert_eq!(build_for(VERTEX, "gemini-2.5-flash", false, &flex).unwrap_err().field, "service_tier");
}

#[test]
fn options_of_the_provider_are_merged() {
    let with = |options: &[(&str, &str)]| {
        let mut conversation = says("x");
        conversation.temperature = Some(1.0);
        let own = options.iter().map(|(name, value)| ((*name).to_owned(), raw(value)));
        conversation.provider_options = own.collect();
        build_for(GEMINI, "gemini-2.5-flash", false, &conversation).map(|(body, ..)| body)
    };
    let body = with(&[
        ("safetySettings", r#"[{"category":"X","threshold":"OFF"}]"#),
        ("generationConfig", r#"{"responseModalities":["TEXT"]}"#),
        ("tools", r#"[{"googleSearch":{}}]"#),
        ("cachedContent", r#""cachedContents/1""#),
    ])
    .unwrap();
    assert_eq!(body["safetySettings"][0]["threshold"], "OFF");
    assert_eq!(body["generationConfig"], json!({"temperature": 1.0, "responseModalities": ["TEXT"]}));
    assert_eq!(body["tools"], json!([{"googleSearch": {}}]));
    for (name, value, field) in [
        ("contents", "[]", "provider_options.contents"),
        ("model", "\"other\"", "provider_options.model"),
        ("system_instruction", "{}", "provider_options.system_instruction"),
        ("generation_config", r#"{"temperature":0}"#, "provider_options.generation_config.temperature"),
        ("generationConfig", "7", "provider_options.generationConfig"),
    ] {
        assert_eq!(with(&[(name, value)]).unwrap_err().field, field);
    }
    assert_eq!(with(&[("labels", "{}"), ("labels", "{}")]).unwrap_err().field, "provider_options.labels");
}
