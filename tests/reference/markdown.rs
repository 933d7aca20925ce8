//! The reference of the command line as one page.

use std::fmt::Write as _;

use crate::help::Help;

/// The whole page.
pub fn page(tree: &Help) -> String {
    let mut page = String::from(
        "# The command line\n\n\
         What every command's `--help` prints, word for word. A test writes this page and fails when it falls behind.\n\n\
         | command | what |\n|---|---|\n",
    );
    for help in tree.all().into_iter().skip(1) {
        let name = help.words[1..].join(" ");
        let what = help.description.replace('\n', " ");
        writeln!(page, "| [{name}](#{}) | {} |", anchor(help), what.replace('|', "\\|")).unwrap();
    }
    for help in tree.all() {
        write!(page, "\n## {}\n\n```text\n{}\n```\n", help.words.join(" "), help.text).unwrap();
    }
    page
}

/// As the common renderers make it of a heading.
fn anchor(help: &Help) -> String {
    help.words.join("-")
}
