//! Tokens over real sockets: each issuer is a thread that answers by a script.
#![allow(clippy::disallowed_methods, reason = "these threads are no workers")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, Once};
use std::time::Duration;

use super::tests::{account, secret, service_account_file, signable};
use super::*;
use crate::clock::monotonic_ms;
use crate::config;
use crate::net::{Registration, Watcher};
use crate::upstream::{EgressPolicy, UpstreamError};

const PATIENCE: Duration = Duration::from_secs(20);

/// An issuer: what it was asked comes out of `asked`; what it answers is the script's, which may wait.
struct Server {
    addr: SocketAddr,
    asked: Receiver<String>,
}

impl Server {
    fn start(script: impl Fn(usize, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, asked) = channel();
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                if serve(stream, number, &script, &sender).is_none() {
                    return;
                }
            }
        });
        Self { addr, asked }
    }

    fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    fn next(&self) -> String {
        self.asked.recv_timeout(PATIENCE).unwrap()
    }

    fn count(&self) -> usize {
        self.asked.try_iter().count()
    }
}

/// `None` when the test is over.
fn serve(
    mut stream: TcpStream,
    number: usize,
    script: &impl Fn(usize, &str) -> String,
    asked: &Sender<String>,
) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                asked.send(text.clone()).ok()?;
                let _ = stream.write_all(script(number, &text).as_bytes());
                return Some(());
            }
        }
        match stream.read(&mut piece) {
            Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
            _ => return Some(()),
        }
    }
}

fn ok(body: &str) -> String {
    answer(200, body)
}

fn answer(status: u16, body: &str) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn runtime() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        may::config().set_workers(2).set_stack_size(16 * 1024).set_pool_capacity(4).set_worker_pin(false);
    });
}

/// A gateway's sockets, and the connection of one caller after another.
struct House {
    upstreams: Arc<Upstreams>,
    watcher: Arc<Watcher>,
    callers: TcpListener,
}

struct Call {
    caller: TcpStream,
    result: Receiver<Result<Vec<String>, CredentialError>>,
}

impl Call {
    fn result(&self) -> Result<Vec<String>, CredentialError> {
        self.result.recv_timeout(PATIENCE).unwrap()
    }
}

impl House {
    fn new(machine: bool, variables: &[(&str, String)]) -> Self {
        Self::with_egress(machine, variables, None)
    }

    fn with_egress(machine: bool, variables: &[(&str, String)], allow: Option<&[String]>) -> Self {
        runtime();
        let issuers = Issuers::from_variables(machine, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        });
        let limits = config::Config::default().relay;
        let upstreams = Upstreams::new(2, limits, EgressPolicy::new(allow)).unwrap();
        Self {
            upstreams: Arc::new(upstreams.with_issuers(issuers.unwrap())),
            watcher: Watcher::start().unwrap(),
            callers: TcpListener::bind("127.0.0.1:0").unwrap(),
        }
    }

    fn entra(issuer: &Server) -> Self {
        Self::new(false, &[("AZURE_AUTHORITY_HOST", issuer.url())])
    }

    /// Starts a call that wants its headers within this time.
    fn call_within(&self, account: &Arc<Account>, limit_ms: u64) -> Call {
        let caller = TcpStream::connect(self.callers.local_addr().unwrap()).unwrap();
        let (ours, _) = self.callers.accept().unwrap();
        let registration: Registration = self.watcher.register(&ours).unwrap();
        let (sender, result) = channel();
        let (upstreams, account) = (Arc::clone(&self.upstreams), Arc::clone(account));
        let _ = may::go!(move || {
            let wait =
                Wait { watch: registration.watch(), worker: 0, deadline_ms: monotonic_ms() + limit_ms };
            let lines = upstreams.authorize(&account, &signable(), &wait).map(|lines| {
                lines.iter().map(|(name, value)| format!("{name}: {}", value.expose())).collect()
            });
            let _ = sender.send(lines);
            drop((registration, ours));
        });
        Call { caller, result }
    }

    fn call(&self, account: &Arc<Account>) -> Call {
        self.call_within(account, 60_000)
    }

    fn authorize(&self, account: &Arc<Account>) -> Result<Vec<String>, CredentialError> {
        self.call(account).result()
    }
}

fn entra(revision: u64) -> Arc<Account> {
    let credential = Credential::EntraClientSecret {
        tenant_id: "my-tenant".into(),
        client_id: "my client".into(),
        client_secret: secret("s3cret&"),
    };
    account(revision, ProviderType::AzureOpenai, Some(credential))
}

fn token(number: usize) -> String {
    ok(&format!(r#"{{"access_token":"token-{number}","expires_in":3599,"token_type":"Bearer"}}"#))
}

#[test]
fn entra_is_asked_once_and_again_for_a_new_revision_or_after_a_refusal() {
    let issuer = Server::start(|number, _| token(number));
    let house = House::entra(&issuer);
    for _ in 0..3 {
        assert_eq!(house.authorize(&entra(1)).unwrap(), ["authorization: Bearer token-0"]);
    }
    let asked = issuer.next();
    assert!(asked.starts_with("POST /my-tenant/oauth2/v2.0/token HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked}");
    assert!(asked.contains("\r\ncontent-type: application/x-www-form-urlencoded\r\n"));
    assert!(asked.ends_with(
        "\r\n\r\ngrant_type=client_credentials&client_id=my%20client&client_secret=s3cret%26&scope=https%3A%2F%2Fcognitiveservices.azure.com%2F.default"
    ));
    assert_eq!(issuer.count(), 0);
    assert_eq!(house.authorize(&entra(2)).unwrap(), ["authorization: Bearer token-1"]);
    assert!(house.upstreams.forget(&entra(2)));
    assert_eq!(house.authorize(&entra(2)).unwrap(), ["authorization: Bearer token-2"]);
    assert!(!house.upstreams.forget(&entra(2)), "it was fetched for the last refusal");
    assert_eq!(house.authorize(&entra(2)).unwrap(), ["authorization: Bearer token-2"]);
    assert_eq!(issuer.count(), 2);
}

#[test]
fn many_calls_wait_for_one_fetch() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let issuer = Server::start(move |number, _| {
        let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
        token(number)
    });
    let house = House::entra(&issuer);
    let calls: Vec<Call> = (0..50).map(|_| house.call(&entra(1))).collect();
    issuer.next();
    go.send(()).unwrap();
    for call in &calls {
        assert_eq!(call.result().unwrap(), ["authorization: Bearer token-0"]);
    }
    assert_eq!(issuer.count(), 0);
}

#[test]
fn a_caller_who_leaves_takes_only_itself_along() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let issuer = Server::start(move |number, _| {
        let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
        token(number)
    });
    let house = House::entra(&issuer);
    let first = house.call(&entra(1));
    issuer.next();
    // One that waits for the first one's fetch and leaves, and one that stays.
    let second = house.call(&entra(1));
    let third = house.call(&entra(1));
    let gone = CredentialError::Interrupted(UpstreamError::Interrupted(crate::net::Interruption::CallerGone));
    drop(second.caller);
    assert_eq!(second.result.recv_timeout(PATIENCE).unwrap().unwrap_err(), gone);
    drop(first.caller);
    assert_eq!(first.result.recv_timeout(PATIENCE).unwrap().unwrap_err(), gone);
    go.send(()).unwrap();
    issuer.next();
    go.send(()).unwrap();
    assert_eq!(third.result().unwrap(), ["authorization: Bearer token-1"]);
}

#[test]
fn a_refusal_answers_for_all_who_waited() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let issuer = Server::start(move |_, _| {
        let _ = gate.lock().unwrap().recv_timeout(PATIENCE);
        answer(401, r#"{"error":"invalid_client","error_description":"AADSTS7000215: s3cret& is wrong"}"#)
    });
    let house = House::entra(&issuer);
    let calls: Vec<Call> = (0..20).map(|_| house.call(&entra(1))).collect();
    issuer.next();
    go.send(()).unwrap();
    for call in &calls {
        let error = call.result().unwrap_err();
        let message = error.failure("main").unwrap().message().into_owned();
        assert_eq!(
            message,
            "No token from Microsoft Entra for the credential of account 'main' (status 401, invalid_client); check tenant, client id and client secret, and that the secret has not expired"
        );
    }
    assert_eq!(issuer.count(), 0);
}

#[test]
fn answers_that_are_none() {
    for (body, wanted) in [
        (String::new(), "There is no connection to Microsoft Entra"),
        ("nonsense\r\n\r\n".to_owned(), "The answer of Microsoft Entra, which issues"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(),
            "The answer of Microsoft Entra, which issues",
        ),
        (ok("{}"), "The answer of Microsoft Entra for"),
        (ok(&" ".repeat(100_000)), "The answer of Microsoft Entra, which issues"),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://evil.example/\r\ncontent-length: 0\r\n\r\n".to_owned(),
            "No token from",
        ),
    ] {
        let issuer = Server::start(move |_, _| body.clone());
        let error = House::entra(&issuer).authorize(&entra(1)).unwrap_err();
        assert!(error.message("main").starts_with(wanted), "{}", error.message("main"));
    }
}

#[test]
fn an_issuer_that_is_silent_costs_no_more_than_the_call_has() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let house = House::new(false, &[("AZURE_AUTHORITY_HOST", url)]);
    let error = house.call_within(&entra(1), 300).result().unwrap_err();
    let late = UpstreamError::Interrupted(crate::net::Interruption::Deadline);
    assert_eq!(error.interruption(), Some(late));
}

#[test]
fn egress_rules_hold_for_issuers() {
    let issuer = Server::start(|number, _| token(number));
    let variables = [("AZURE_AUTHORITY_HOST", issuer.url())];
    let house = House::with_egress(false, &variables, Some(&["10.0.0.0/8".to_owned()]));
    let error = house.authorize(&entra(1)).unwrap_err();
    assert!(error.message("main").contains("check [egress] allow"), "{}", error.message("main"));
    assert_eq!(issuer.count(), 0);
    let house = House::with_egress(false, &variables, Some(&["127.0.0.1".to_owned()]));
    assert!(house.authorize(&entra(1)).is_ok());
}

#[test]
fn google_changes_a_signed_assertion_for_a_token() {
    let issuer = Server::start(|number, _| token(number));
    let Some(file) = service_account_file(&format!("{}/token", issuer.url())) else { return };
    let credential = Credential::GoogleServiceAccount { key_file: secret(&file) };
    let account = account(1, ProviderType::GoogleVertex, Some(credential));
    let house = House::new(false, &[]);
    assert_eq!(house.authorize(&account).unwrap(), ["authorization: Bearer token-0"]);
    assert_eq!(house.authorize(&account).unwrap(), ["authorization: Bearer token-0"]);
    let asked = issuer.next();
    assert!(asked.starts_with("POST /token HTTP/1.1\r\n"), "{asked}");
    assert!(
        asked.contains(
            "\r\n\r\ngrant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ey"
        )
    );
    assert_eq!(issuer.count(), 0);
}

const ROLE: &str = "arn:aws:iam::123456789012:role/bedrock";

fn sts_answer() -> String {
    let ends = UnixMillis::now().plus(Duration::from_secs(3600)).to_iso();
    ok(&format!(
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>role-secret</SecretAccessKey><SessionToken>role-token</SessionToken><Expiration>{ends}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    ))
}

#[test]
fn a_role_is_assumed_with_the_source_keys() {
    let sts = Server::start(|_, _| sts_answer());
    let house = House::new(false, &[("AWS_ENDPOINT_URL_STS", sts.url())]);
    let credential = Credential::AwsAssumedRole {
        role_arn: ROLE.into(),
        external_id: Some("id&1".into()),
        source: Some(AwsAccessKey {
            access_key_id: "AKIASOURCE".into(),
            secret_access_key: secret("source-secret"),
            session_token: None,
        }),
    };
    let account = account(1, ProviderType::AwsBedrock, Some(credential));
    for _ in 0..2 {
        let lines = house.authorize(&account).unwrap().join("\n");
        assert!(lines.contains("Credential=ASIAROLE/"), "{lines}");
        assert!(lines.contains("x-amz-security-token: role-token"), "{lines}");
        assert!(lines.contains("/us-east-1/bedrock/aws4_request"), "{lines}");
    }
    let asked = sts.next();
    assert!(asked.starts_with("POST / HTTP/1.1\r\n"), "{asked}");
    assert!(
        asked.contains("Credential=AKIASOURCE/") && asked.contains("/us-east-1/sts/aws4_request"),
        "{asked}"
    );
    assert!(asked.ends_with(
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fbedrock&RoleSessionName=gateway-main&DurationSeconds=3600&ExternalId=id%261"
    ));
    assert!(!asked.contains("source-secret"));
    assert_eq!(sts.count(), 0);
}

fn machine_keys(id: &str) -> String {
    let ends = UnixMillis::now().plus(Duration::from_secs(3600)).to_iso();
    ok(&format!(
        r#"{{"Code":"Success","AccessKeyId":"{id}","SecretAccessKey":"machine-secret","Token":"machine-token","Expiration":"{ends}"}}"#
    ))
}

fn imds() -> Server {
    Server::start(|_, request| {
        let line = request.lines().next().unwrap();
        let folder = "/latest/meta-data/iam/security-credentials/";
        if line == "PUT /latest/api/token HTTP/1.1" {
            assert!(request.contains("x-aws-ec2-metadata-token-ttl-seconds: "));
            return ok("session==");
        }
        assert!(request.contains("\r\nx-aws-ec2-metadata-token: session==\r\n"), "{request}");
        if line == format!("GET {folder} HTTP/1.1") {
            ok("my-role\n")
        } else if line == format!("GET {folder}my-role HTTP/1.1") {
            machine_keys("ASIAINSTANCE")
        } else {
            answer(404, "")
        }
    })
}

#[test]
fn the_instances_keys_and_a_role_assumed_with_them() {
    let (imds, sts) = (imds(), Server::start(|_, _| sts_answer()));
    let house = House::new(
        true,
        &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url()), ("AWS_ENDPOINT_URL_STS", sts.url())],
    );
    let plain = account(1, ProviderType::AwsBedrock, Some(Credential::AwsMachine));
    for _ in 0..2 {
        let lines = house.authorize(&plain).unwrap().join("\n");
        assert!(lines.contains("Credential=ASIAINSTANCE/") && lines.contains("machine-token"), "{lines}");
    }
    assert_eq!(imds.count(), 3);
    let role = Credential::AwsAssumedRole { role_arn: ROLE.into(), external_id: None, source: None };
    let role = account(2, ProviderType::AwsBedrock, Some(role));
    let lines = house.authorize(&role).unwrap().join("\n");
    assert!(lines.contains("Credential=ASIAROLE/"), "{lines}");
    let asked = sts.next();
    assert!(asked.contains("Credential=ASIAINSTANCE/") && asked.contains("machine-token"), "{asked}");
    // Both of its tokens go.
    assert!(house.upstreams.forget(&role));
    house.authorize(&role).unwrap();
    assert_eq!((sts.count(), imds.count()), (1, 6));
}

#[test]
fn the_machines_keys_need_the_operators_word() {
    let imds = imds();
    let house = House::new(false, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url())]);
    let plain = account(1, ProviderType::AwsBedrock, Some(Credential::AwsMachine));
    let role = Credential::AwsAssumedRole { role_arn: ROLE.into(), external_id: None, source: None };
    let role = account(1, ProviderType::AwsBedrock, Some(role));
    for account in [plain, role] {
        assert_eq!(house.authorize(&account).unwrap_err(), CredentialError::MachineNotAllowed);
    }
    assert_eq!(imds.count(), 0);
}

#[test]
fn the_containers_keys_with_a_token_from_a_file() {
    let container = Server::start(|_, request| {
        let allowed = request.contains("\r\nauthorization: pod-token\r\n");
        if allowed { machine_keys("ASIAPOD") } else { answer(401, "") }
    });
    let folder = crate::store::tests::Folder::new();
    let file = folder.0.join("token");
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", container.url())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", file.to_string_lossy().into_owned()),
    ];
    let of = |revision| account(revision, ProviderType::AwsBedrock, Some(Credential::AwsMachine));
    let house = House::new(true, &variables);
    assert!(matches!(house.authorize(&of(1)), Err(CredentialError::Unusable(_))), "there is no file");
    std::fs::write(&file, "two\nlines").unwrap();
    assert!(matches!(house.authorize(&of(2)), Err(CredentialError::Unusable(_))));
    std::fs::write(&file, "other-token").unwrap();
    let error = house.authorize(&of(3)).unwrap_err();
    assert!(matches!(error, CredentialError::Refused { status: 401, .. }), "{error:?}");
    std::fs::write(&file, "pod-token\n").unwrap();
    let lines = house.authorize(&of(4)).unwrap().join("\n");
    assert!(lines.contains("Credential=ASIAPOD/"), "{lines}");
    assert_eq!(container.count(), 2);
}

#[test]
fn what_needs_no_issuer_asks_none() {
    let house = House::new(false, &[]);
    assert_eq!(house.authorize(&account(1, ProviderType::Ollama, None)).unwrap(), [""; 0]);
    let key = account(1, ProviderType::Anthropic, Some(Credential::ApiKey(secret("sk-1"))));
    assert_eq!(house.authorize(&key).unwrap(), ["x-api-key: sk-1"]);
    assert!(!house.upstreams.forget(&key));
    let headers = [("x-a".to_owned(), secret("1")), ("x-b".to_owned(), secret("2"))];
    let headers = account(1, ProviderType::SelfHostedModel, Some(Credential::Headers(headers.into())));
    assert_eq!(house.authorize(&headers).unwrap(), ["x-a: 1", "x-b: 2"]);
    let broken = account(1, ProviderType::Openai, Some(Credential::ApiKey(secret("a\r\nb: c"))));
    assert!(matches!(house.authorize(&broken), Err(CredentialError::Unusable(_))));
}
