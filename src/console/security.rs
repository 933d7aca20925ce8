//! What guards a browser's session: header lines of every page, where a form may come from, and form tokens.

use subtle::ConstantTimeEq as _;

use super::Request;
use crate::failure::Failure;

/// Nothing but the gateway's own style and script, no frames, no plug-ins, no inline code. `connect-src` and
/// `form-action` let a page talk to the gateway alone.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
     img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Lines of every answer of the console. `Referrer-Policy: no-referrer` would make browsers send `Origin: null` with
/// forms (Fetch, "append a request `Origin` header"), and without TLS there is no `Sec-Fetch-Site` to tell by.
pub const LINES: [(&str, &str); 6] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Refuses a change that a page of somewhere else sends. A caller without these headers is no browser of today, and
/// has no form token either.
///
/// # Errors
/// When the request comes from another place.
pub fn check_origin(request: &Request) -> Result<(), Failure> {
    let same = match (request.fetch_site, request.origin) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => origin.split_once("://").is_some_and(|(_, host)| host == request.host),
        (None, None) => true,
    };
    if same {
        Ok(())
    } else {
        Err(Failure::Forbidden("This form was sent from another site; open it in the console itself".into()))
    }
}

/// The token that the forms of a session carry. Who has it knows nothing of the session's secret.
pub fn form_token(session_secret: &str) -> String {
    let key = blake3::derive_key("gateway console form token", session_secret.as_bytes());
    blake3::Hash::from_bytes(key).to_hex().to_string()
}

/// Whether a form's token is the session's, in constant time.
///
/// # Errors
/// When it is not, or is missing.
pub fn check_form_token(given: &str, wanted: &str) -> Result<(), Failure> {
    if bool::from(given.as_bytes().ct_eq(wanted.as_bytes())) {
        Ok(())
    } else {
        Err(Failure::Forbidden("This form is too old; open the page again and send it once more".into()))
    }
}

/// A path of this console to go on to, or nothing: never another host.
pub fn local_path(text: &str) -> Option<&str> {
    let sane = text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= 1024
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    sane.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::{check_form_token, form_token, local_path};

    #[test]
    fn only_local_paths_are_gone_on_to() {
        for good in ["/", "/tokens?page=2", "/people/ada@example.com"] {
            assert_eq!(local_path(good), Some(good));
        }
        for bad in [
            "",
            "tokens",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nb",
            "/a b",
            "/é",
        ] {
            assert_eq!(local_path(bad), None, "{bad}");
        }
        assert_eq!(local_path(&format!("/{}", "a".repeat(1024))), None);
    }

    #[test]
    fn form_tokens_belong_to_one_session() {
        let token = form_token("one");
        assert!(check_form_token(&token, &form_token("one")).is_ok());
        for wrong in ["", "x", &form_token("two"), &token[1..], "one"] {
            assert_eq!(check_form_token(wrong, &token).unwrap_err().status(), 403);
        }
    }
}
