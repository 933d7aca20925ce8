//! Where requests go: the path behind an account's base URL.

use std::fmt::Write as _;

use crate::translate::Invalid;

/// The longest id of a model, in bytes.
const MAX_ID_BYTES: usize = 512;

/// Whose API it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product<'a> {
    /// `https://generativelanguage.googleapis.com/v1beta`; the version is a part of the base URL.
    GeminiApi,
    /// `https://LOCATION-aiplatform.googleapis.com/v1`; the version is a part of the base URL.
    Vertex {
        /// The project's id.
        project: &'a str,
        /// Such as `europe-west1` or `global`.
        location: &'a str,
    },
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A whole answer.
    GenerateContent,
    /// An answer as server-sent events.
    StreamGenerateContent,
    /// The embedding of one text (Gemini API).
    EmbedContent,
    /// The embeddings of many (Gemini API).
    BatchEmbedContents,
    /// Embeddings (Vertex).
    Predict,
    /// A whole answer of another publisher's model in its own protocol (Vertex).
    RawPredict,
    /// The same as a stream.
    StreamRawPredict,
}

impl Method {
    /// Its name in the path.
    pub fn name(self) -> &'static str {
        match self {
            Self::GenerateContent => "generateContent",
            Self::StreamGenerateContent => "streamGenerateContent",
            Self::EmbedContent => "embedContent",
            Self::BatchEmbedContents => "batchEmbedContents",
            Self::Predict => "predict",
            Self::RawPredict => "rawPredict",
            Self::StreamRawPredict => "streamRawPredict",
        }
    }
}

/// The path and query behind the base URL.
///
/// On the Gemini API an id is `NAME`, `models/NAME` or `tunedModels/NAME`. On Vertex it is `NAME` (Google's),
/// `PUBLISHER/NAME`, `publishers/PUBLISHER/models/NAME` or `endpoints/ID` (a tuned model or one of one's own).
///
/// # Errors
/// When the id, the project or the location has another form.
pub fn path(product: Product<'_>, model_id: &str, method: Method) -> Result<String, Invalid> {
    let refused = || Invalid::new("model", "The model's id has no form that Google knows.");
    if model_id.len() > MAX_ID_BYTES {
        return Err(refused());
    }
    let segments: Vec<&str> = model_id.split('/').collect();
    if segments.iter().any(|segment| !is_segment(segment)) {
        return Err(refused());
    }
    let mut path = String::new();
    match product {
        Product::GeminiApi => {
            let (kind, name) = match segments.as_slice() {
                [name] => ("models", name),
                [kind @ ("models" | "tunedModels"), name] => (*kind, name),
                _ => return Err(refused()),
            };
            path.push('/');
            path.push_str(kind);
            push_segment(&mut path, name);
        }
        Product::Vertex { project, location } => {
            if !is_segment(project) || !is_segment(location) {
                return Err(Invalid::new(
                    "model",
                    "The account's project or region has no form that Google knows.",
                ));
            }
            path.push_str("/projects");
            push_segment(&mut path, project);
            path.push_str("/locations");
            push_segment(&mut path, location);
            let (publisher, name) = match segments.as_slice() {
                ["endpoints", id] => {
                    path.push_str("/endpoints");
                    push_segment(&mut path, id);
                    return Ok(with_method(path, method));
                }
                ["models", name] | [name] => ("google", name),
                ["publishers", publisher, "models", name] | [publisher, name] => (*publisher, name),
                _ => return Err(refused()),
            };
            path.push_str("/publishers");
            push_segment(&mut path, publisher);
            path.push_str("/models");
            push_segment(&mut path, name);
        }
    }
    Ok(with_method(path, method))
}

fn with_method(mut path: String, method: Method) -> String {
    path.push(':');
    path.push_str(method.name());
    if method == Method::StreamGenerateContent {
        path.push_str("?alt=sse");
    }
    path
}

fn is_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment.chars().any(|letter| letter != '.')
        && !segment.chars().any(char::is_control)
}

/// Appends `/` and a segment, percent-encoded but for what no one can read in another way. `@` stands before the
/// version of a model on Vertex.
fn push_segment(path: &mut String, segment: &str) {
    path.push('/');
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'@') {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERTEX: Product<'_> = Product::Vertex { project: "my-project", location: "europe-west1" };

    #[test]
    fn ids_have_their_paths() {
        let gemini = |id, method| path(Product::GeminiApi, id, method).unwrap();
        assert_eq!(
            gemini("gemini-2.5-flash", Method::GenerateContent),
            "/models/gemini-2.5-flash:generateContent"
        );
        assert_eq!(
            gemini("models/gemini-2.5-flash", Method::StreamGenerateContent),
            "/models/gemini-2.5-flash:streamGenerateContent?alt=sse"
        );
        assert_eq!(gemini("tunedModels/mine", Method::GenerateContent), "/tunedModels/mine:generateContent");
        let vertex = |id, method| path(VERTEX, id, method).unwrap();
        let base = "/projects/my-project/locations/europe-west1";
        for (id, method, end) in [
            (
                "gemini-2.5-pro",
                Method::GenerateContent,
                "publishers/google/models/gemini-2.5-pro:generateContent",
            ),
            ("models/gemini-2.5-pro", Method::Predict, "publishers/google/models/gemini-2.5-pro:predict"),
            (
                "anthropic/claude-sonnet-4@20250514",
                Method::StreamRawPredict,
                "publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict",
            ),
            ("publishers/meta/models/llama", Method::RawPredict, "publishers/meta/models/llama:rawPredict"),
            ("endpoints/123", Method::StreamGenerateContent, "endpoints/123:streamGenerateContent?alt=sse"),
        ] {
            assert_eq!(vertex(id, method), format!("{base}/{end}"));
        }
    }

    #[test]
    fn no_id_leads_elsewhere() {
        for id in [
            "",
            "/",
            "..",
            ".",
            "a/..",
            "../a",
            "endpoints/..",
            "endpoints/",
            "a//b",
            "/a",
            "a/",
            "a/b/c",
            "projects/p/locations/l/endpoints/1",
            "publishers/../models/x",
            "a\r\nb",
            "a\u{0}",
            &"a".repeat(513),
        ] {
            for product in [Product::GeminiApi, VERTEX] {
                assert!(path(product, id, Method::GenerateContent).is_err(), "{id:?} {product:?}");
            }
        }
        for id in ["a?b", "a#b", "a%2e%2e", "a:predict", "a b", "a\\b", "ü", "a;b", "a&key=x"] {
            let made = path(Product::GeminiApi, id, Method::GenerateContent).unwrap();
            let name = made.strip_prefix("/models/").unwrap().strip_suffix(":generateContent").unwrap();
            let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "%-_.~@".contains(letter);
            assert!(name.chars().all(is_plain), "{name}");
        }
        for project in ["", "..", "a\n"] {
            let product = Product::Vertex { project, location: "us" };
            assert!(path(product, "gemini", Method::GenerateContent).is_err());
        }
    }
}
