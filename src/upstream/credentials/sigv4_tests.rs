//! AWS's own suite, what botocore signs, and cases of our own.

use serde_json::Value;

use super::*;
use crate::upstream::credentials::tests::vectors;

fn key(id: &str, secret: &str, token: Option<&str>) -> AwsAccessKey {
    AwsAccessKey {
        access_key_id: id.to_owned(),
        secret_access_key: Secret::new(secret.to_owned()),
        session_token: token.map(|token| Secret::new(token.to_owned())),
    }
}

/// Reads a raw request of the suite: its head's lines may be folded, and its body follows an empty line.
fn raw(text: &str) -> (String, String, Vec<(String, String)>, String) {
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut lines = head.lines();
    let (method, rest) = lines.next().unwrap().split_once(' ').unwrap();
    let target = rest.strip_suffix(" HTTP/1.1").unwrap();
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with(' ') {
            let last = headers.last_mut().unwrap();
            last.1.push_str(line);
        } else {
            let (name, value) = line.split_once(':').unwrap();
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    (method.to_owned(), target.to_owned(), headers, body.to_owned())
}

#[test]
fn the_suite_of_aws() {
    let Some(suite) = vectors("sigv4/aws_signing_suite.json") else { return };
    let cases = suite["cases"].as_array().unwrap();
    assert!(cases.len() > 20);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let context = &case["context"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let credentials = &context["credentials"];
        let key = key(
            credentials["access_key_id"].as_str().unwrap(),
            credentials["secret_access_key"].as_str().unwrap(),
            credentials["token"].as_str(),
        );
        let time = UnixMillis::parse(context["timestamp"].as_str().unwrap()).unwrap();
        let (region, service) = (text(&context["region"]), text(&context["service"]));
        let signer = Signer { key: &key, region: &region, service: &service, time };
        let (method, target, headers, body) = raw(case["request"].as_str().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let stamp = basic_time(time);
        let body_hash = hex(&hash(&[body.as_bytes()]));
        let mut headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        headers.push(("x-amz-date", &stamp));
        if context["sign_body"] == true {
            headers.push(("x-amz-content-sha256", &body_hash));
        }
        if context["omit_session_token"] != true
            && let Some(token) = &key.session_token
        {
            headers.push(("x-amz-security-token", token.expose()));
        }
        let request = Request { method: &method, path, query, headers: &headers, body: &[body.as_bytes()] };
        let (canonical, _) = canonical_request(&request, &body_hash, context["normalize"] == true);
        assert_eq!(canonical, text(&case["header_canonical_request"]), "{name}");
        let to_sign = string_to_sign(&stamp, &scope(&signer, &stamp), &canonical);
        assert_eq!(to_sign, text(&case["header_string_to_sign"]), "{name}");
        assert_eq!(signature(&signer, &stamp, &to_sign), text(&case["header_signature"]), "{name}");
    }
}

#[test]
fn what_botocore_signs() {
    let Some(oracle) = vectors("sigv4/bedrock_botocore_oracle.json") else { return };
    let cases = oracle["cases"].as_array().unwrap();
    assert!(cases.len() > 5);
    for case in cases {
        let text = |field: &str| case[field].as_str().unwrap();
        let stamp = text("timestamp");
        let iso = format!(
            "{}-{}-{}T{}:{}:{}Z",
            &stamp[..4],
            &stamp[4..6],
            &stamp[6..8],
            &stamp[9..11],
            &stamp[11..13],
            &stamp[13..15]
        );
        let key = key(text("access_key_id"), text("secret_access_key"), case["session_token"].as_str());
        let signer = Signer {
            key: &key,
            region: text("region"),
            service: text("service"),
            time: UnixMillis::parse(&iso).unwrap(),
        };
        let mut headers = vec![("host", text("host"))];
        let more = case["headers_before_signing"].as_object().unwrap();
        headers.extend(more.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())));
        // In pieces of every kind.
        let body = text("body").as_bytes();
        let (first, second) = body.split_at(body.len() / 3);
        let request = Request {
            method: text("method"),
            path: text("path_on_wire"),
            query: text("query"),
            headers: &headers,
            body: &[first, b"", second],
        };
        let added = sign(&signer, &request);
        let value =
            |name: &str| added.iter().find(|(n, _)| *n == name).map(|(_, value)| value.expose().to_owned());
        assert_eq!(value("authorization").unwrap(), text("authorization"), "{}", text("name"));
        assert_eq!(value("x-amz-date").unwrap(), text("x_amz_date"));
        assert_eq!(value("x-amz-security-token").as_deref(), case["session_token"].as_str());
    }
}

#[test]
fn times_and_paths_and_queries() {
    assert_eq!(basic_time(UnixMillis(0)), "19700101T000000Z");
    assert_eq!(basic_time(UnixMillis(1_440_938_160_999)), "20150830T123600Z");
    assert_eq!(basic_time(UnixMillis(u64::MAX)), "99991231T235959Z");
    for (path, wanted) in [
        ("", "/"),
        ("/", "/"),
        ("/a//b/./c/../d", "/a/b/d"),
        ("/a/..", "/"),
        ("/../../a/", "/a/"),
        ("/a/.", "/a"),
        ("/a/b/..", "/a"),
    ] {
        assert_eq!(without_dots(path), wanted, "{path}");
    }
    for (query, wanted) in [
        ("", ""),
        ("&&", ""),
        ("b=2&a=1&a=0", "a=0&a=1&b=2"),
        ("a", "a="),
        ("a=b=c", "a=b%3Dc"),
        ("a=%2f%2F%zz%4", "a=%2F%2F%25zz%254"),
        ("a=x+y z", "a=x%2By%20z"),
    ] {
        assert_eq!(canonical_query(query), wanted, "{query}");
    }
}

#[test]
fn a_token_is_always_signed_and_nothing_prints() {
    let key = key("AKIDEXAMPLE", "the-secret", Some("the-token"));
    let signer = Signer { key: &key, region: "eu-west-1", service: "bedrock", time: UnixMillis(0) };
    let request = Request { method: "POST", path: "/", query: "", headers: &[("host", "h")], body: &[b"{}"] };
    let added = sign(&signer, &request);
    let authorization = added[0].1.expose();
    assert!(authorization.contains("SignedHeaders=host;x-amz-date;x-amz-security-token,"), "{authorization}");
    assert!(!authorization.contains("the-secret"));
    let printed = format!("{signer:?} {added:?}");
    assert!(!printed.contains("the-") && !printed.contains("Signature="), "{printed}");
}
