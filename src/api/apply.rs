//! Manifests over HTTP: applying one or many, deleting by one, and reading one.

use serde_json::{Map, Value, json};

use super::fields::Fields;
use super::{Answer, Call, Result, account, answer, data, subject, team, user, virtual_account};
use crate::domain::Principal;
use crate::failure::Failure;
use crate::manage::{AccessDiff, AccessLine, Applied, Effect, MAX_DOCUMENTS, Manage, Manner, Outcome, Shown};
use crate::manifest::{self, Document};

/// Manifests of one question for the dependency tree.
const MAX_TREE: usize = 10_000;

fn object(call: &Call, principal: &Principal, outcome: &Outcome) -> Value {
    let Some(shown) = &outcome.object else { return Value::Null };
    match shown {
        Shown::User(one) => user::shape(call, principal, one),
        Shown::Team(one) => team::shape(call, principal, one),
        Shown::Account(one) => account::shape(call, one),
        Shown::VirtualAccount(one) => virtual_account::shape(call, one),
        Shown::Settings(one) => manifest::settings(one),
        Shown::Limits(one) => super::limits::shape(call, one),
        Shown::RoleBinding(manifest) => json!({
            "name": manifest.get("name"),
            "accountId": call.manage.tenant,
            "manifest": manifest,
            "createdBySubject": subject::administrators(),
        }),
    }
}

fn line(line: &AccessLine) -> Value {
    json!({"subject": line.subject, "model": line.model, "role": line.role})
}

/// What a change does to access, as JSON.
pub fn access(diff: &AccessDiff) -> Value {
    let lines = |lines: &[AccessLine]| lines.iter().map(line).collect::<Vec<_>>();
    json!({"gains": lines(&diff.gains), "loses": lines(&diff.loses), "truncated": diff.truncated})
}

/// Does something, or tries it and says who would gain and who would lose what.
pub fn attempt<T>(
    call: &Call,
    dry_run: bool,
    operation: impl FnOnce(&Manage) -> Result<T>,
    shape: impl FnOnce(T) -> Value,
) -> Result {
    if !dry_run {
        return answer(shape(operation(call.manage)?));
    }
    let (_, diff) = call.manage.dry_run(operation)?;
    answer(json!({ "access": access(&diff) }))
}

/// Reads a manifest, but not for one who could not apply it anyway.
fn document(call: &Call, principal: &Principal, fields: Fields) -> Result<Document> {
    let mut head = fields.clone();
    let (kind, name) = manifest::kind_of(&mut head)?;
    call.manage.require_applier(principal, &kind, &name)?;
    manifest::read(fields)
}

fn all(
    call: &Call,
    principal: &Principal,
    documents: &[Document],
    manner: Manner,
    dry_run: bool,
) -> Result<(Vec<Outcome>, Option<AccessDiff>)> {
    let apply = |manage: &Manage| manage.apply(principal, documents, manner);
    if dry_run {
        let (Applied { outcomes }, diff) = call.manage.dry_run(apply)?;
        return Ok((outcomes, Some(diff)));
    }
    Ok((apply(call.manage)?.outcomes, None))
}

fn one(
    call: &Call,
    principal: &Principal,
    document: Document,
    manner: Manner,
    dry_run: bool,
) -> Result<(Outcome, Option<AccessDiff>)> {
    let (outcomes, diff) = all(call, principal, &[document], manner, dry_run)?;
    let outcome = outcomes.into_iter().next().ok_or(Failure::Internal)?;
    Ok((outcome, diff))
}

/// The body of `{manifest, dryRun}` for one type of manifest; the answer is `{data}`.
pub fn put(call: &Call, principal: &Principal, kind: &str, must_be_new: bool) -> Result {
    if must_be_new || !kind.starts_with("provider-account") {
        call.manage.require_admin(principal)?;
    }
    let mut fields = call.fields()?;
    let manifest = fields.manifest()?;
    let dry_run = fields.flag("dryRun")?;
    fields.finish()?;
    let document = document(call, principal, manifest)?;
    if document.kind() != kind && !(kind.ends_with('/') && document.kind().starts_with(kind)) {
        let wanted = if kind.ends_with('/') { format!("{kind}PROVIDER") } else { kind.to_owned() };
        return Err(Failure::Unprocessable(format!("The field 'manifest.type' must be '{wanted}'").into()));
    }
    let manner = Manner { must_be_new, ..Manner::default() };
    let (outcome, diff) = one(call, principal, document, manner, dry_run)?;
    let object = object(call, principal, &outcome);
    match diff {
        Some(diff) => answer(json!({"data": object, "access": access(&diff)})),
        None => data(object),
    }
}

/// `PUT /apply`
pub fn apply(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let manifest = fields.manifest()?;
    let dry_run = fields.flag("dryRun")?;
    let tokens_may_end = fields.flag("force")?;
    fields.finish()?;
    let document = document(call, principal, manifest)?;
    let manner = Manner { tokens_may_end, ..Manner::default() };
    let (outcome, diff) = one(call, principal, document, manner, dry_run)?;
    let mut body = Map::new();
    if let Some(existing) = &outcome.existing {
        body.insert("existingManifest".into(), existing.clone());
    }
    let action = if outcome.existing.is_none() { "CREATE" } else { "UPDATE" };
    body.insert("action".into(), action.into());
    body.insert("data".into(), object(call, principal, &outcome));
    if let Some(diff) = diff {
        body.insert("access".into(), access(&diff));
    }
    // What the caller sent may hold a secret, and comes back to whoever knows it.
    Ok(Answer { body: body.into(), no_store: true })
}

/// `POST /manifests`
pub fn apply_all(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let manifests = fields.manifests()?;
    let dry_run = fields.flag("dryRun")?;
    let tokens_may_end = fields.flag("force")?;
    fields.finish()?;
    if manifests.len() > MAX_DOCUMENTS {
        let text = format!("At most {MAX_DOCUMENTS} manifests are applied at once");
        return Err(Failure::Unprocessable(text.into()));
    }
    let documents: Vec<Document> =
        manifests.into_iter().map(|one| document(call, principal, one)).collect::<Result<_>>()?;
    let manner = Manner { tokens_may_end, must_be_new: false, many: true };
    let (outcomes, diff) = all(call, principal, &documents, manner, dry_run)?;
    let lines: Vec<Value> = documents
        .iter()
        .zip(&outcomes)
        .map(|(document, outcome)| {
            let action = match outcome.action {
                Effect::Create => "CREATE",
                Effect::Update => "UPDATE",
                Effect::Unchanged => "UNCHANGED",
            };
            json!({"type": document.kind(), "name": document.name(), "action": action})
        })
        .collect();
    let mut body = json!({ "data": lines });
    if let (Some(diff), Value::Object(fields)) = (diff, &mut body) {
        fields.insert("access".into(), access(&diff));
    }
    answer(body)
}

/// `POST /delete`
pub fn delete(call: &Call, principal: &Principal) -> Result {
    let mut fields = call.fields()?;
    let mut manifest = fields.manifest()?;
    let dry_run = fields.flag("dryRun")?;
    fields.finish()?;
    let (kind, name) = manifest::kind_of(&mut manifest)?;
    attempt(call, dry_run, |manage| manage.delete_by_manifest(principal, &kind, &name), |()| json!({}))
}

/// `POST /dependency-tree`: none depends on another, so that a dry run shows them all. The CLI drops what is not
/// named here.
pub fn dependency_tree(call: &Call, _: &Principal) -> Result {
    let mut fields = call.fields()?;
    let manifests = fields.manifests()?;
    fields.finish()?;
    if manifests.len() > MAX_TREE {
        return Err(Failure::Unprocessable(format!("At most {MAX_TREE} manifests at once").into()));
    }
    let mut tree = Vec::with_capacity(manifests.len());
    for mut one in manifests {
        let kind = one.required_text("type")?;
        let name = one.text("name")?.unwrap_or_else(|| kind.clone());
        tree.push(json!({"resourceType": kind, "resourceName": name, "dependencies": []}));
    }
    data(tree.into())
}

/// `GET /manifests/{kind}/{name}`
pub fn export(call: &Call, principal: &Principal) -> Result {
    let manifest = call.manage.export(principal, call.id(), call.second_id())?;
    answer(json!({ "manifest": manifest }))
}
