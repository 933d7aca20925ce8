//! Completions for the shells: commands, and options where they may stand. Values are the reader's own, files aside.

use std::fmt::Write as _;

use crate::help::Help;

const MADE: &str = "# Made from --help; a test writes it.\n";

/// Options that stand anywhere behind `gateway admin`, and whether a value follows.
fn everywhere(help: &Help, tree: &Help) -> Vec<(String, String, bool)> {
    let admin = tree.find(&["admin"]).unwrap();
    let inherits = help.words.len() > 2 && help.words[1] == "admin";
    let own = help.options.iter().map(|option| (help, option));
    let above = admin.options.iter().filter(|_| inherits).map(|option| (admin, option));
    let mut all: Vec<(String, String, bool)> = Vec::new();
    for (of, (name, meaning)) in own.chain(above) {
        if name.starts_with("--") && !all.iter().any(|(known, _, _)| known == name) {
            all.push((name.clone(), meaning.clone(), of.takes_value(name)));
        }
    }
    all.push(("--help".to_owned(), "display usage information".to_owned(), false));
    all
}

fn is_file(option: &str) -> bool {
    option.ends_with("-file") || matches!(option, "--config" | "--data-dir" | "--file" | "--invoice")
}

/// Every option of the program that a value follows: it and its value are no commands.
fn with_value(tree: &Help) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for help in tree.all() {
        let own = help.option_names().filter(|name| help.takes_value(name));
        names.extend(own.map(str::to_owned));
    }
    names.sort();
    names.dedup();
    names
}

/// For bash 4 and later.
pub fn bash(tree: &Help) -> String {
    let mut script = format!(
        "{MADE}_gateway() {{\n    \
         local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} path= i\n    \
         COMPREPLY=()\n    \
         for ((i = 1; i < COMP_CWORD; i++)); do\n        \
         case ${{COMP_WORDS[i]}} in\n            \
         {}) ((i++)) ;;\n            \
         -*) ;;\n            \
         *) path+=\" ${{COMP_WORDS[i]}}\" ;;\n        \
         esac\n    \
         done\n    \
         case $before in\n",
        with_value(tree).join(" | ")
    );
    let (files, others): (Vec<_>, Vec<_>) = with_value(tree).into_iter().partition(|option| is_file(option));
    write!(
        script,
        "        {})\n            compopt -o default 2>/dev/null\n            return\n            ;;\n        \
         {}) return ;;\n    esac\n    local commands= options=\n    case $path in\n",
        files.join(" | "),
        others.join(" | ")
    )
    .unwrap();
    for help in tree.all() {
        let path: String = help.words[1..].iter().map(|word| format!(" {word}")).collect();
        let commands: Vec<_> = help.commands.iter().map(|(name, _)| name.as_str()).collect();
        let options: Vec<_> = everywhere(help, tree).into_iter().map(|(name, _, _)| name).collect();
        // What stands behind the last command is a value of the reader's own.
        let pattern = if help.below.is_empty() { format!("'{path}'*") } else { format!("'{path}'") };
        write!(
            script,
            "        {pattern})\n            commands='{}'\n            options='{}'\n            ;;\n",
            commands.join(" "),
            options.join(" ")
        )
        .unwrap();
    }
    script.push_str(
        "    esac\n    \
         if [[ $word == -* ]]; then commands=$options; fi\n    \
         while read -r i; do\n        \
         if [[ -n $i ]]; then COMPREPLY+=(\"$i\"); fi\n    \
         done < <(compgen -W \"$commands\" -- \"$word\")\n\
         }\n\
         complete -F _gateway gateway\n",
    );
    script
}

/// For zsh, as a function of its completion system.
pub fn zsh(tree: &Help) -> String {
    let mut script = format!(
        "#compdef gateway\n{MADE}_gateway() {{\n    \
         local i word place=\n    \
         local -a commands options\n    \
         for ((i = 2; i < CURRENT; i++)); do\n        \
         word=${{words[i]}}\n        \
         case $word in\n            \
         ({}) ((i++)) ;;\n            \
         (-*) ;;\n            \
         (*) place+=\" $word\" ;;\n        \
         esac\n    \
         done\n    \
         case ${{words[CURRENT-1]}} in\n        ",
        with_value(tree).join("|")
    );
    let (files, others): (Vec<_>, Vec<_>) = with_value(tree).into_iter().partition(|option| is_file(option));
    write!(
        script,
        "({}) _files; return ;;\n        ({}) return 1 ;;\n    esac\n    case $place in\n",
        files.join("|"),
        others.join("|")
    )
    .unwrap();
    for help in tree.all() {
        let path: String = help.words[1..].iter().map(|word| format!(" {word}")).collect();
        let pattern = if help.below.is_empty() { format!("('{path}'*)") } else { format!("('{path}')") };
        writeln!(script, "        {pattern}").unwrap();
        for (list, entries) in [
            ("commands", help.commands.clone()),
            (
                "options",
                everywhere(help, tree).into_iter().map(|(name, meaning, _)| (name, meaning)).collect(),
            ),
        ] {
            writeln!(script, "            {list}=(").unwrap();
            for (name, meaning) in entries {
                writeln!(script, "                '{}:{}'", name, meaning.replace('\'', "'\\''")).unwrap();
            }
            script.push_str("            )\n");
        }
        script.push_str("            ;;\n");
    }
    script.push_str(
        "    esac\n    \
         if [[ ${words[CURRENT]} == -* ]]; then\n        \
         _describe -o option options\n    \
         else\n        \
         _describe command commands\n    \
         fi\n\
         }\n\
         _gateway \"$@\"\n",
    );
    script
}

/// For fish 3 and later.
pub fn fish(tree: &Help) -> String {
    let mut script = format!(
        "{MADE}function __gateway_at\n    \
         set -l place\n    \
         set -l value no\n    \
         for word in (commandline -opc)[2..]\n        \
         if test $value = yes\n            \
         set value no\n            \
         continue\n        \
         end\n        \
         switch $word\n            \
         case {}\n                \
         set value yes\n            \
         case '-*'\n            \
         case '*'\n                \
         set -a place $word\n        \
         end\n    \
         end\n    \
         if test $argv[1] = within\n        \
         string match -q -- \"$argv[2..] *\" \"$place \"\n    \
         else\n        \
         test \"$place\" = \"$argv[2..]\"\n    \
         end\n\
         end\n\
         complete -c gateway -f\n",
        with_value(tree).join(" ")
    );
    for help in tree.all() {
        let place = help.words[1..].join(" ");
        for (name, meaning) in &help.commands {
            writeln!(
                script,
                "complete -c gateway -n '__gateway_at exactly {place}' -a {name} -d {}",
                quoted(meaning)
            )
            .unwrap();
        }
        let manner = if help.below.is_empty() { "within" } else { "exactly" };
        for (name, meaning, takes_value) in everywhere(help, tree) {
            let value = match (takes_value, is_file(&name)) {
                (true, true) => " -r -F",
                (true, false) => " -x",
                (false, _) => "",
            };
            writeln!(
                script,
                "complete -c gateway -n '__gateway_at {manner} {place}' -l {}{value} -d {}",
                &name[2..],
                quoted(&meaning)
            )
            .unwrap();
        }
    }
    script
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
