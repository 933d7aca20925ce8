//! The pages, a file for each part of the navigation.

mod grants;
mod home;
mod manifests;
pub(super) mod models;
mod people;
mod sessions;
pub(super) mod sign_in;
mod teams;
mod tokens;
mod virtual_accounts;

use super::Route;

/// The routes of all pages. A literal segment stands before a parameter in the same place: the first path that fits
/// decides.
pub(super) const ALL: &[&[Route]] = &[
    home::ROUTES,
    models::ROUTES,
    tokens::ROUTES,
    virtual_accounts::ROUTES,
    people::ROUTES,
    teams::ROUTES,
    grants::ROUTES,
    sessions::ROUTES,
];
