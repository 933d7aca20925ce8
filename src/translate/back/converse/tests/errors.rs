use super::super::error;
use super::exchanges;

fn none(_: &str) -> Option<String> {
    None
}

#[test]
fn kinds_by_header_and_body() {
    for (status, header, body, shown, kind, code, refused) in [
        (
            400,
            "ValidationException:http://x/",
            r#"{"message":"bad"}"#,
            400,
            "invalid_request_error",
            "ValidationException",
            false,
        ),
        (
            400,
            "ValidationException",
            r#"{"message":"Input is too long for requested model."}"#,
            400,
            "invalid_request_error",
            "context_length_exceeded",
            false,
        ),
        (
            400,
            "ServiceQuotaExceededException",
            r#"{"message":"q"}"#,
            400,
            "rate_limit_error",
            "ServiceQuotaExceededException",
            false,
        ),
        (
            403,
            "AccessDeniedException",
            r#"{"Message":"m"}"#,
            403,
            "permission_error",
            "AccessDeniedException",
            false,
        ),
        (403, "ExpiredTokenException", "{}", 403, "permission_error", "ExpiredTokenException", true),
        (404, "ResourceNotFoundException", "{}", 404, "not_found_error", "ResourceNotFoundException", false),
        (408, "ModelTimeoutException", "{}", 504, "server_error", "ModelTimeoutException", false),
        (424, "ModelErrorException", "{}", 502, "server_error", "ModelErrorException", false),
        (
            429,
            "",
            r#"{"__type":"com.amazon#ThrottlingException","message":"Too many tokens"}"#,
            429,
            "rate_limit_error",
            "ThrottlingException",
            false,
        ),
        (
            503,
            "ServiceUnavailableException",
            "<html>",
            503,
            "server_error",
            "ServiceUnavailableException",
            false,
        ),
        (529, "", "", 503, "server_error", "", false),
        (302, "", "", 502, "server_error", "", false),
    ] {
        let headers = |name: &str| match name {
            "x-amzn-errortype" if !header.is_empty() => Some(header.to_owned()),
            "x-amzn-requestid" => Some("r-1".to_owned()),
            _ => None,
        };
        let error = error(status, &headers, body.as_bytes());
        assert_eq!(
            (
                error.status,
                error.kind.as_str(),
                error.code.as_deref().unwrap_or_default(),
                error.credential_refused
            ),
            (shown, kind, code, refused),
            "{header} {body}"
        );
        assert_eq!(error.request_id.as_deref(), Some("r-1"));
        assert!(!error.message.is_empty() && !error.message.contains("html"));
    }
}

#[test]
fn names_of_the_operator_do_not_come_through() {
    let body = r#"{"message":"User: arn:aws:sts::123456789012:assumed-role/secret-role/me is not authorized to perform: bedrock:InvokeModel on resource: arn:aws:bedrock:us-east-1::foundation-model/x"}"#;
    let error = error(403, &none, body.as_bytes());
    assert_eq!(
        error.message,
        "User: (the account's identity) is not authorized to perform: bedrock:InvokeModel on resource: \
         arn:aws:bedrock:us-east-1::foundation-model/x"
    );
}

#[test]
fn recorded_errors() {
    let mut count = 0;
    for api in ["bedrock.converse", "bedrock.converse_stream"] {
        for (name, exchange) in exchanges(api) {
            let response = &exchange["response"];
            let status = u16::try_from(response["status"].as_u64().unwrap()).unwrap();
            if status == 200 {
                continue;
            }
            count += 1;
            let headers = |wanted: &str| response["headers"][wanted].as_str().map(str::to_owned);
            let error = error(status, &headers, response["body_text"].as_str().unwrap().as_bytes());
            assert_eq!(error.status, status, "{name}");
            assert_eq!(error.request_id, headers("x-amzn-requestid"), "{name}");
            assert_eq!(error.credential_refused, name.contains("e403"), "{name}");
            assert_eq!(
                error.code.as_deref() == Some("context_length_exceeded"),
                name.contains("context_l"),
                "{name}"
            );
        }
    }
    assert!(count == 0 || count >= 4, "{count}");
}

#[test]
fn hostile_bodies() {
    let long = format!("{{\"message\":\"{}\"}}", "é".repeat(100_000));
    assert!(error(400, &none, long.as_bytes()).message.chars().count() <= 4_096);
    for body in [&b"\xff\xfe"[..], b"[[[[", b"{\"message\":1}", b"{\"message\":\" \"}", b"null"] {
        let error = error(500, &|_| Some("x".repeat(10_000)), body);
        assert_eq!((error.status, error.kind.as_str()), (500, "server_error"));
        assert!(error.code.unwrap().len() <= 128 && error.request_id.unwrap().len() <= 128);
        assert!(error.message.contains("no message"));
    }
}
