//! The shape of the house, checked on its source text: levels, size of files, and what must not be in them.
//! ARCHITECTURE.md says why.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a helper of a test may panic like the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each place under `src/` and its level. A place imports from its own level and from those below it, and no
/// circle may come of it.
const LEVELS: &[(&str, u8)] = &[
    ("clock", 0),
    ("domain", 0),
    ("http", 0),
    ("id", 0),
    ("metrics", 0),
    ("net", 0),
    ("secret", 0),
    ("wire", 0),
    ("archive", 1),
    ("config", 1),
    ("failure", 1),
    ("logging", 1),
    ("manifest", 1),
    ("password", 1),
    ("prices", 1),
    ("seal", 1),
    ("token", 1),
    ("store", 2),
    ("translate", 2),
    ("authn", 3),
    ("authz", 3),
    ("catalog", 3),
    ("limits", 3),
    ("oidc", 3),
    ("request_log", 3),
    ("upstream", 3),
    ("usage", 3),
    ("manage", 4),
    ("recovery", 4),
    ("relay", 4),
    ("api", 5),
    ("console", 5),
    ("ops", 5),
    ("cli", 6),
    ("server", 6),
    ("main", 6),
];

/// More than this is not read in one sitting.
const MAX_LINES: usize = 600;

struct Source {
    /// Relative to the repository, such as `src/store/mod.rs`.
    path: String,
    /// The place under `src/` that it belongs to, such as `store`.
    place: String,
    /// How many modules deep it is: 0 is the crate's root.
    depth: usize,
    /// Everything.
    text: String,
    /// Without comments and without unit tests.
    code: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files_below(&root().join("src"), &mut paths);
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(paths.len() > 20, "the sources were not found");
    paths.iter().map(|path| source(path)).collect()
}

fn source(path: &Path) -> Source {
    let relative = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    let module = relative.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
    let module = module.strip_suffix("/mod").unwrap_or(module);
    let place = module.split('/').next().unwrap().to_owned();
    let depth = if module == "main" { 0 } else { module.split('/').count() };
    let text = std::fs::read_to_string(path).unwrap();
    let is_test = module.split('/').any(|name| name == "tests" || name.ends_with("_tests"));
    let code = if is_test { String::new() } else { without_comments(&without_tests(&text)) };
    Source { path: relative, place, depth, text, code }
}

/// The text without what `#[cfg(test)]` stands before, its lines left empty: up to the end of the file for a
/// module, which by custom comes last, and to the brace of the same indentation for anything else.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let mut is_open = false;
            for line in lines.by_ref() {
                code.push('\n');
                if line.ends_with('{') && !is_open && line.split_whitespace().any(|word| word == "mod") {
                    return code;
                }
                is_open |= line.contains('{');
                if line == end || !is_open && line.ends_with(';') {
                    break;
                }
            }
        } else {
            code.push_str(line);
        }
        code.push('\n');
    }
    code
}

/// Rough: `//` in a string literal is taken for a comment unless a colon stands before it, as in a URL.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    for line in text.lines() {
        let comment =
            line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with([':', '"']));
        code.push_str(&line[..comment.unwrap_or(line.len())]);
        code.push('\n');
    }
    code
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The places that a source names as `crate::place`, in a group of a `use` or by way of `super`.
fn imports(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut roots = vec!["crate::".to_owned()];
    if source.depth > 0 {
        roots.push("super::".repeat(source.depth));
    }
    for root in roots {
        for (at, _) in source.code.match_indices(&root) {
            let before = &source.code[..at];
            if before.bytes().last().is_some_and(is_word) || before.ends_with("super::") {
                continue;
            }
            let rest = source.code[at + root.len()..].trim_start();
            match rest.strip_prefix('{') {
                Some(group) => found.extend(names_of_group(group)),
                None => found.extend(first_word(rest)),
            }
        }
    }
    // In an inline module `super` leads to its parent, which is no place.
    found.retain(|name| name != "super" && name != "self");
    found
}

fn first_word(text: &str) -> Option<String> {
    let end = text.bytes().position(|byte| !is_word(byte)).unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The first word of each member of a `{a, b::{c, d}}` whose opening brace is gone.
fn names_of_group(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, byte) in group.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth > 0 => depth -= 1,
            b',' | b'}' if depth == 0 => {
                names.extend(first_word(group[start..at].trim_start()));
                if byte == b'}' {
                    break;
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

fn level(place: &str) -> Option<u8> {
    LEVELS.iter().find(|(name, _)| *name == place).map(|(_, level)| *level)
}

/// Who imports whom, among the places; what else hangs off the root (a macro, say) is left out.
fn graph() -> BTreeMap<String, BTreeMap<String, String>> {
    let mut graph: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for source in sources() {
        let edges = graph.entry(source.place.clone()).or_default();
        for import in imports(&source) {
            if import != source.place && level(&import).is_some() {
                edges.entry(import).or_insert_with(|| source.path.clone());
            }
        }
    }
    graph
}

#[test]
fn every_place_has_a_level_and_stands_on_the_map() {
    let map = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut wrong = BTreeSet::new();
    for source in sources() {
        let place = &source.place;
        if level(place).is_none() {
            wrong.insert(format!("{}: '{place}' has no level in tests/architecture.rs", source.path));
        }
        if ![format!("`src/{place}.rs`"), format!("`src/{place}/")].iter().any(|name| map.contains(name)) {
            wrong.insert(format!("{}: ARCHITECTURE.md does not name it", source.path));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn imports_go_down() {
    let mut wrong = Vec::new();
    for (place, imports) in graph() {
        for (import, path) in imports {
            if level(&import) > level(&place) {
                wrong.push(format!("{path}: '{place}' imports '{import}' from a level above it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn imports_make_no_circle() {
    let graph = graph();
    let mut open: BTreeMap<_, BTreeSet<_>> =
        graph.iter().map(|(place, imports)| (place.clone(), imports.keys().cloned().collect())).collect();
    // Takes away whoever imports nobody that is left, until only circles and what leads into them are left.
    while let Some(free) = open.iter().find(|(_, imports)| imports.is_empty()).map(|(place, _)| place.clone())
    {
        open.remove(&free);
        for imports in open.values_mut() {
            imports.remove(&free);
        }
        let left: BTreeSet<_> = open.keys().cloned().collect();
        for imports in open.values_mut() {
            imports.retain(|import| left.contains(import));
        }
    }
    assert!(open.is_empty(), "a circle is among these: {open:#?}");
}

#[test]
fn files_are_read_in_one_sitting() {
    let long: Vec<_> = sources()
        .iter()
        .map(|source| (source.path.clone(), source.text.lines().count()))
        .filter(|(_, lines)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {long:#?}");
}

#[test]
fn product_code_has_no_panics_and_nothing_unsafe() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
    let banned = [
        ".unwrap()",
        ".unwrap_err()",
        ".expect(",
        ".expect_err(",
        "panic!(",
        "todo!(",
        "unimplemented!(",
        "unreachable!(",
        "dbg!(",
        "unsafe {",
        "unsafe fn",
        "unsafe impl",
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            if let Some(word) = banned.iter().find(|word| line.contains(**word)) {
                wrong.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What is checked into the repository besides binary files and generated ones.
fn written_files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "docs", "packaging", "benches"] {
        let folder = root().join(folder);
        if folder.is_dir() {
            files_below(&folder, &mut paths);
        }
    }
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "config.example.toml",
        "install.sh",
        "Cargo.toml",
        "deny.toml",
    ] {
        paths.push(root().join(name));
    }
    let own = Path::new(file!()).file_name().unwrap();
    paths
        .iter()
        .filter(|path| {
            path.file_name() != Some(own) && !path.components().any(|c| c.as_os_str() == "__pycache__")
        })
        .filter_map(|path| {
            let text = String::from_utf8(std::fs::read(path).unwrap()).ok()?;
            Some((path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text))
        })
        .collect()
}

#[test]
fn nothing_names_the_machine_that_it_was_written_on() {
    let mut wrong = Vec::new();
    for (path, text) in written_files() {
        for (number, line) in text.lines().enumerate() {
            if ["/work/", "/root/"].iter().any(|folder| line.contains(folder)) {
                wrong.push(format!("{path}:{}: {line}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn documents_point_at_files_that_exist() {
    let mut wrong = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        // Only what stands in backquotes as a path of this repository.
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path = ["src/", "tests/", "docs/", "benches/", "packaging/"]
                .iter()
                .any(|folder| quoted.starts_with(folder))
                && !quoted.contains([' ', '*', '\n']);
            if is_path && !root().join(quoted).exists() {
                wrong.push(format!("{name}: {quoted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "these do not exist: {wrong:#?}");
}

#[test]
fn the_check_sees_what_it_is_for() {
    let text = "use crate::{api, store::{World, Key}};\nuse crate::relay::x; // crate::server\n\
                fn f() { crate::ops::g(); super::cli::h(); super::super::usage::i(); }\n\
                impl X {\n    #[cfg(test)]\n    fn t() {\n        crate::server::x();\n    }\n\n    fn u() { crate::seal::y(); }\n}\n\
                #[cfg(test)]\npub(super) mod tests {\n use crate::main; }\n";
    let of = |depth| {
        let code = without_comments(&without_tests(text));
        let source =
            Source { path: String::new(), place: "net".to_owned(), depth, text: text.to_owned(), code };
        imports(&source).into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(1), "api cli ops relay seal store");
    assert_eq!(of(2), "api ops relay seal store usage");
    assert_eq!(without_comments("a(\"http://x\"); // b\n"), "a(\"http://x\"); \n");
}
