//! Embeddings: `embedContent` and `batchEmbedContents` of the Gemini API, `predict` of Vertex.
//!
//! Options of the provider's own are `task_type`, `title` and, on Vertex, `auto_truncate`, in either case.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::VERTEX;
use super::path::Method;
use super::usage::Count;
use crate::translate::embedding::{EmbeddingAnswer, EmbeddingRequest, MAX_INPUTS};
use crate::translate::few::Few;
use crate::translate::members::{Written, camel_case};
use crate::translate::{Dropped, Invalid, Target, Unreadable, Unsupported};

/// `predict` takes one text a call for models of this family.
const ONE_AT_A_TIME: &str = "gemini-embedding";

/// A provider's request for embeddings, written.
#[derive(Debug)]
pub struct BuiltEmbedding {
    /// What to call.
    pub method: Method,
    /// JSON.
    pub body: Vec<u8>,
    /// What was dropped, by the caller's field names.
    pub dropped: Dropped,
}

#[derive(Clone, Copy, Default)]
struct Options<'a> {
    task_type: Option<&'a RawValue>,
    title: Option<&'a RawValue>,
    auto_truncate: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EmbedContent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    content: Texts<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

#[derive(Serialize)]
struct Texts<'a> {
    parts: [TextPart<'a>; 1],
}

#[derive(Serialize)]
struct TextPart<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Instance<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a RawValue>,
}

/// Writes the request's body and says which method takes it.
///
/// # Errors
/// What can not be said to the provider, by the caller's field name.
pub fn build(request: &EmbeddingRequest, target: &Target<'_>) -> Result<BuiltEmbedding, Invalid> {
    let mut unsupported = Unsupported::new(*target);
    for (name, _) in &request.others {
        unsupported.field(name)?;
    }
    let is_vertex = target.provider == VERTEX;
    let options = options(&request.provider_options, is_vertex)?;
    let mut body = Written::default();
    let method = if is_vertex {
        if request.inputs.len() > 1 && target.capability.family == ONE_AT_A_TIME {
            return Err(Invalid::new("input", "This model takes one text a request."));
        }
        let instance = |content| Instance { content, task_type: options.task_type, title: options.title };
        body.add("instances", &request.inputs.iter().map(|text| instance(text)).collect::<Vec<_>>());
        let mut parameters = Written::default();
        if let Some(dimensions) = request.dimensions {
            parameters.add("outputDimensionality", &dimensions);
        }
        if let Some(truncates) = options.auto_truncate {
            parameters.add("autoTruncate", &truncates);
        }
        if !parameters.0.is_empty() {
            body.add("parameters", &parameters);
        }
        Method::Predict
    } else {
        let id = target.model_id;
        let model = if id.contains('/') { id.to_owned() } else { format!("models/{id}") };
        let one = |text, model| EmbedContent {
            model,
            content: Texts { parts: [TextPart { text }] },
            task_type: options.task_type,
            title: options.title,
            output_dimensionality: request.dimensions,
        };
        if let [text] = request.inputs.as_slice() {
            return Ok(BuiltEmbedding {
                method: Method::EmbedContent,
                body: written(&one(text, None))?,
                dropped: unsupported.into_dropped(),
            });
        }
        let requests = request.inputs.iter().map(|text| one(text, Some(model.clone())));
        body.add("requests", &requests.collect::<Vec<_>>());
        Method::BatchEmbedContents
    };
    Ok(BuiltEmbedding { method, body: written(&body)?, dropped: unsupported.into_dropped() })
}

fn written(body: &impl Serialize) -> Result<Vec<u8>, Invalid> {
    serde_json::to_vec(body).map_err(|_| Invalid::new("input", "The request can not be written."))
}

fn options(options: &[(String, Box<RawValue>)], is_vertex: bool) -> Result<Options<'_>, Invalid> {
    let mut known = Options::default();
    for (name, value) in options {
        let place = match camel_case(name).as_str() {
            "taskType" => &mut known.task_type,
            "title" => &mut known.title,
            "autoTruncate" if is_vertex => &mut known.auto_truncate,
            _ => {
                return Err(Invalid::new(
                    format!("provider_options.{name}"),
                    "Embeddings have no such option with this provider.",
                ));
            }
        };
        *place = Some(value);
    }
    Ok(known)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reply {
    embedding: Option<Embedding>,
    embeddings: Option<Few<Embedding, MAX_INPUTS>>,
    predictions: Option<Few<Prediction, MAX_INPUTS>>,
    usage_metadata: Option<EmbeddingUsage>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Embedding {
    values: Vec<f32>,
    statistics: Option<Statistics>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Prediction {
    embeddings: Embedding,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Statistics {
    token_count: Count,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct EmbeddingUsage {
    prompt_token_count: Count,
}

/// Reads the answer of any of the methods; `inputs`: how many texts were sent.
///
/// # Errors
/// When it is no JSON of this form, or has another number of vectors, or an empty one.
pub fn read(body: &[u8], inputs: usize) -> Result<EmbeddingAnswer, Unreadable> {
    let reply: Reply = serde_json::from_slice(body).map_err(|_| Unreadable)?;
    let embeddings: Vec<Embedding> = match (reply.embedding, reply.embeddings, reply.predictions) {
        (Some(one), _, _) => vec![one],
        (_, Some(several), _) => several.0,
        (_, _, Some(predictions)) => predictions.into_iter().map(|one| one.embeddings).collect(),
        _ => return Err(Unreadable),
    };
    let is_whole =
        |one: &Embedding| !one.values.is_empty() && one.values.iter().all(|number| number.is_finite());
    if embeddings.len() != inputs || !embeddings.iter().all(is_whole) {
        return Err(Unreadable);
    }
    let counted = embeddings.iter().filter_map(|one| one.statistics.as_ref()?.token_count.0);
    let counted =
        counted.fold(None, |sum: Option<u64>, count| Some(sum.unwrap_or_default().saturating_add(count)));
    let input_tokens = reply.usage_metadata.and_then(|usage| usage.prompt_token_count.0).or(counted);
    Ok(EmbeddingAnswer { vectors: embeddings.into_iter().map(|one| one.values).collect(), input_tokens })
}
