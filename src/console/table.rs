//! Tables that sort, filter and page on the server, by the parameters `q`, `sort` and `page` of the query.
//!
//! ```text
//! const COLUMNS: &[Column] = &[column("Name").sort("name"), column("Calls").sort("calls").number()];
//! let wish = Wish::of(visit, COLUMNS, "name");
//! let found = wish.select(all, |item| wish.fits(&[&item.name]), |a, b| match wish.sort {
//!     "calls" => a.calls.cmp(&b.calls),
//!     _ => a.name.cmp(&b.name),
//! });
//! wish.table(visit, COLUMNS, found.total, found.items.iter().map(|item| html! { tr { td { (item.name) } ... } }))
//! ```

use std::cmp::Ordering;

use maud::{Markup, html};

use super::visit::Visit;
use crate::manage::{Listing, Page};

/// Rows of one page of a table.
pub const ROWS: usize = 50;
/// Pages beyond this are not asked for.
const MAX_PAGE: usize = 1_000_000;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    title: &'static str,
    sort: Option<&'static str>,
    is_number: bool,
}

/// A column with a heading; an empty one is for buttons.
pub const fn column(title: &'static str) -> Column {
    Column { title, sort: None, is_number: false }
}

impl Column {
    /// Rows can be sorted by it, by this word in the query.
    #[must_use]
    pub const fn sort(self, word: &'static str) -> Self {
        Self { sort: Some(word), ..self }
    }

    /// Numbers, which stand on the right. Their cells are `td.number`.
    #[must_use]
    pub const fn number(self) -> Self {
        Self { is_number: true, ..self }
    }
}

/// How a table was asked for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Only what holds this, in any case; empty for all.
    pub text: String,
    /// The word of the column to sort by.
    pub sort: &'static str,
    /// The largest first.
    pub is_descending: bool,
    /// From 0.
    pub page: usize,
    lower: String,
}

impl Wish {
    /// Reads it from a query. What is no column is `default`; a minus before it sorts the other way round, in the
    /// query as in `default`.
    pub fn of(visit: &Visit, columns: &[Column], default: &'static str) -> Self {
        let wanted = visit.query.text("sort");
        let find = |word: &str| columns.iter().filter_map(|column| column.sort).find(|sort| *sort == word);
        let take = |text: &str| Some((find(text.trim_start_matches('-'))?, text.starts_with('-')));
        let (sort, is_descending) =
            take(wanted).or_else(|| take(default)).unwrap_or((default.trim_start_matches('-'), false));
        let page = visit.query.text("page").parse::<usize>().unwrap_or(1).clamp(1, MAX_PAGE) - 1;
        let text: String = visit.query.text("q").chars().take(200).collect();
        let lower = text.to_lowercase();
        Self { text, sort, is_descending, page, lower }
    }

    /// Whether one of some texts holds what is searched for.
    pub fn fits(&self, texts: &[&str]) -> bool {
        self.lower.is_empty() || texts.iter().any(|text| contains(text, &self.lower))
    }

    /// The page as the operations take it, where they sort by themselves.
    pub fn page(&self) -> Page {
        Page { limit: ROWS, offset: self.page.saturating_mul(ROWS) }
    }

    /// The rows of the page out of all items. `compare` sorts ascending. Only as much is sorted as is shown.
    pub fn select<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        is_wanted: impl Fn(&T) -> bool,
        compare: impl Fn(&T, &T) -> Ordering,
    ) -> Listing<T> {
        let ordered = |a: &T, b: &T| if self.is_descending { compare(b, a) } else { compare(a, b) };
        let mut items: Vec<T> = all.into_iter().filter(is_wanted).collect();
        let total = items.len();
        let (from, to) = self.range(total);
        if to < total {
            items.select_nth_unstable_by(to, ordered);
            items.truncate(to);
        }
        items.sort_by(ordered);
        items.drain(..from);
        Listing { items, total }
    }

    fn range(&self, total: usize) -> (usize, usize) {
        // A page that is no more shows the last one.
        let last = total.saturating_sub(1) / ROWS;
        let from = self.page.min(last).saturating_mul(ROWS).min(total);
        (from, from.saturating_add(ROWS).min(total))
    }

    /// The box to search with; other parameters of the page stay as they are.
    pub fn search(&self, visit: &Visit, label: &str) -> Markup {
        html! {
            form.search method="get" action=(visit.path) role="search" {
                @for (name, value) in visit.query.except(&["q", "page"]) {
                    input type="hidden" name=(name) value=(value);
                }
                label.hidden for="search" { (label) }
                input #search type="search" name="q" value=(self.text) placeholder=(label) autocomplete="off";
                button type="submit" { "Search" }
            }
        }
    }

    /// The table. `total` counts what fits, on all pages; each of `rows` is a `tr`.
    pub fn table(
        &self,
        visit: &Visit,
        columns: &[Column],
        total: usize,
        rows: impl Iterator<Item = Markup>,
    ) -> Markup {
        let (from, to) = self.range(total);
        html! {
            div.table tabindex="0" role="region" aria-label="Table" {
                table {
                    thead { tr { @for column in columns { (self.heading(visit, column)) } } }
                    tbody { @for row in rows { (row) } }
                }
            }
            @if total == 0 {
                p.quiet { @if self.text.is_empty() { "Nothing here." } @else { "Nothing holds \u{201c}" bdi { (self.text) } "\u{201d}." } }
            } @else {
                nav.pages aria-label="Pages" {
                    span { (from + 1) "\u{2013}" (to) " of " (total) }
                    @if from > 0 { a rel="prev" href=(self.page_link(visit, from / ROWS)) { "Previous" } }
                    @if to < total { a rel="next" href=(self.page_link(visit, from / ROWS + 2)) { "Next" } }
                }
            }
        }
    }

    fn page_link(&self, visit: &Visit, page: usize) -> String {
        format!("{}{}", visit.path, visit.query.query_with(&[("page", &page.to_string())]))
    }

    fn heading(&self, visit: &Visit, column: &Column) -> Markup {
        let class = column.is_number.then_some("number");
        let Some(word) = column.sort else {
            return html! { th scope="col" class=[class] { (column.title) } };
        };
        let is_here = word == self.sort;
        let next = if is_here && !self.is_descending { format!("-{word}") } else { word.to_owned() };
        let order = is_here.then_some(if self.is_descending { "descending" } else { "ascending" });
        let link = format!("{}{}", visit.path, visit.query.query_with(&[("sort", &next), ("page", "")]));
        html! { th scope="col" class=[class] aria-sort=[order] { a href=(link) { (column.title) } } }
    }
}

/// Whether a text holds another one, which is lower case; without a copy for plain ASCII.
fn contains(text: &str, lower: &str) -> bool {
    if text.is_ascii() && lower.is_ascii() {
        let wanted = lower.as_bytes();
        return text.as_bytes().windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted));
    }
    text.to_lowercase().contains(lower)
}
