//! The management API: a thin face of `manage`. Reads paths, queries and bodies, and writes JSON; decides nothing.

mod account;
mod apply;
mod audit;
mod backup;
mod catalogue;
mod collaborator;
mod directory;
mod explain;
mod grant;
mod limits;
mod logs;
mod openapi;
mod personal_token;
mod query;
mod role;
mod session;
mod settings;
mod subject;
mod team;
#[cfg(test)]
pub mod tests;
mod token;
mod usage;
mod usage_record;
mod user;
mod virtual_account;
mod virtual_token;

use serde_json::{Value, json};

use crate::domain::Principal;
use crate::failure::{Dialect, Failure};
use crate::manage::{Backup, Listing, Manage, Page};
use crate::manifest::fields;

use fields::Fields;
use query::{Query, percent_decode};

pub use usage_record::cell as csv_cell;
pub use virtual_token::mints_when_read;

/// The path that all of the API is under.
pub const PREFIX: &str = "/api/svc/v1";

/// A request, its body in full.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The full path, percent-encoded, without the query.
    pub path: &'a str,
    /// What stands after the question mark.
    pub query: &'a str,
    /// The body; may be empty.
    pub body: &'a [u8],
}

/// A long answer that goes on.
#[derive(Debug)]
pub enum Rest {
    /// Usage records.
    Usage(Box<usage::Rest>),
    /// A backup; `None` at its end.
    Backup(Option<Box<Backup>>),
}

impl Rest {
    /// The next piece, which may be empty; `None` at the end. Whether the principal may have it is decided anew each time.
    ///
    /// # Errors
    /// When access was taken away meanwhile, or the disk refuses: what came so far is worth nothing then.
    pub fn next(&mut self, manage: &Manage, principal: &Principal) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Usage(rest) => Ok(rest.next(manage, principal)?.map(String::into_bytes)),
            Self::Backup(rest) => {
                let Some(backup) = rest.take() else { return Ok(None) };
                let next = manage.backup_piece(principal, *backup)?;
                Ok(next.map(|(piece, backup)| {
                    *rest = Some(Box::new(backup));
                    piece
                }))
            }
        }
    }
}

/// An answer.
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// JSON, or the beginning of what [`Response::rest`] goes on with.
    pub body: String,
    /// What the body is.
    pub content_type: &'static str,
    /// One more header, where the status wants one.
    pub header: Option<(&'static str, &'static str)>,
    /// The body holds a secret: no cache may keep it.
    pub no_store: bool,
    /// More of the body, piece by piece.
    pub rest: Option<Rest>,
}

/// A request whose route is found.
struct Call<'a> {
    manage: &'a Manage,
    query: Query,
    parameters: Vec<String>,
    body: &'a [u8],
}

impl Call<'_> {
    /// The path's first parameter, decoded.
    fn id(&self) -> &str {
        self.parameters.first().map_or("", String::as_str)
    }

    /// The path's second parameter, decoded.
    fn second_id(&self) -> &str {
        self.parameters.get(1).map_or("", String::as_str)
    }

    fn fields(&self) -> Result<Fields> {
        Fields::of_body(self.body)
    }
}

/// What a handler answers when all is well: always 200, as SDKs parse the body of everything.
struct Answer {
    body: Value,
    no_store: bool,
}

/// A long answer: its beginning, and how it goes on.
struct Export {
    content_type: &'static str,
    first: String,
    rest: Rest,
}

const JSON: &str = "application/json";

type Result<T = Answer> = std::result::Result<T, Failure>;

fn answer(body: Value) -> Result {
    Ok(Answer { body, no_store: false })
}

fn data(object: Value) -> Result {
    answer(json!({ "data": object }))
}

fn done() -> Result {
    answer(json!({}))
}

fn list<T>(listing: &Listing<T>, page: Page, shape: impl Fn(&T) -> Value) -> Result {
    let items: Vec<Value> = listing.items.iter().map(shape).collect();
    let pagination = json!({"total": listing.total, "offset": page.offset, "limit": page.limit});
    answer(json!({"data": items, "pagination": pagination}))
}

#[derive(Clone, Copy)]
enum Handler {
    /// A text that anyone gets as it stands.
    Document(&'static str),
    /// Answers anyone, without a token.
    Anyone(fn(&Call) -> Result),
    /// Answers any principal.
    Token(fn(&Call, &Principal) -> Result),
    /// Answers users and the local administrator; virtual accounts manage nothing.
    Person(fn(&Call, &Principal) -> Result),
    /// The same with an answer that may be long.
    Export(fn(&Call, &Principal) -> Result<Export>),
}

struct Route {
    path: &'static str,
    allow: &'static str,
    methods: &'static [(&'static str, Handler)],
}

macro_rules! routes {
    ($($path:literal, $allow:literal: $($method:literal $kind:ident $handler:path),+;)*) => {
        /// Every route, as (method, path template), so that the policy's table can be checked for gaps.
        #[cfg(test)]
        pub const ROUTES: &[(&str, &str)] = &[$($(($method, concat!("/api/svc/v1", $path))),+),*];

        const TABLE: &[Route] = &[$(Route {
            path: $path,
            allow: $allow,
            methods: &[$(($method, Handler::$kind($handler))),+],
        }),*];
    };
}

// A literal segment must stand before a parameter in the same place: the first path that fits decides.
routes! {
    "/openapi.json", "GET": "GET" Document openapi::DOCUMENT;
    "/min-cli-version", "GET": "GET" Anyone session::min_cli_version;
    "/tenant-id", "GET": "GET" Anyone session::tenant_id;
    "/session", "GET": "GET" Token session::show;
    "/users", "GET": "GET" Person user::list_all;
    "/users/register", "POST": "POST" Person user::register;
    "/users/roles", "PATCH": "PATCH" Person user::set_roles;
    "/users/deactivate", "PATCH": "PATCH" Person user::deactivate;
    "/users/activate", "PATCH": "PATCH" Person user::activate;
    "/users/invite", "POST": "POST" Person directory::invite;
    "/users/{id}", "GET, DELETE": "GET" Person user::show, "DELETE" Person user::delete;
    "/x/users/info", "GET": "GET" Token directory::who;
    "/x/users/{id}/resources", "GET": "GET" Person directory::user_resources;
    "/x/users/{id}/permissions", "GET": "GET" Person directory::user_permissions;
    "/x/users/{id}/teams", "GET": "GET" Person directory::user_teams;
    "/teams", "GET, PUT, POST":
        "GET" Person team::list_all, "PUT" Person team::put, "POST" Person team::put;
    "/teams/user", "GET": "GET" Person team::list_all;
    "/teams/{id}", "GET, DELETE": "GET" Person team::show, "DELETE" Person team::delete;
    "/teams/{id}/members", "GET, POST": "GET" Person team::members, "POST" Person team::add_member;
    "/teams/{id}/members/{email}", "DELETE": "DELETE" Person team::remove_member;
    "/teams/{id}/managers", "GET, POST":
        "GET" Person directory::team_managers, "POST" Person directory::add_team_manager;
    "/teams/{id}/managers/{email}", "DELETE": "DELETE" Person directory::remove_team_manager;
    "/teams/{id}/permissions", "GET": "GET" Person directory::team_permissions;
    "/provider-accounts", "GET, POST, PUT":
        "GET" Person account::list_all, "POST" Person account::create, "PUT" Person account::put;
    "/provider-accounts/{id}", "GET, PATCH, DELETE":
        "GET" Person account::show, "PATCH" Person account::update, "DELETE" Person account::delete;
    "/provider-accounts/{id}/credential", "PUT": "PUT" Person account::set_credential;
    "/provider-accounts/{id}/models", "POST": "POST" Person account::add_model;
    "/provider-accounts/{id}/models/{name}", "DELETE": "DELETE" Person account::remove_model;
    "/provider-integrations", "GET": "GET" Person account::list_models;
    "/grants", "GET, POST, DELETE":
        "GET" Person grant::list_all, "POST" Person grant::create, "DELETE" Person grant::delete;
    "/collaborators", "GET, POST, DELETE":
        "GET" Person collaborator::list_all, "POST" Person collaborator::create, "DELETE" Person collaborator::delete;
    "/roles", "GET": "GET" Person role::list_all;
    "/roles/{id}", "GET": "GET" Person role::show;
    "/fqn/{type}", "GET": "GET" Person directory::fqn;
    "/tokens", "GET, POST": "GET" Person token::list_all, "POST" Person token::create;
    "/tokens/{id}", "GET, PATCH, DELETE":
        "GET" Person token::show, "PATCH" Person token::rename, "DELETE" Person token::revoke;
    "/tokens/{id}/rotate", "POST": "POST" Person token::rotate;
    "/virtual-accounts", "GET, PUT, POST":
        "GET" Person virtual_account::list_all, "PUT" Person virtual_account::put,
        "POST" Person virtual_account::put;
    "/virtual-accounts/exists", "GET": "GET" Person directory::virtual_account_exists;
    "/virtual-accounts/{id}", "GET, DELETE":
        "GET" Person virtual_account::show, "DELETE" Person virtual_account::delete;
    "/apply", "PUT": "PUT" Person apply::apply;
    "/delete", "POST": "POST" Person apply::delete;
    "/dependency-tree", "POST": "POST" Person apply::dependency_tree;
    "/manifests", "POST": "POST" Person apply::apply_all;
    "/manifests/{kind}/{name}", "GET": "GET" Person apply::export;
    "/virtual-accounts/{id}/token", "GET": "GET" Person virtual_token::first;
    "/virtual-accounts/{id}/regenerate-token", "POST": "POST" Person virtual_token::regenerate;
    "/virtual-accounts/{id}/jwt/{token}", "DELETE": "DELETE" Person virtual_token::revoke;
    "/personal-access-tokens", "GET, POST":
        "GET" Person personal_token::list_own, "POST" Person personal_token::create;
    "/personal-access-tokens/for-user", "POST": "POST" Person personal_token::create_for_user;
    "/personal-access-tokens/revoke/all", "DELETE": "DELETE" Person personal_token::revoke_all;
    "/personal-access-tokens/{id}", "DELETE": "DELETE" Person personal_token::revoke;
    "/settings", "GET, PATCH": "GET" Person settings::show, "PATCH" Person settings::update;
    "/catalog", "GET, PUT, DELETE":
        "GET" Person catalogue::show, "PUT" Person catalogue::import, "DELETE" Person catalogue::reset;
    "/clock/reset", "POST": "POST" Person settings::reset_clock;
    "/audit", "GET": "GET" Person audit::list_all;
    "/audit/verify", "GET": "GET" Person audit::verify;
    "/explain", "GET": "GET" Person explain::show;
    "/llm-gateway/config/{type}", "GET": "GET" Person limits::config;
    "/llm-gateway/config/budget/usage", "GET": "GET" Person limits::budget_usage;
    "/llm-gateway/rate-limits", "GET": "GET" Person limits::list_rates;
    "/llm-gateway/rate-limits/{id}", "GET": "GET" Person limits::show_rate;
    "/llm-gateway/budgets", "GET, PUT": "GET" Person limits::list_all, "PUT" Person limits::put;
    "/llm-gateway/budgets/my-usage", "GET": "GET" Token limits::my_usage;
    "/llm-gateway/budgets/simulate", "POST": "POST" Person limits::simulate;
    "/llm-gateway/budgets/{id}", "GET, DELETE":
        "GET" Person limits::show, "DELETE" Person limits::delete;
    "/llm-gateway/budgets/{id}/leaderboard", "GET": "GET" Person limits::leaderboard;
    "/usage/report", "GET": "GET" Person usage::report;
    "/usage/export", "GET": "GET" Export usage::export;
    "/logs", "GET": "GET" Person logs::list_all;
    "/logs/{request_id}", "GET": "GET" Person logs::show;
    "/backup", "GET": "GET" Export backup::create;
}

/// Answers one request of the management API. `None` is a caller without a token, or with a bad one.
pub fn handle(manage: &Manage, principal: Option<&Principal>, request: &Request) -> Response {
    match dispatch(manage, principal, request) {
        Ok(response) => response,
        Err(failure) => {
            let rendered = failure.render(Dialect::Management);
            Response {
                status: rendered.status,
                body: rendered.body,
                content_type: JSON,
                header: rendered.header,
                no_store: false,
                rest: None,
            }
        }
    }
}

fn dispatch(manage: &Manage, principal: Option<&Principal>, request: &Request) -> Result<Response> {
    let unknown = || Failure::NotFound("There is no such path in the management API".into());
    let path = request.path.strip_prefix(PREFIX).ok_or_else(unknown)?;
    let found = TABLE.iter().find_map(|route| Some((route, match_path(route.path, path)?)));
    let (route, raw_parameters) = found.ok_or_else(unknown)?;
    let handler = route.methods.iter().find(|(method, _)| *method == request.method);
    let (_, handler) = handler.ok_or(Failure::MethodNotAllowed { allow: route.allow })?;
    let call = || {
        let parameters: Option<_> = raw_parameters.iter().map(|raw| percent_decode(raw)).collect();
        let parameters =
            parameters.ok_or_else(|| Failure::BadRequest("The path holds a broken %-escape".into()))?;
        Ok(Call { manage, query: Query::parse(request.query)?, parameters, body: request.body })
    };
    let result = match handler {
        Handler::Document(text) => {
            return Ok(whole((*text).to_owned(), false));
        }
        Handler::Anyone(handler) => call().and_then(|call| handler(&call)),
        Handler::Token(handler) => {
            principal.ok_or(Failure::Unauthenticated).and_then(|principal| handler(&call()?, principal))
        }
        Handler::Person(handler) => principal.ok_or(Failure::Unauthenticated).and_then(|principal| {
            manage.require_person(principal)?;
            handler(&call()?, principal)
        }),
        Handler::Export(handler) => {
            let principal = principal.ok_or(Failure::Unauthenticated)?;
            let export = manage.require_person(principal).and_then(|()| handler(&call()?, principal));
            let refused =
                |failure: &Failure| audit::refused(manage, Some(principal), request, route.path, failure);
            let Export { content_type, first, rest } = export.inspect_err(refused)?;
            let no_store = matches!(rest, Rest::Backup(_));
            return Ok(Response { content_type, rest: Some(rest), ..whole(first, no_store) });
        }
    };
    let Answer { body, no_store } =
        result.inspect_err(|failure| audit::refused(manage, principal, request, route.path, failure))?;
    Ok(whole(body.to_string(), no_store))
}

fn whole(body: String, no_store: bool) -> Response {
    Response { status: 200, body, content_type: JSON, header: None, no_store, rest: None }
}

/// The raw parameters of a path that fits a template; an empty segment fits no parameter.
pub fn match_path<'p>(template: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut parameters = Vec::new();
    let (mut template, mut path) = (template.split('/'), path.split('/'));
    loop {
        match (template.next(), path.next()) {
            (None, None) => return Some(parameters),
            (Some(want), Some(given)) if want.starts_with('{') => {
                if given.is_empty() {
                    return None;
                }
                parameters.push(given);
            }
            (Some(want), Some(given)) if want == given => {}
            _ => return None,
        }
    }
}
