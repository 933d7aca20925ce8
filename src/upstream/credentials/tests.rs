//! Header lines from stored credentials, and what the environment says about issuers. Also what other tests here use.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::issuer::Machine;
use super::*;
use crate::domain::{AccountSettings, Endpoint, ProviderAccount};
use crate::id::AccountName;

/// A file of vectors. They are not part of the repository; when they are not there that is said loudly.
pub fn vectors(file: &str) -> Option<Value> {
    let folder = std::env::var_os("GATEWAY_TEST_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/wire/vectors"),
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(folder.join(file)) else {
        use std::io::Write as _;
        // Past the capture of the test runner.
        let _ = writeln!(
            std::io::stderr().lock(),
            "not run: no {file} (set GATEWAY_TEST_VECTORS to the vectors' folder)"
        );
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

/// A key file with the throwaway key of the vectors.
pub fn service_account_file(token_uri: &str) -> Option<String> {
    let vector = vectors("oauth/service_account_jwt.json")?;
    let key = vector["private_key_pkcs8_der_base64"].as_str().unwrap();
    let file = json!({
        "type": "service_account",
        "project_id": "example-project",
        "private_key_id": vector["kid"],
        "private_key": format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"),
        "client_email": "gateway-test@example-project.iam.gserviceaccount.com",
        "token_uri": token_uri,
    });
    Some(file.to_string())
}

pub fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

pub fn account(revision: u64, provider: ProviderType, credential: Option<Credential>) -> Arc<Account> {
    let spec = ProviderAccount {
        name: AccountName::parse("main").unwrap(),
        provider,
        base_url: "https://provider.invalid/v1".into(),
        destination_by_admin: true,
        sealed_api_key: None,
        headers: BTreeMap::new(),
        ca_certificates: None,
        models: BTreeMap::new(),
        settings: AccountSettings { region: Some("eu-west-1".into()), ..AccountSettings::default() },
        manifest: None,
        created_at: UnixMillis(0),
        updated_at: UnixMillis(0),
        created_by: String::new(),
    };
    Arc::new(Account {
        endpoint: Endpoint::parse(&spec.base_url).unwrap(),
        pool_key: "main".into(),
        spec,
        revision,
        credential,
        client_key: None,
        overlays: BTreeMap::new(),
    })
}

pub fn signable<'a>() -> Signable<'a> {
    Signable {
        method: "POST",
        path: "/model/a%3A0/converse",
        query: "",
        authority: "bedrock-runtime.us-east-1.amazonaws.com",
        content_type: Some("application/json"),
        body: &[b"{}"],
        region: Some("us-east-1"),
    }
}

fn shown(lines: &[AuthHeader]) -> Vec<String> {
    lines.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect()
}

#[test]
fn keys_go_into_the_header_of_their_type() {
    for (provider, line) in [
        (ProviderType::Openai, "authorization: Bearer k-1"),
        (ProviderType::Groq, "authorization: Bearer k-1"),
        (ProviderType::AwsBedrock, "authorization: Bearer k-1"),
        (ProviderType::AzureOpenai, "api-key: k-1"),
        (ProviderType::Anthropic, "x-api-key: k-1"),
        (ProviderType::GoogleGemini, "x-goog-api-key: k-1"),
        (ProviderType::GoogleVertex, "x-goog-api-key: k-1"),
    ] {
        assert_eq!(shown(&[KeyHeader::of(provider).line(&secret("k-1"))]), [line]);
    }
}

#[test]
fn basic_is_that_of_the_rfc() {
    // The two examples of RFC 7617.
    let line = |user: &str, password: &str| basic(user, &secret(password)).map(|line| shown(&[line]));
    assert_eq!(
        line("Aladdin", "open sesame").unwrap(),
        ["authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]
    );
    assert_eq!(line("test", "123\u{a3}").unwrap(), ["authorization: Basic dGVzdDoxMjPCow=="]);
    assert_eq!(line("", "a:b").unwrap(), ["authorization: Basic OmE6Yg=="]);
    assert!(line("a:b", "c").is_err());
}

#[test]
fn lines_that_would_break_a_head() {
    for (name, value, good) in [
        ("x-key", "v", true),
        ("x-key", "a b\tc", true),
        ("x-key", "\u{e4}", true),
        ("x-key", "", true),
        ("x-key", "a\r\nb: c", false),
        ("x-key", "a\nb", false),
        ("x-key", "a\0", false),
        ("x-key", "\x7f", false),
        ("", "v", false),
        ("X-Key", "v", false),
        ("x key", "v", false),
        ("x:y", "v", false),
        ("x-key", &"v".repeat(MAX_HEADER_VALUE_BYTES + 1), false),
    ] {
        assert_eq!(is_header(name, &secret(value)), good, "{name:?} {value:.20?}");
    }
}

#[test]
fn the_service_is_that_of_the_host() {
    let key = AwsAccessKey {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: secret("s"),
        session_token: Some(secret("t")),
    };
    for (authority, service) in [
        ("bedrock-runtime.us-east-1.amazonaws.com", "bedrock"),
        ("bedrock-mantle.us-east-1.api.aws", "bedrock-mantle"),
        ("vpce-1.bedrock-mantle.us-east-1.vpce.amazonaws.com", "bedrock-mantle"),
        ("127.0.0.1:8080", "bedrock"),
    ] {
        let lines = signed(&key, &Signable { authority, ..signable() }).unwrap();
        let (_, authorization) = lines.iter().find(|(name, _)| name == "authorization").unwrap();
        let scope = format!(
            "/us-east-1/{service}/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token,"
        );
        assert!(authorization.expose().contains(&scope), "{}", authorization.expose());
    }
    assert_eq!(
        signed(&key, &Signable { region: None, ..signable() }).unwrap_err(),
        CredentialError::NoRegion
    );
}

fn issuers(machine_allowed: bool, variables: &[(&str, &str)]) -> Result<Issuers, String> {
    Issuers::from_variables(machine_allowed, |name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn issuers_of_the_public_clouds_are_the_default() {
    let plain = issuers(false, &[("AZURE_AUTHORITY_HOST", "")]).unwrap();
    assert_eq!(plain.entra.authority, "login.microsoftonline.com");
    assert!(plain.entra.https && plain.sts.is_none() && plain.machine.is_none());
    let sovereign = issuers(false, &[("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.us/")]).unwrap();
    assert_eq!(
        (sovereign.entra.host.as_str(), sovereign.entra.path.as_str()),
        ("login.microsoftonline.us", "")
    );
    for name in ["AZURE_AUTHORITY_HOST", "AWS_ENDPOINT_URL_STS"] {
        assert!(issuers(false, &[(name, "http://127.0.0.1:9")]).is_ok());
        for bad in
            ["http://login.example.com", "login.example.com", "https://u:p@h", "http://169.254.169.254"]
        {
            let error = issuers(false, &[(name, bad)]).unwrap_err();
            assert!(error.starts_with(name) && !error.contains("u:p"), "{error}");
        }
    }
}

#[test]
fn where_the_machines_keys_come_from() {
    let kind =
        |variables: &[(&str, &str)]| match issuers(true, variables).map(|issuers| issuers.machine.unwrap()) {
            Ok(Machine::Instance(endpoint)) => format!("instance {}", endpoint.authority),
            Ok(Machine::Nothing) => "nothing".to_owned(),
            Ok(Machine::Container { endpoint, path, .. }) => {
                format!("container {} {}{path}", endpoint.https, endpoint.authority)
            }
            Err(_) => "error".to_owned(),
        };
    const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
    const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
    for (name, value, wanted) in [
        ("HOME", "/root", "instance 169.254.169.254"),
        ("AWS_EC2_METADATA_DISABLED", "TRUE", "nothing"),
        ("AWS_EC2_METADATA_DISABLED", "false", "instance 169.254.169.254"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9", "instance 127.0.0.1:9"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "nonsense", "error"),
        (RELATIVE, "/v2/credentials/1?a=b", "container false 169.254.170.2/v2/credentials/1?a=b"),
        (RELATIVE, "v2", "error"),
        (RELATIVE, "/a b", "error"),
        (RELATIVE, "/a\r\nx: y", "error"),
        (FULL, "http://169.254.170.23/v1/credentials", "container false 169.254.170.23/v1/credentials"),
        (FULL, "http://[fd00:ec2::23]/v1/credentials", "container false [fd00:ec2::23]/v1/credentials"),
        (FULL, "http://localhost:1234/x/", "container false localhost:1234/x/"),
        (FULL, "http://127.0.0.2", "container false 127.0.0.2/"),
        (FULL, "https://example.com/c?d=e", "container true example.com/c?d=e"),
        (FULL, "https://example.com?d=e", "container true example.com/?d=e"),
        (FULL, "http://example.com/c", "error"),
        (FULL, "http://169.254.169.254/c", "error"),
        (FULL, "http://127.0.0.1@example.com/c", "error"),
        (FULL, "http://127.0.0.1.example.com/c", "error"),
        (FULL, "/c", "error"),
        (FULL, "ftp://localhost/c", "error"),
    ] {
        assert_eq!(kind(&[(name, value)]), wanted, "{name}={value}");
    }
    assert!(kind(&[(RELATIVE, "/r"), (FULL, "http://localhost/f")]).ends_with("/r"));
}

#[test]
fn a_container_needs_its_variables_only_where_it_is_allowed() {
    let bad = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/")];
    assert!(issuers(false, &bad).is_ok_and(|issuers| issuers.machine.is_none()));
    let token = [
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/r"),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "the-secret"),
    ];
    let printed = format!("{:?}", issuers(true, &token).unwrap());
    assert!(printed.contains("***") && !printed.contains("the-secret"), "{printed}");
}

#[test]
fn every_error_names_the_account_and_is_a_502() {
    use crate::net::Interruption;
    use crate::upstream::UpstreamError;
    use issuer::Issuer;
    let all = [Issuer::Entra, Issuer::Google, Issuer::Sts, Issuer::InstanceMetadata, Issuer::Container];
    let mut errors = vec![
        CredentialError::Unusable("it is empty"),
        CredentialError::MachineNotAllowed,
        CredentialError::NoRegion,
    ];
    for issuer in all {
        errors.push(CredentialError::Unreadable(issuer));
        errors.push(CredentialError::Refused { issuer, status: 401, code: Some("invalid_client") });
        for error in [
            UpstreamError::Unreachable,
            UpstreamError::Forbidden,
            UpstreamError::Invalid,
            UpstreamError::Broken,
            UpstreamError::Interrupted(Interruption::Deadline),
        ] {
            errors.push(CredentialError::Exchange(issuer, error));
        }
    }
    for error in errors {
        let failure = error.failure("main").unwrap();
        assert_eq!(failure.status(), 502);
        assert!(failure.message().contains("'main'") && error.interruption().is_none(), "{error:?}");
    }
    let gone = UpstreamError::Interrupted(Interruption::CallerGone);
    assert!(CredentialError::Interrupted(gone).failure("main").is_none());
    assert_eq!(CredentialError::Interrupted(gone).interruption(), Some(gone));
    assert_eq!(CredentialError::Busy.failure("main").unwrap().status(), 503);
}

#[test]
fn dates_of_answers() {
    let date = |line: &str| {
        let head = ResponseHead::parse(format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n").as_bytes()).unwrap();
        issuer::date(&head.headers)
    };
    assert_eq!(date("date: Sun, 06 Nov 1994 08:49:37 GMT"), Some(UnixMillis(784_111_777_000)));
    for bad in
        ["x: y", "date: ", "date: soon", "date: 1994-11-06T08:49:37Z", "date: Sun, 06 Nov 1894 08:49:37 GMT"]
    {
        assert_eq!(date(bad), None, "{bad}");
    }
}
