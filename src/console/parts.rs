//! The parts that pages are made of. Whatever is shown is escaped by `maud`; names that people chose stand in
//! elements with `dir="auto"`, so that a right-to-left one turns nothing around it.

use maud::{Markup, Render, html};

use super::visit::{Page, Visit};
use crate::clock::UnixMillis;
use crate::domain::Money;

/// A form that changes something: `POST`, with the token that every one carries.
pub fn form(visit: &Visit, action: &str, content: Markup) -> Markup {
    html! {
        form.fields method="post" action=(action) autocomplete="off" {
            input type="hidden" name="form-token" value=(visit.form_token);
            (content)
        }
    }
}

/// A form of one button and hidden fields, for what needs no confirmation.
pub fn button_form(visit: &Visit, action: &str, button: &str, hidden: &[(&str, &str)]) -> Markup {
    html! {
        form.inline method="post" action=(action) {
            input type="hidden" name="form-token" value=(visit.form_token);
            @for (name, value) in hidden { input type="hidden" name=(name) value=(value); }
            button type="submit" { (button) }
        }
    }
}

/// One field of a form. Begin with [`field`], then say more of it.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    name: &'a str,
    label: &'a str,
    kind: &'a str,
    value: &'a str,
    hint: &'a str,
    placeholder: &'a str,
    choices: Option<&'a [(&'a str, &'a str)]>,
    rows: u8,
    is_required: bool,
    is_checked: bool,
    autocomplete: &'a str,
    suggestions: &'a [String],
}

/// A text field. `value` is what is in it; give what the form was sent with when it is shown again.
pub fn field<'a>(name: &'a str, label: &'a str, value: &'a str) -> Field<'a> {
    Field {
        name,
        label,
        kind: "text",
        value,
        hint: "",
        placeholder: "",
        choices: None,
        rows: 0,
        is_required: false,
        is_checked: false,
        autocomplete: "off",
        suggestions: &[],
    }
}

/// A checkbox; its value is `on` when it is set.
pub fn checkbox<'a>(name: &'a str, label: &'a str, is_checked: bool) -> Field<'a> {
    Field { kind: "checkbox", is_checked, ..field(name, label, "on") }
}

impl<'a> Field<'a> {
    /// It must be filled in.
    #[must_use]
    pub fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    /// A sentence below the label.
    #[must_use]
    pub fn hint(self, hint: &'a str) -> Self {
        Self { hint, ..self }
    }

    /// An example in the empty field.
    #[must_use]
    pub fn placeholder(self, placeholder: &'a str) -> Self {
        Self { placeholder, ..self }
    }

    /// The `type` of the input: `email`, `number`, `date`, `url`. A `password` never gets its value back.
    #[must_use]
    pub fn kind(self, kind: &'a str) -> Self {
        Self { kind, ..self }
    }

    /// For `autocomplete`, such as `current-password`.
    #[must_use]
    pub fn autocomplete(self, autocomplete: &'a str) -> Self {
        Self { autocomplete, ..self }
    }

    /// A list to choose from: value and text of each.
    #[must_use]
    pub fn choices(self, choices: &'a [(&'a str, &'a str)]) -> Self {
        Self { choices: Some(choices), ..self }
    }

    /// Several lines.
    #[must_use]
    pub fn rows(self, rows: u8) -> Self {
        Self { rows, ..self }
    }

    /// Values that the browser offers while one types. Give a few hundred at most.
    #[must_use]
    pub fn suggestions(self, suggestions: &'a [String]) -> Self {
        Self { suggestions, ..self }
    }
}

impl Render for Field<'_> {
    fn render(&self) -> Markup {
        let id = format!("field-{}", self.name);
        let hint_id = format!("hint-{}", self.name);
        let list_id = format!("list-{}", self.name);
        let described = (!self.hint.is_empty()).then_some(&hint_id);
        let value = if self.kind == "password" { "" } else { self.value };
        let placeholder = (!self.placeholder.is_empty()).then_some(self.placeholder);
        let hint = html! { @if !self.hint.is_empty() { p.hint id=(hint_id) { (self.hint) } } };
        if self.kind == "checkbox" {
            return html! {
                div.field.check {
                    input id=(id) type="checkbox" name=(self.name) value=(value) checked[self.is_checked]
                        aria-describedby=[described];
                    label for=(id) { (self.label) }
                    (hint)
                }
            };
        }
        html! {
            div.field {
                label for=(id) { (self.label) @if self.is_required { span.required aria-hidden="true" { " *" } } }
                (hint)
                @if let Some(choices) = self.choices {
                    select id=(id) name=(self.name) required[self.is_required] aria-describedby=[described] {
                        @for (choice, text) in choices {
                            option value=(choice) selected[*choice == self.value] { (text) }
                        }
                    }
                } @else if self.rows > 0 {
                    textarea id=(id) name=(self.name) rows=(self.rows) required[self.is_required] dir="auto"
                        spellcheck="false" placeholder=[placeholder] aria-describedby=[described] { "\n" (value) }
                } @else {
                    input id=(id) type=(self.kind) name=(self.name) value=(value) required[self.is_required]
                        autocomplete=(self.autocomplete) placeholder=[placeholder] aria-describedby=[described]
                        list=[(!self.suggestions.is_empty()).then_some(&list_id)];
                    @if !self.suggestions.is_empty() {
                        datalist id=(list_id) { @for one in self.suggestions { option value=(one); } }
                    }
                }
            }
        }
    }
}

/// The button that sends a form, and the way back.
pub fn buttons(send: &str, back: Option<&str>) -> Markup {
    html! {
        div.buttons {
            button.primary type="submit" { (send) }
            @if let Some(back) = back { a.button href=(back) { "Cancel" } }
        }
    }
}

/// A question before something is destroyed.
pub struct Confirm<'a> {
    /// Such as "Revoke the token 'laptop'?".
    pub title: String,
    /// Each thing that will be lost or end, one sentence each.
    pub losses: Vec<String>,
    /// Where the form goes.
    pub action: &'a str,
    /// Such as "Revoke the token".
    pub button: &'a str,
    /// The page to go back to.
    pub back: &'a str,
    /// More fields of the form.
    pub hidden: &'a [(&'a str, &'a str)],
}

/// The page that asks before something is destroyed and names what is lost.
pub fn confirm(visit: &Visit, confirm: &Confirm) -> Page {
    let body = html! {
        div.card.danger {
            @if confirm.losses.len() == 1 {
                @for loss in &confirm.losses { p dir="auto" { (loss) } }
            } @else {
                p { "This will happen:" }
                ul { @for loss in &confirm.losses { li dir="auto" { (loss) } } }
            }
            (form(visit, confirm.action, html! {
                @for (name, value) in confirm.hidden { input type="hidden" name=(name) value=(value); }
                div.buttons {
                    button.danger type="submit" { (confirm.button) }
                    a.button href=(confirm.back) { "Cancel" }
                }
            }))
        }
    };
    Page::new(confirm.title.clone(), body)
}

/// What stands where a list would be: what to do first.
pub fn empty(sentence: &str, action: Option<(&str, &str)>) -> Markup {
    html! {
        div.empty {
            p { (sentence) }
            @if let Some((path, text)) = action { a.button.primary href=(path) { (text) } }
        }
    }
}

/// How a [`badge`] looks; its text says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// In order.
    Good,
    /// Worth a look.
    Warning,
    /// Over, failed or refused.
    Bad,
}

/// A word with a colour.
pub fn badge(tone: Tone, text: &str) -> Markup {
    let class = match tone {
        Tone::Plain => "badge",
        Tone::Good => "badge good",
        Tone::Warning => "badge warning",
        Tone::Bad => "badge bad",
    };
    html! { span class=(class) { (text) } }
}

/// A moment: UTC as it is sent, in the viewer's own zone once the script has run, with UTC on hover.
pub fn time(at: UnixMillis) -> Markup {
    let iso = at.to_iso();
    let minute = iso.get(..16).unwrap_or(&iso).replace('T', " ");
    let second = iso.get(..19).unwrap_or(&iso).replace('T', " ");
    html! { time datetime=(iso) title={ (second) " UTC" } { (minute) " UTC" } }
}

/// A moment, or a word where there is none, such as "never".
pub fn time_or(at: Option<UnixMillis>, none: &str) -> Markup {
    html! { @match at { Some(at) => (time(at)), None => span.quiet { (none) } } }
}

/// An amount of money for people: to the cent, small ones to four digits, the exact one on hover.
pub fn money(amount: Money) -> Markup {
    let exact = amount.to_string();
    let (whole, fraction) = exact.split_once('.').unwrap_or((&exact, ""));
    let digits = if whole == "0" || whole == "-0" { 4 } else { 2 };
    let shown: String = format!("{fraction:0<digits$}").chars().take(digits).collect();
    let shown = if shown == "0000" && amount != Money::ZERO {
        "less than $0.0001".to_owned()
    } else if amount == Money::ZERO {
        "$0.00".to_owned()
    } else {
        format!("${}.{shown}", thousands(whole))
    };
    html! { span.number title={ "$" (exact) } { (shown) } }
}

/// A number for people: `1,234,567`.
pub fn number(number: u64) -> Markup {
    html! { span.number { (thousands(&number.to_string())) } }
}

fn thousands(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len() - at;
        if at > 0 && left.is_multiple_of(3) && text != "-" {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text to be copied: code, a URL, a secret that is shown once. The script adds the button.
pub fn copyable(text: &str) -> Markup {
    html! { div.copyable { pre tabindex="0" { code { (text) } } } }
}

/// One tab of [`tabs`].
#[derive(Clone, Copy, Debug)]
pub struct Tab<'a> {
    /// Where it leads.
    pub path: &'a str,
    /// What it is called.
    pub title: &'a str,
    /// It is the one that is shown.
    pub is_here: bool,
}

/// Links to the parts of one thing.
pub fn tabs(label: &str, tabs: &[Tab]) -> Markup {
    html! {
        nav.tabs aria-label=(label) {
            ul {
                @for tab in tabs {
                    li { a href=(tab.path) aria-current=[tab.is_here.then_some("page")] { (tab.title) } }
                }
            }
        }
    }
}

/// How much of something is used, in percent; what is over is full. `label` says it in words.
pub fn bar(percent: u64, label: &str) -> Markup {
    let class = match percent {
        0..80 => "bar",
        80..100 => "bar warning",
        _ => "bar bad",
    };
    html! {
        svg class=(class) viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label=(label) {
            rect.track width="100" height="8" {}
            rect.fill width=(percent.min(100)) height="8" {}
        }
    }
}

/// A list of names and values.
pub fn definitions(pairs: &[(&str, Markup)]) -> Markup {
    html! { dl.definitions { @for (name, value) in pairs { div { dt { (name) } dd dir="auto" { (value) } } } } }
}

/// A part of a page with a heading.
pub fn card(title: &str, body: Markup) -> Markup {
    html! { section.card { h2 { (title) } (body) } }
}

/// A name that somebody chose.
pub fn name(text: &str) -> Markup {
    html! { bdi.name { (text) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_money_are_for_people() {
        let shown = |text: &str| money(Money::parse(text).unwrap()).into_string();
        for (exact, wanted) in [
            ("0", ">$0.00<"),
            ("1234567.891", ">$1,234,567.89<"),
            ("0.25", ">$0.2500<"),
            ("0.000000001", ">less than $0.0001<"),
            ("3", ">$3.00<"),
        ] {
            assert!(shown(exact).contains(wanted), "{exact}: {}", shown(exact));
        }
        assert_eq!(thousands("1"), "1");
        assert_eq!(thousands("1000"), "1,000");
        assert_eq!(thousands("-123456"), "-123,456");
    }

    #[test]
    fn hostile_text_is_escaped_everywhere() {
        let evil = "<script>alert(1)</script>\" onload='x";
        let shown = [
            field(evil, evil, evil).hint(evil).placeholder(evil).render(),
            field("a", "b", evil).rows(3).render(),
            field("a", "b", evil).choices(&[(evil, evil)]).render(),
            empty(evil, Some((evil, evil))),
            badge(Tone::Bad, evil),
            copyable(evil),
            name(evil),
            card(evil, html! {}),
            tabs(evil, &[Tab { path: evil, title: evil, is_here: true }]),
            bar(3, evil),
        ];
        for markup in shown {
            let text = markup.into_string();
            assert!(!text.contains("<script") && !text.contains("\" onload"), "{text}");
        }
    }

    #[test]
    fn a_password_is_never_sent_back() {
        let text = field("password", "Password", "hunter2").kind("password").render().into_string();
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_time_is_utc_until_the_script_runs() {
        assert_eq!(
            time(UnixMillis(1_800_000_000_123)).into_string(),
            "<time datetime=\"2027-01-15T08:00:00.123Z\" title=\"2027-01-15 08:00:00 UTC\">2027-01-15 08:00 UTC</time>"
        );
    }
}
