//! Trials of changes: who would gain and who would lose what.

use serde_json::Value;

use super::admin::Context;
use super::failure::Failure;
use super::input::with_query;
use super::output::text;

/// Asks the gateway what a change would do, changes nothing, and shows it.
///
/// # Errors
/// Why the change would be refused, or the question was.
pub fn trial(context: &Context<'_>, method: &str, path: &str, body: Option<Value>) -> Result<(), Failure> {
    let answer = match body {
        Some(mut body) => {
            if let Value::Object(fields) = &mut body {
                fields.insert("dryRun".to_owned(), true.into());
            }
            context.client.call(method, path, Some(&body))?
        }
        None => context.client.call(method, &with_query(path, &[("dryRun", Some("true"))]), None)?,
    };
    let mut lines = lines(&answer, true);
    if lines.is_empty() {
        lines.push("Nobody would gain or lose access.".to_owned());
    }
    context.output.lines(&lines, &answer)
}

/// Who gains and who loses what by a change, line by line.
pub fn lines(answer: &Value, dry_run: bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (pointer, real, tried) in
        [("/access/gains", "gains", "would gain"), ("/access/loses", "loses", "would lose")]
    {
        let verb = if dry_run { tried } else { real };
        let rows = answer.pointer(pointer).and_then(Value::as_array).into_iter().flatten();
        lines.extend(rows.map(|row| {
            let at = |pointer| text(row, &[pointer]);
            format!("{} {verb} {} on {}", at("/subject"), at("/role"), at("/model"))
        }));
    }
    if answer.pointer("/access/truncated").and_then(Value::as_bool) == Some(true) {
        lines.push("... and more than is shown here".to_owned());
    }
    lines
}
