use serde_json::{Value, json};

use super::super::build;
use super::requests::*;
use crate::translate::Target;
use crate::translate::capability::{self, Capability};
use crate::translate::conversation::*;

#[test]
fn sampling_by_what_the_model_takes() {
    let asks = |temperature, top_p, top_k| Conversation { temperature, top_p, top_k, ..hello() };
    for (model, conversation, field, config) in [
        (CLAUDE_3, asks(Some(1.5), None, None), "temperature", json!({"temperature": 1.0})),
        (CLAUDE, asks(Some(0.1), Some(0.5), None), "top_p", json!({"temperature": 0.1})),
        (CLAUDE_NEW, asks(Some(0.1), None, None), "temperature", Value::Null),
        (CLAUDE_NEW, asks(None, Some(0.1), None), "top_p", Value::Null),
        (CLAUDE_NEW, asks(None, None, Some(5)), "top_k", Value::Null),
        (LLAMA, asks(None, None, Some(5)), "top_k", Value::Null),
        (GPT_OSS, asks(None, None, Some(5)), "top_k", Value::Null),
    ] {
        assert_eq!(refused(model, &conversation).field, field);
        let (names, value) = dropped(model, &conversation);
        assert_eq!((names, &value["inferenceConfig"]), (vec![field.to_owned()], &config));
    }
    assert_eq!(body(CLAUDE_NEW, &asks(Some(1.0), Some(1.0), None)), body(CLAUDE_NEW, &hello()));
    let value = body(CLAUDE_3, &asks(Some(0.0), Some(0.5), Some(5)));
    assert_eq!(value["inferenceConfig"], json!({"temperature": 0.0, "topP": 0.5}));
    assert_eq!(value["additionalModelRequestFields"], json!({"top_k": 5}));
    let value = body(NOVA, &asks(None, None, Some(5)));
    assert_eq!(value["additionalModelRequestFields"], json!({"inferenceConfig": {"topK": 5}}));
    let value = body("cohere.command-r-plus-v1:0", &asks(None, None, Some(5)));
    assert_eq!(value["additionalModelRequestFields"], json!({"k": 5}));
}

#[test]
fn thinking_by_what_the_model_takes() {
    let thinks = |effort, budget_tokens, enabled| Conversation {
        reasoning: Some(Reasoning { effort, budget_tokens, enabled, visible: None }),
        ..hello()
    };
    let additional = |model: &str, conversation: &Conversation| {
        body(model, conversation)["additionalModelRequestFields"].clone()
    };
    for (model, conversation, expected) in [
        (
            CLAUDE,
            thinks(Some(Effort::Low), None, None),
            json!({"thinking": {"type": "enabled", "budget_tokens": 4096}}),
        ),
        (
            CLAUDE,
            thinks(None, Some(2000), None),
            json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ),
        (
            CLAUDE,
            thinks(None, None, Some(true)),
            json!({"thinking": {"type": "enabled", "budget_tokens": 8192}}),
        ),
        (CLAUDE, thinks(Some(Effort::None), None, None), Value::Null),
        (CLAUDE, thinks(None, Some(2000), Some(false)), Value::Null),
        (CLAUDE, thinks(None, None, None), Value::Null),
        (
            CLAUDE_NEW,
            thinks(Some(Effort::High), None, None),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}),
        ),
        (
            CLAUDE_NEW,
            thinks(None, Some(2000), None),
            json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}}),
        ),
        (CLAUDE_NEW, thinks(None, None, Some(true)), json!({"thinking": {"type": "adaptive"}})),
        (
            NOVA,
            thinks(Some(Effort::XHigh), None, None),
            json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}}),
        ),
        (GPT_OSS, thinks(Some(Effort::Medium), None, None), json!({"reasoning_effort": "medium"})),
        (LLAMA, thinks(Some(Effort::None), None, None), Value::Null),
    ] {
        assert_eq!(additional(model, &conversation), expected, "{model} {:?}", conversation.reasoning);
    }
    assert_eq!(
        body(CLAUDE, &thinks(Some(Effort::Low), None, None))["inferenceConfig"],
        json!({"maxTokens": 64000})
    );
    assert_eq!(refused(LLAMA, &thinks(Some(Effort::Low), None, None)).field, "reasoning_effort");
    assert_eq!(refused(GPT_OSS, &thinks(Some(Effort::None), None, None)).field, "reasoning_effort");
    assert_eq!(refused(CLAUDE, &thinks(None, Some(100), None)).field, "thinking.budget_tokens");
    let small = Conversation { max_output_tokens: Some(2000), ..thinks(None, Some(2000), None) };
    assert_eq!(refused(CLAUDE, &small).field, "thinking.budget_tokens");
    let small = Conversation { max_output_tokens: Some(1000), ..thinks(Some(Effort::Low), None, None) };
    assert_eq!(built(CLAUDE, &small).dropped, ["reasoning_effort"]);
    let forced = Conversation {
        tools: vec![tool("a")],
        tool_choice: Some(ToolChoice::Required),
        ..thinks(Some(Effort::Low), None, None)
    };
    assert_eq!(refused(CLAUDE, &forced).field, "reasoning_effort");
    let warm = Conversation { temperature: Some(0.5), ..thinks(Some(Effort::Low), None, None) };
    assert_eq!(refused(CLAUDE, &warm).field, "temperature");
    // A tool loop whose thoughts did not come back goes on without.
    let mut going_on = thinks(Some(Effort::Low), None, None);
    going_on.turns.push(turn(Role::Assistant, vec![call("1", "a", "")]));
    going_on.turns.push(turn(Role::User, vec![result("1", vec![])]));
    assert_eq!(built(CLAUDE, &going_on).dropped, ["reasoning_effort"]);
    going_on.turns[1].parts.insert(0, thought("", Some("c2ln")));
    assert!(built(CLAUDE, &going_on).dropped.is_empty());
    let mut new_question = thinks(Some(Effort::Low), None, None);
    new_question.turns.push(turn(Role::Assistant, vec![call("1", "a", "")]));
    new_question.turns.push(turn(Role::User, vec![text("never mind")]));
    assert!(built(CLAUDE, &new_question).dropped.is_empty());
}

#[test]
fn answers_in_json() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "number"}}});
    let by_schema = |tools: Vec<Tool>| Conversation {
        tools,
        format: Some(Format::JsonSchema {
            name: Some("n".to_owned()),
            description: None,
            schema: raw(schema.clone()),
            strict: Some(true),
        }),
        ..hello()
    };
    assert_eq!(
        body(CLAUDE, &by_schema(vec![]))["outputConfig"],
        json!({"textFormat": {"type": "json_schema", "structure": {"jsonSchema": {"name": "n", "schema": schema.to_string()}}}})
    );
    let json_tool = json!({"toolSpec": {"name": "json_answer", "description": "The answer.", "inputSchema": {"json": schema}}});
    let forced = built(CLAUDE_3, &by_schema(vec![]));
    let value: Value = serde_json::from_slice(&forced.body).unwrap();
    assert_eq!(
        value["toolConfig"],
        json!({"tools": [json_tool], "toolChoice": {"tool": {"name": "json_answer"}}})
    );
    assert_eq!(forced.context.json_tool.as_deref(), Some("json_answer"));
    let beside = built(CLAUDE_3, &by_schema(vec![tool("json_answer")]));
    let value: Value = serde_json::from_slice(&beside.body).unwrap();
    assert_eq!(value["toolConfig"]["toolChoice"], json!({"any": {}}));
    assert_eq!(beside.context.json_tool.as_deref(), Some("json_answer_"));
    let called = Conversation { tool_choice: Some(ToolChoice::Required), ..by_schema(vec![tool("a")]) };
    assert_eq!(built(CLAUDE_3, &called).context.json_tool, None);
    assert_eq!(refused(LLAMA, &by_schema(vec![])).field, "response_format");
    assert_eq!(dropped(LLAMA, &by_schema(vec![])).0, ["response_format"]);
    let some = Conversation { format: Some(Format::JsonObject), ..hello() };
    assert_eq!(body(LLAMA, &some)["system"].as_array().unwrap().len(), 1);
}

#[test]
fn what_has_no_equal_is_refused_by_name() {
    let others = || vec![("logit_bias".to_owned(), raw(json!({})))];
    for (field, conversation) in [
        ("n", Conversation { count: Some(2), ..hello() }),
        ("seed", Conversation { seed: Some(0), ..hello() }),
        ("logprobs", Conversation { logprobs: Some(true), ..hello() }),
        ("top_logprobs", Conversation { top_logprobs: Some(1), ..hello() }),
        ("frequency_penalty", Conversation { frequency_penalty: Some(0.1), ..hello() }),
        ("presence_penalty", Conversation { presence_penalty: Some(-0.1), ..hello() }),
        ("user", Conversation { user: Some("é".to_owned()), ..hello() }),
        ("service_tier", Conversation { service_tier: Some("scale".to_owned()), ..hello() }),
        ("logit_bias", Conversation { others: others(), ..hello() }),
    ] {
        assert_eq!(refused(CLAUDE, &conversation).field, field);
        let (names, value) = dropped(CLAUDE, &conversation);
        assert_eq!((names, value), (vec![field.to_owned()], body(CLAUDE, &hello())));
    }
    let harmless = Conversation {
        count: Some(1),
        logprobs: Some(false),
        frequency_penalty: Some(0.0),
        parallel_tool_calls: Some(false),
        service_tier: Some("auto".to_owned()),
        format: Some(Format::Text),
        ..hello()
    };
    assert_eq!(body(CLAUDE, &harmless), body(CLAUDE, &hello()));
    let value = body(
        CLAUDE,
        &Conversation { user: Some("u-1".to_owned()), service_tier: Some("flex".to_owned()), ..hello() },
    );
    assert_eq!(
        (&value["requestMetadata"], &value["serviceTier"]),
        (&json!({"user": "u-1"}), &json!({"type": "flex"}))
    );
    assert_eq!(
        refused(CLAUDE, &Conversation { max_output_tokens: Some(0), ..hello() }).field,
        "max_completion_tokens"
    );
}

#[test]
fn provider_options_are_merged_and_take_nothing_over() {
    let options = |options: Vec<(&str, Value)>| Conversation {
        provider_options: options.into_iter().map(|(name, value)| (name.to_owned(), raw(value))).collect(),
        top_k: Some(5),
        max_output_tokens: Some(10),
        ..hello()
    };
    let value = body(
        CLAUDE,
        &options(vec![
            ("guardrailConfig", json!({"guardrailIdentifier": "g"})),
            ("additionalModelRequestFields", json!({"anthropic_beta": ["x"]})),
            ("inferenceConfig", json!({"topP": 0.5})),
            ("requestMetadata", json!({"team": "t"})),
        ]),
    );
    assert_eq!(value["guardrailConfig"], json!({"guardrailIdentifier": "g"}));
    assert_eq!(value["additionalModelRequestFields"], json!({"top_k": 5, "anthropic_beta": ["x"]}));
    assert_eq!(value["inferenceConfig"], json!({"maxTokens": 10, "topP": 0.5}));
    assert_eq!(value["requestMetadata"], json!({"team": "t"}));
    let many: Value =
        (0..100).map(|number| (number.to_string(), json!(1))).collect::<serde_json::Map<_, _>>().into();
    for (name, given, field) in [
        ("messages", json!([]), "provider_options.messages"),
        ("inferenceConfig", json!({"maxTokens": 1}), "provider_options.inferenceConfig.maxTokens"),
        (
            "additionalModelRequestFields",
            json!({"top_k": 1}),
            "provider_options.additionalModelRequestFields.top_k",
        ),
        ("additionalModelRequestFields", json!([]), "provider_options.additionalModelRequestFields"),
        ("additionalModelRequestFields", many, "provider_options.additionalModelRequestFields"),
    ] {
        assert_eq!(refused(CLAUDE, &options(vec![(name, given)])).field, field);
    }
    let twice = options(vec![("x", json!(1)), ("x", json!(2))]);
    assert_eq!(refused(CLAUDE, &twice).field, "provider_options.x");
    let many = options(vec![("x", json!(1)); 65]);
    assert_eq!(refused(CLAUDE, &many).field, "provider_options");
}

/// Whatever is asked, the body is JSON with the members that have to be there, or there is a refusal.
#[test]
fn any_conversation_is_written_or_refused() {
    let mut state = 1_u64;
    let mut next = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let texts = ["", " ", "a", "\u{0}\"\\", "☃", "{}", "AAAA"];
    let models = [CLAUDE, CLAUDE_3, CLAUDE_NEW, NOVA, LLAMA, GPT_OSS];
    let mut written = 0;
    for round in 0..3000 {
        let mut turns = vec![turn(Role::User, vec![text("a")])];
        for _ in 0..next(5) {
            let role = [Role::System, Role::User, Role::Assistant][next(3) as usize];
            let mut parts = Vec::new();
            for _ in 0..next(4) {
                let word = texts[next(7) as usize];
                parts.push(match next(9) {
                    0 => image("image/png", word),
                    1 => document("text/plain", word, Some(word)),
                    2 => call(word, word, word),
                    3 => result(word, vec![text(word)]),
                    4 => thought(word, Some(word)),
                    5 => Part::RedactedThinking { data: word.to_owned() },
                    _ => Part::Text {
                        text: word.to_owned(),
                        cache: (next(2) == 0).then_some(CacheMark::OneHour),
                    },
                });
            }
            turns.push(turn(role, parts));
        }
        let conversation = Conversation {
            tools: (0..next(3)).map(|number| tool(texts[(number + next(3)) as usize])).collect(),
            tool_choice: [None, Some(ToolChoice::None), Some(ToolChoice::Required)][next(3) as usize].clone(),
            temperature: [None, Some(0.5), Some(f64::MAX)][next(3) as usize],
            max_output_tokens: [None, Some(1), Some(u64::MAX)][next(3) as usize],
            reasoning: (next(2) == 0).then(|| Reasoning {
                effort: Some(Effort::High),
                budget_tokens: [None, Some(0), Some(u64::MAX)][next(3) as usize],
                ..Reasoning::default()
            }),
            ..saying(turns)
        };
        let target = target(models[next(6) as usize], next(4) > 0);
        if let Ok(built) = build(&conversation, &target) {
            let value: Value = serde_json::from_slice(&built.body).unwrap();
            assert!(!value["messages"].as_array().unwrap().is_empty(), "{round}");
            written += 1;
        }
    }
    assert!(written > 300, "{written} of them");
}

#[test]
fn a_family_that_the_configuration_names_decides() {
    let arn = "arn:aws:bedrock:eu-west-1:123456789012:application-inference-profile/abc";
    let named: &Capability = capability::of("converse", arn, Some("claude-4.5"));
    let conversation = Conversation { top_k: Some(5), ..hello() };
    let target =
        Target { provider: "aws-bedrock", model_id: arn, capability: named, drop_unsupported: false };
    let value: Value = serde_json::from_slice(&build(&conversation, &target).unwrap().body).unwrap();
    assert_eq!(value["additionalModelRequestFields"], json!({"top_k": 5}));
    assert_eq!(refused(arn, &conversation).field, "top_k");
}
