//! The stylesheet and the script, in the binary. Their names hold their hash, so browsers may keep them for ever.

use std::sync::LazyLock;

/// A file that anyone may fetch.
#[derive(Debug)]
pub struct Asset {
    /// Where it is, with its hash.
    pub path: String,
    /// For `Content-Type`.
    pub content_type: &'static str,
    /// The file.
    pub bytes: &'static [u8],
}

fn asset(name: &str, extension: &str, content_type: &'static str, bytes: &'static [u8]) -> Asset {
    let hash = blake3::hash(bytes).to_hex();
    let path = format!("/assets/{name}-{}.{extension}", hash.get(..12).unwrap_or_default());
    Asset { path, content_type, bytes }
}

/// How all pages look.
pub static STYLE: LazyLock<Asset> =
    LazyLock::new(|| asset("style", "css", "text/css; charset=utf-8", include_bytes!("assets/style.css")));

/// What makes pages nicer that work without it.
pub static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    asset("script", "js", "text/javascript; charset=utf-8", include_bytes!("assets/script.js"))
});

/// The sign in the browser's tab.
pub static ICON: LazyLock<Asset> =
    LazyLock::new(|| asset("icon", "svg", "image/svg+xml", include_bytes!("assets/icon.svg")));

/// The file at a path.
pub fn find(path: &str) -> Option<&'static Asset> {
    [&STYLE, &SCRIPT, &ICON].into_iter().map(|asset| &**asset).find(|asset| asset.path == path)
}
