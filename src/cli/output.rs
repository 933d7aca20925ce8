//! What commands print: aligned tables for people, JSON for programs, errors on standard error.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use argh::FromArgValue;
use serde_json::{Value, json};

use super::failure::Failure;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromArgValue)]
pub enum Format {
    /// Aligned columns under a header.
    Table,
    /// The management API's own JSON.
    Json,
}

/// One column of a table, or one line of a single object.
pub struct Column {
    /// The header.
    pub title: &'static str,
    /// What stands in it for an object of the API.
    pub cell: fn(&Value) -> String,
}

/// Standard output and standard error of a command.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
}

impl Output {
    /// Output in that format.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Writes text to standard output as it is.
    ///
    /// # Errors
    /// `ClosedPipe` when nobody reads it any more.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::ClosedPipe),
            Err(error) => Err(Failure::Output(error)),
        }
    }

    /// Writes a line to standard error; nobody to read it is no failure.
    pub fn note(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Writes JSON to standard output.
    ///
    /// # Errors
    /// As of `print`.
    pub fn json(&self, value: &Value) -> Result<(), Failure> {
        self.print(&format!("{value:#}\n"))
    }

    /// A list: a table, or the array.
    ///
    /// # Errors
    /// As of `print`.
    pub fn list(&self, columns: &[Column], rows: Vec<Value>) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(&Value::Array(rows)),
            Format::Table => {
                let header = columns.iter().map(|column| column.title.to_owned()).collect();
                let cells = rows.iter().map(|row| columns.iter().map(|column| (column.cell)(row)).collect());
                self.print(&table(std::iter::once(header).chain(cells).collect()))
            }
        }
    }

    /// A list that may be long: a table, or each entry as a line of JSON.
    ///
    /// # Errors
    /// As of `print`.
    pub fn entries(&self, columns: &[Column], rows: Vec<Value>) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.print(&rows.iter().map(|row| format!("{row}\n")).collect::<String>()),
            Format::Table => self.list(columns, rows),
        }
    }

    /// An answer in a few sentences, or as the API gave it.
    ///
    /// # Errors
    /// As of `print`.
    pub fn said(&self, sentences: &str, answer: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(answer),
            Format::Table => {
                let lines: Vec<String> = sentences.lines().map(printable).collect();
                self.print(&format!("{}\n", lines.join("\n")))
            }
        }
    }

    /// One object: a line for each field, or the object.
    ///
    /// # Errors
    /// As of `print`.
    pub fn object(&self, fields: &[Column], value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(value),
            Format::Table => {
                let lines = fields.iter().map(|field| vec![field.title.to_owned(), (field.cell)(value)]);
                self.print(&table(lines.collect()))
            }
        }
    }

    /// That a change is done: a sentence, or what the API answered.
    ///
    /// # Errors
    /// As of `print`.
    pub fn done(&self, sentence: &str, answer: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(answer),
            Format::Table => self.print(&format!("{}\n", printable(sentence))),
        }
    }

    /// What was done, line by line, or what the API answered.
    ///
    /// # Errors
    /// As of `print`.
    pub fn lines(&self, lines: &[String], answer: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(answer),
            Format::Table => {
                self.print(&lines.iter().map(|line| format!("{}\n", printable(line))).collect::<String>())
            }
        }
    }

    /// A document for another program to read: as it is, or as JSON.
    ///
    /// # Errors
    /// As of `print`.
    pub fn document(&self, text: &str, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(value),
            Format::Table => self.print(text),
        }
    }

    /// A new token: alone on standard output, what there is to know about it on standard error.
    ///
    /// # Errors
    /// As of `print`.
    pub fn token(&self, answer: &Value) -> Result<(), Failure> {
        if self.format == Format::Json {
            return self.json(answer);
        }
        let Some(token) = answer.get("token").and_then(Value::as_str) else {
            return Err(Failure::Input("the gateway answered without a token".to_owned()));
        };
        let at = |pointer: &str| text(answer, &[pointer]);
        self.note(&format!(
            "token {} of {}, expires {}",
            at("/data/id"),
            at("/data/owner"),
            match at("/data/expiresAt").as_str() {
                "-" => "never".to_owned(),
                time => time.to_owned(),
            }
        ));
        self.note("It is shown once; only a hash of it is kept:");
        self.print(&format!("{token}\n"))
    }

    /// Ends the command with the exit code that its result means.
    pub fn finish(&self, result: Result<(), Failure>) -> ExitCode {
        match result {
            Ok(()) | Err(Failure::ClosedPipe) => ExitCode::SUCCESS,
            Err(Failure::No) => ExitCode::FAILURE,
            Err(failure) => self.fail(&failure),
        }
    }

    /// Says on standard error what went wrong.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        match self.format {
            Format::Json => {
                self.note(
                    &json!({"error": {"status": failure.status(), "message": failure.to_string()}})
                        .to_string(),
                );
            }
            Format::Table => {
                let message = failure.to_string();
                let lines: Vec<String> = message.lines().map(printable).collect();
                self.note(&format!("gateway: {}", lines.join("\n")));
            }
        }
        ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
    }
}

/// Aligns rows of cells. The last cell of a row is not padded.
fn table(rows: Vec<Vec<String>>) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut lines = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let width = *width;
            line.push_str(&format!("{cell:<width$}  "));
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// Names and descriptions are other people's words: what could steer a terminal shows as an escape.
fn printable(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .flat_map(|c| if steers(c) { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// What stands at the first of the JSON pointers that leads to something, in one line; `-` for nothing.
pub fn text(value: &Value, pointers: &[&str]) -> String {
    let found = pointers.iter().filter_map(|pointer| value.pointer(pointer)).find(|found| !found.is_null());
    let shown = found.map(plain).unwrap_or_default();
    if shown.is_empty() { "-".to_owned() } else { printable(&shown) }
}

/// How many entries the list at a pointer has.
pub fn count(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .map_or_else(|| "-".to_owned(), |list| list.len().to_string())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        Value::Object(map) => {
            map.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect::<Vec<_>>().join(",")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["NAME", "N", "LAST"], ["zoë", "12345", "x"], ["longer", "1", ""]];
        let rows = rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        assert_eq!(table(rows), "NAME    N      LAST\nzoë     12345  x\nlonger  1\n");
        assert_eq!(table(Vec::new()), "");
    }

    #[test]
    fn cells() {
        let value = json!({"a": null, "b": {"c": ["x", 1, true]}, "t": {"k": "v"}, "e": "", "bad": "a\u{1b}[31m\nb\u{202e}"});
        assert_eq!(text(&value, &["/a", "/b/c"]), "x,1,yes");
        assert_eq!(text(&value, &["/t"]), "k=v");
        assert_eq!(text(&value, &["/a"]), "-");
        assert_eq!(text(&value, &["/e"]), "-");
        assert_eq!(text(&value, &["/bad"]), "a\\u{1b}[31m\\nb\\u{202e}");
        assert_eq!(count(&value, "/b/c"), "3");
    }
}
