//! Spend, tokens and calls over time.

use super::super::parts::empty;
use super::super::visit::{Page, Visit};
use super::super::{Answer, Route};

pub(in crate::console) const ROUTES: &[Route] = &[Route::new("/usage", &[("GET", show)])];

fn show(_visit: &Visit) -> Answer {
    Page::new("Usage", empty("This page is not there yet; use the command line or the API.", None)).into()
}
