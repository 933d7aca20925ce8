//! One connection: requests in, to where their path leads, answers out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Gateway;
use crate::api;
use crate::clock::UnixMillis;
use crate::console;
use crate::domain::Principal;
use crate::failure::{Dialect, Failure};
use crate::http::{BodyLength, BufferedBody, Connection, Limits, ReadError, RequestHead, Version};
use crate::net::{Registration, Socket, Stream, Transport};
use crate::relay::{self, After, Answer, Refusal, UnreadBody};

/// Bytes of a form that somebody sends who is not signed in.
const MAX_PUBLIC_FORM_BYTES: u64 = 16 * 1024;

/// Bytes of a management request's body.
const MAX_MANAGEMENT_BODY_BYTES: u64 = 4 * 1024 * 1024;

/// Which listener a connection came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    /// Everyone, with tokens.
    Main,
    /// The administrator of this host, without.
    AdminSocket,
}

/// Serves a connection to its end.
pub(super) fn serve(
    gateway: &Gateway,
    stream: Stream,
    peer: Option<SocketAddr>,
    registration: Registration,
    surface: Surface,
    refuses: bool,
) {
    let watch = Arc::clone(registration.watch());
    let Ok(socket) = Socket::from_caller(stream, Arc::clone(&watch)) else { return };
    let uid = if surface == Surface::AdminSocket {
        let Ok(uid) = socket.peer_uid() else { return };
        Some(uid)
    } else {
        None
    };
    let limits = &gateway.relay.limits;
    watch.arm(limits.header_timeout_ms);
    let transport = match (&gateway.tls, surface) {
        (Some(tls), Surface::Main) => match Transport::server(socket, &tls.load_full()) {
            Ok(transport) => transport,
            Err(_) => return,
        },
        _ => Transport::Plain(socket),
    };
    let mut connection = Connection::new(transport, registration);
    if refuses {
        let text = "The gateway has as many connections as it may (server.max_connections); try again";
        refuse_unread(&mut connection, &Failure::Unavailable(text.into()), limits);
        connection.close_gently();
        return;
    }
    loop {
        if gateway.draining.load(Ordering::Acquire) {
            break;
        }
        let head = match connection.read_head(limits) {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(error) => {
                if let Some(failure) = Refusal::from_read(&error).failure {
                    gateway.relay.metrics.refused(failure.status());
                    log::info!("request refused before its head was whole: {}", failure.message());
                    refuse_unread(&mut connection, &failure, limits);
                    connection.close_gently();
                }
                return;
            }
        };
        watch.set_idle(false);
        let keep_alive = head.keep_alive && !gateway.draining.load(Ordering::Acquire);
        match request(gateway, &mut connection, &head, peer, uid, keep_alive) {
            After::KeepAlive => {}
            After::Close => break,
            After::Abort => {
                if head.version == Version::Http10 {
                    // The end of the connection is the end of the answer there: only an error says otherwise.
                    connection.transport().socket().reset_when_closed();
                } else {
                    connection.transport().socket().shutdown();
                }
                return;
            }
        }
    }
    connection.close_gently();
}

/// Answers a request whose head was not understood; the connection closes after it.
fn refuse_unread(connection: &mut Connection, failure: &Failure, limits: &Limits) {
    let rendered = failure.render(Dialect::OpenAi);
    let mut head = crate::http::AnswerHead::new(rendered.status);
    head.line(b"x-request-id", new_request_id().as_bytes());
    head.line(b"content-type", b"application/json");
    if let Some((name, value)) = rendered.header {
        head.line(name.as_bytes(), value.as_bytes());
    }
    head.line(b"content-length", rendered.body.len().to_string().as_bytes());
    head.line(b"connection", b"close");
    connection.watch().arm(limits.idle_timeout_ms);
    // A caller that does not listen any more misses it.
    let _ = connection.write(&[&head.finish(), rendered.body.as_bytes()]);
}

fn request(
    gateway: &Gateway,
    connection: &mut Connection,
    head: &RequestHead,
    peer: Option<SocketAddr>,
    uid: Option<u32>,
    keep_alive: bool,
) -> After {
    let began = Instant::now();
    let request_id = relay::sane_request_id(head).unwrap_or_else(new_request_id);
    let answer = Answer { head, request_id: &request_id, keep_alive, limit_lines: &[] };
    let path = head.path();
    let is_management = path.starts_with(api::PREFIX);
    let result = if matches!(path, "/healthz" | "/api/llm/health") {
        health(gateway, connection, &answer)
    } else if is_management {
        management(gateway, connection, &answer, uid)
    } else if let (None, Some(destination)) = (uid, find(gateway, path)) {
        gateway.relay.serve(connection, head, &request_id, destination, keep_alive)
    } else if uid.is_none() && (console::knows(path) || wants_page(head)) {
        page(gateway, connection, &answer, peer)
    } else {
        Err(Refusal::before_body(unknown_path()))
    };
    match result {
        Ok(after) => after,
        Err(Refusal { failure: None, .. }) => After::Abort,
        Err(Refusal { failure: Some(failure), body, resolved_model }) => {
            let dialect = match (is_management, find(gateway, path)) {
                (true, _) => Dialect::Management,
                (false, Some(destination)) => destination.dialect(),
                (false, None) => Dialect::OpenAi,
            };
            if resolved_model.is_none() {
                gateway.relay.metrics.refused(failure.status());
                log::info!(
                    "request {request_id} from={} {} {path} status={} {} latency_ms={}",
                    caller_address(gateway, head, peer),
                    head.method,
                    failure.status(),
                    failure.message(),
                    began.elapsed().as_millis()
                );
            }
            let whole = match body {
                UnreadBody::None => true,
                UnreadBody::Whole => connection.discard_body(head, &gateway.relay.limits),
                UnreadBody::Lost => false,
            };
            let answer = Answer { keep_alive: keep_alive && whole, ..answer };
            let limits = &gateway.relay.limits;
            answer.refuse(connection, &failure, dialect, resolved_model.as_deref(), limits.idle_timeout_ms)
        }
    }
}

/// What an inference path leads to. Some tools put the tenant behind `/api/llm`.
fn find<'p>(gateway: &Gateway, path: &'p str) -> Option<relay::Destination<'p>> {
    relay::find(path).or_else(|| {
        let rest = path.strip_prefix("/api/llm/")?.strip_prefix(gateway.manage.tenant.as_str())?;
        if rest.starts_with('/') { relay::find_below(rest) } else { None }
    })
}

fn unknown_path() -> Failure {
    Failure::NotFound(
        "There is no such path; models are called under /v1, /api/llm or /api/llm/api/inference/openai"
            .into(),
    )
}

fn health(gateway: &Gateway, connection: &mut Connection, answer: &Answer<'_>) -> Result<After, Refusal> {
    if !matches!(answer.head.method, "GET" | "HEAD") {
        return Err(Refusal::before_body(Failure::MethodNotAllowed { allow: "GET, HEAD" }));
    }
    let limits = &gateway.relay.limits;
    let whole = connection.discard_body(answer.head, limits);
    let answer = Answer { keep_alive: answer.keep_alive && whole, ..*answer };
    let lines = [("content-type", "text/plain")];
    Ok(answer.write(connection, 200, &lines, b"ok\n", limits.idle_timeout_ms))
}

fn management(
    gateway: &Gateway,
    connection: &mut Connection,
    answer: &Answer<'_>,
    uid: Option<u32>,
) -> Result<After, Refusal> {
    let began = Instant::now();
    let head = answer.head;
    let relay = &gateway.relay;
    let principal = match uid {
        Some(uid) => Some(Principal::LocalAdministrator { uid }),
        None => relay.authenticate(head, &relay.store.snapshot()).ok(),
    };
    let limits =
        Limits { max_body_bytes: relay.limits.max_body_bytes.min(MAX_MANAGEMENT_BODY_BYTES), ..relay.limits };
    // Nobody unknown gets a body buffered; the few paths open to all need none.
    let (body, whole) = if principal.is_some() && head.body != BodyLength::None {
        let body = connection
            .read_body(head, &limits, &relay.budget)
            .map_err(|error: ReadError| Refusal::from_read(&error))?;
        (Some(body), true)
    } else {
        (None, connection.discard_body(head, &limits))
    };
    let request = api::Request {
        method: match head.method {
            "HEAD" if !api::mints_when_read(head.path()) => "GET",
            method => method,
        },
        path: head.path(),
        query: head.query(),
        body: body.as_ref().map_or(&[], |body| body.bytes.as_slice()),
    };
    // A change waits for the disk, not for the caller.
    connection.watch().disarm();
    let response = api::handle(&gateway.manage, principal.as_ref(), &request);
    log::info!(
        "request {} {} {} {} status={} latency_ms={}",
        answer.request_id,
        principal.as_ref().map_or_else(|| "-".to_owned(), Principal::subject_text),
        head.method,
        head.path(),
        response.status,
        began.elapsed().as_millis()
    );
    if response.status >= 400 {
        relay.metrics.refused(response.status);
    }
    let mut lines = vec![("content-type", response.content_type)];
    lines.extend(response.header);
    if response.no_store {
        lines.push(("cache-control", "no-store"));
    }
    let answer = Answer { keep_alive: answer.keep_alive && whole, ..*answer };
    if let (Some(mut rest), Some(principal)) = (response.rest, &principal) {
        let more = || {
            let next = rest.next(&gateway.manage, principal);
            next.map_err(|failure| log::warn!("an export or backup broke off: {}", failure.message()))
        };
        return Ok(answer.write_pieces(connection, &lines, response.body, more, limits.idle_timeout_ms));
    }
    // A slow reader keeps a long answer in memory, such as one with bodies of the request log.
    let _room = crate::http::BodyReservation::take(&relay.budget, response.body.len())
        .map_err(|error| Refusal { body: UnreadBody::None, ..Refusal::from_read(&error) })?;
    Ok(answer.write(connection, response.status, &lines, response.body.as_bytes(), limits.idle_timeout_ms))
}

/// Whether it is a browser that asks, which gets a page even where there is none.
fn wants_page(head: &RequestHead) -> bool {
    let accepts =
        |line: &[u8]| line.split(|b| *b == b',').any(|one| one.trim_ascii().starts_with(b"text/html"));
    head.headers.all("accept").any(accepts)
}

/// A page of the console.
fn page(
    gateway: &Gateway,
    connection: &mut Connection,
    answer: &Answer<'_>,
    peer: Option<SocketAddr>,
) -> Result<After, Refusal> {
    let began = Instant::now();
    let head = answer.head;
    let relay = &gateway.relay;
    let text = |name: &str| head.headers.one(name).and_then(|value| std::str::from_utf8(value).ok());
    let is_secure = gateway.tls.is_some()
        || (text("x-forwarded-proto") == Some("https") && comes_by_proxy(gateway, peer));
    let cookie = |name| console::cookie(head.headers.all("cookie"), name);
    let bodiless = console::Request {
        method: head.method,
        path: head.path(),
        query: head.query(),
        body: &[],
        host: text("host").unwrap_or_default(),
        is_secure,
        origin: text("origin"),
        fetch_site: text("sec-fetch-site"),
        session: cookie(console::session_cookie(is_secure)),
        guest: cookie(console::guest_cookie(is_secure)),
        device: cookie(console::device_cookie(is_secure)),
        agent: text("user-agent").unwrap_or_default(),
        address: caller(gateway, head, peer),
    };
    // What strangers may send is small: it lies in the same memory as the bodies of calls.
    let most =
        if console::is_public(bodiless.path) { MAX_PUBLIC_FORM_BYTES } else { console::MAX_FORM_BYTES };
    let limits = Limits { max_body_bytes: relay.limits.max_body_bytes.min(most), ..relay.limits };
    if bodiless.path == console::ASK && head.method == "POST" {
        return ask(gateway, connection, answer, &bodiless, &limits);
    }
    let (body, whole) =
        if head.body != BodyLength::None && gateway.console.takes_body(&gateway.manage, &bodiless) {
            let body = connection
                .read_body(head, &limits, &relay.budget)
                .map_err(|error: ReadError| Refusal::from_read(&error))?;
            (Some(body), true)
        } else {
            (None, connection.discard_body(head, &limits))
        };
    let request =
        console::Request { body: body.as_ref().map_or(&[], |body| body.bytes.as_slice()), ..bodiless };
    // A change waits for the disk, not for the caller.
    connection.watch().disarm();
    let response = gateway.console.handle(&gateway.manage, &request);
    log::info!(
        "request {} {} {} {} status={} latency_ms={}",
        answer.request_id,
        response.subject.as_deref().unwrap_or("-"),
        head.method,
        head.path(),
        response.status,
        began.elapsed().as_millis()
    );
    if response.status >= 400 {
        relay.metrics.refused(response.status);
    }
    let lines: Vec<(&str, &str)> =
        response.lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = Answer { keep_alive: answer.keep_alive && whole, ..*answer };
    if let Some((mut rest, principal)) = response.rest {
        let more = || {
            let next = rest.next(&gateway.manage, &principal);
            next.map_err(|failure| log::warn!("an export broke off: {}", failure.message()))
        };
        let first = String::from_utf8(response.body).unwrap_or_default();
        return Ok(answer.write_pieces(connection, &lines, first, more, limits.idle_timeout_ms));
    }
    Ok(answer.write(connection, response.status, &lines, &response.body, limits.idle_timeout_ms))
}

/// A question of the playground: JSON from the script, whose answer is streamed, or a form.
fn ask(
    gateway: &Gateway,
    connection: &mut Connection,
    answer: &Answer<'_>,
    request: &console::Request<'_>,
    limits: &Limits,
) -> Result<After, Refusal> {
    let (head, relay) = (answer.head, &gateway.relay);
    let player = |form_token: &str| gateway.console.player(&gateway.manage, request, form_token);
    let is_form = head
        .headers
        .one("content-type")
        .is_some_and(|value| value.starts_with(b"application/x-www-form-urlencoded"));
    if !is_form {
        let token = head.headers.one("x-form-token").and_then(|value| std::str::from_utf8(value).ok());
        let principal = player(token.unwrap_or_default()).map_err(Refusal::before_body)?;
        return relay.chat_as(connection, answer, principal, None);
    }
    if !gateway.console.takes_body(&gateway.manage, request) {
        return Err(Refusal::before_body(Failure::Unauthenticated));
    }
    let body =
        connection.read_body(head, limits, &relay.budget).map_err(|error| Refusal::from_read(&error))?;
    let after_body =
        |failure| Refusal { failure: Some(failure), body: UnreadBody::None, resolved_model: None };
    let text = std::str::from_utf8(&body.bytes).unwrap_or_default();
    let form = console::Fields::parse(text).map_err(after_body)?;
    let principal = player(form.raw("form-token")).map_err(after_body)?;
    let mut question = BufferedBody::empty(&relay.budget);
    question
        .extend(console::question(&form).as_bytes())
        .map_err(|error| Refusal { body: UnreadBody::None, ..Refusal::from_read(&error) })?;
    relay.chat_as(connection, answer, principal, Some(question))
}

/// Whether the connection comes from a proxy whose word is taken.
fn comes_by_proxy(gateway: &Gateway, peer: Option<SocketAddr>) -> bool {
    peer.is_some_and(|peer| gateway.trusted_proxies.iter().any(|network| network.contains(peer.ip())))
}

/// Where the caller is: the peer, or what a trusted proxy says of it. Nothing on the admin socket.
fn caller(gateway: &Gateway, head: &RequestHead, peer: Option<SocketAddr>) -> Option<IpAddr> {
    let peer = peer?.ip();
    let trusted = |address: IpAddr| gateway.trusted_proxies.iter().any(|network| network.contains(address));
    if !trusted(peer) {
        return Some(peer);
    }
    let lines: Vec<&[u8]> = head.headers.all("x-forwarded-for").collect();
    let mut parts = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    // From the right: the last one that no trusted proxy has. What is no address ends the search, since whatever
    // stands left of it is the caller's own word.
    let caller = parts.find_map(|part| match forwarded(part) {
        Some(address) if trusted(address) => None,
        other => Some(other),
    });
    Some(caller.flatten().unwrap_or(peer))
}

/// One part of `X-Forwarded-For`; some proxies write the port too.
fn forwarded(part: &[u8]) -> Option<IpAddr> {
    let part = std::str::from_utf8(part).ok()?.trim();
    part.parse().ok().or_else(|| part.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// The same for the log.
fn caller_address(gateway: &Gateway, head: &RequestHead, peer: Option<SocketAddr>) -> String {
    caller(gateway, head, peer).map_or_else(|| "socket".to_owned(), |address| address.to_string())
}

/// An id that no other request of this or an earlier process has.
fn new_request_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static PROCESS: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let process = PROCESS.get_or_init(|| UnixMillis::now().0);
    format!("req-{process:x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed))
}
