//! `gateway admin export`

use std::collections::BTreeSet;

use argh::FromArgs;
use serde_json::Value;

use super::admin::Open;
use super::failure::Failure;
use super::input::path;
use crate::domain::LimitKind;

/// Print a manifest that makes the same again when it is applied; secrets are left out.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "export",
    help_triggers("-h", "--help"),
    example = "{command_name} team/research\n\
    {command_name} provider-account/main --output json\n\
    {command_name} virtual-account/search-bot > search-bot.yaml\n\
    {command_name} settings",
    note = "Printed as YAML, with --output json as JSON; 'gateway admin apply' reads both.",
    note = "A second application with the same access: export its virtual account, change the name, apply."
)]
pub struct Export {
    /// KIND/NAME: user, team, provider-account or virtual-account; or settings,
    /// gateway-budget-config or gateway-rate-limiting-config
    #[argh(positional)]
    object: String,
}

impl Export {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let (kind, name) = match self.object.split_once('/') {
            Some(parts) => parts,
            // There is only one.
            None if self.object == "settings" => ("settings", "settings"),
            None if LimitKind::parse(&self.object).is_some() => (self.object.as_str(), self.object.as_str()),
            None => return Err(Failure::Usage(format!("Write '{}' as KIND/NAME.", self.object))),
        };
        let path = path(&["manifests", kind, name])?;
        let context = open()?;
        let answer = context.client.call("GET", &path, None)?;
        let nothing = || Failure::Input("the gateway answered without a manifest".to_owned());
        let manifest = answer.get("manifest").filter(|manifest| manifest.is_object()).ok_or_else(nothing)?;
        context.output.document(&yaml(manifest)?, manifest)
    }
}

fn yaml(manifest: &Value) -> Result<String, Failure> {
    let mut text = serde_saphyr::to_string(manifest)
        .map_err(|error| Failure::Input(format!("the manifest can not be written as YAML: {error}")))?;
    if text.contains(turns_text) {
        // The crate leaves these as they are. JSON is YAML too, and there they stand in quotes, where an escape may.
        text = format!("{manifest:#}");
        for turn in text.chars().filter(|c| turns_text(*c)).collect::<BTreeSet<char>>() {
            text = text.replace(turn, &format!("\\u{:04x}", u32::from(turn)));
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Turns the direction of what a terminal shows, so that it reads as something else.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_reads_back_as_it_was() {
        let hard = vec![
            "yes",
            "no",
            "null",
            "~",
            "1",
            "1.5",
            "0x10",
            "1e3",
            "2027-01-01",
            "",
            " a ",
            "a: b",
            "# a",
            "- a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "a\nb",
            "a\n\nb\n",
            "\t",
            "a\u{1b}[31m",
            "'",
            "\"",
            "\\",
            "{a}",
            "[a]",
            "a#b",
            "true",
            ".inf",
            "---",
            "...",
            "ü",
            "010",
            "1_000",
            "<<",
            "=",
            "a\r\nb",
            "\u{85}",
            "\u{feff}a",
        ];
        let long = "word ".repeat(60);
        let mut manifest = json!({
            "type": "team",
            "texts": hard,
            "map": hard.iter().map(|text| ((*text).to_owned(), json!(text))).collect::<serde_json::Map<_, _>>(),
            "long": long,
            "number": 1.25, "count": 3, "flag": false, "nothing": null, "empty": [], "none": {},
            "nested": [{"a": [{"b": []}]}],
        });
        let text = yaml(&manifest).unwrap();
        let back: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(back, manifest, "{text}");
        assert!(text.starts_with("count: 3\n") && !text.contains('\u{1b}'), "{text:?}");

        manifest["turned"] = json!({"a\u{202e}b": "c\u{2066}\n\u{1b}"});
        let text = yaml(&manifest).unwrap();
        let back: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(back, manifest, "{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{2066}']), "{text:?}");
    }
}
