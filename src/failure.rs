//! Every way in which the gateway itself says no, and the one place that turns each into a status and a body
//! in the caller's dialect.

use std::borrow::Cow;

use serde_json::json;

/// Which shape an error body has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The OpenAI shape inside the envelope of the public contract.
    OpenAi,
    /// `{"statusCode", "message"}` of the management API.
    Management,
    /// `{"type": "error", "error": {"type", "message"}}` of Anthropic's Messages API.
    Anthropic,
}

/// Anthropic's word for an error of this status, by the list in its API's reference.
pub fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// A budget or a rate limit refuses a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitRefusal {
    /// A budget; else a rate limit.
    pub is_budget: bool,
    /// Which rule of whose, in one sentence.
    pub message: String,
    /// From when on it may be tried again.
    pub retry_after_seconds: u64,
    /// `x-ratelimit-` lines.
    pub lines: Vec<(&'static str, String)>,
}

/// A refusal or failure, with the sentence that the caller may read. Nothing internal goes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// The request breaks a rule of HTTP or of its endpoint.
    BadRequest(Cow<'static, str>),
    /// A field of an inference request is wrong, or is nothing that the model's provider can do.
    InvalidField {
        /// Its path in the caller's body.
        field: String,
        /// One sentence.
        message: String,
    },
    /// Well-formed, and refused for what it says.
    Unprocessable(Cow<'static, str>),
    /// No token, or one that is malformed, unknown, expired or revoked: the same words for all.
    Unauthenticated,
    /// The principal may not use this model, or it does not exist: the same words for both.
    ModelForbidden {
        /// Email or virtual account name of the caller.
        principal: String,
        /// The model as the caller wrote it.
        model: String,
    },
    /// The principal may see this but not do that.
    Forbidden(Cow<'static, str>),
    /// Not there, or not visible to this principal: the same words for both.
    NotFound(Cow<'static, str>),
    /// The path is known, the method is not.
    MethodNotAllowed {
        /// The methods that are, for the `Allow` header.
        allow: &'static str,
    },
    /// The head or the body did not arrive in time.
    RequestTimeout,
    /// The object changed meanwhile, or exists, or is in use.
    Conflict(Cow<'static, str>),
    /// It was there once and is not given again.
    Gone(Cow<'static, str>),
    /// A request body is needed and its length is not known.
    LengthRequired,
    /// The body is larger than `server.max_body_bytes`.
    BodyTooLarge,
    /// The target is longer than the head may be.
    UriTooLong,
    /// A body of a kind that this endpoint does not take.
    UnsupportedMediaType(Cow<'static, str>),
    /// `Expect` asks for something other than `100-continue`.
    ExpectationFailed,
    /// The head is larger than `server.max_head_bytes`, or has more lines than `server.max_headers`.
    HeadTooLarge,
    /// A method or transfer coding that is not implemented.
    NotImplemented(Cow<'static, str>),
    /// The gateway has no room or is shutting down.
    Unavailable(Cow<'static, str>),
    /// A budget or a rate limit.
    LimitReached(Box<LimitRefusal>),
    /// Only HTTP/1.0 and HTTP/1.1 are spoken.
    VersionNotSupported,
    /// Something broke inside; the log has the details under the request id.
    Internal,
    /// The provider could not be reached, or broke off before its answer began.
    UpstreamUnreachable {
        /// The provider account.
        account: String,
    },
    /// The provider refused the gateway's credential, or redirected it.
    UpstreamRefused {
        /// The provider account.
        account: String,
        /// What it answered.
        status: u16,
    },
    /// There is no credential to show to the provider: a token was not issued, or what is stored can not be used.
    UpstreamCredential(String),
    /// The provider's answer was not one.
    UpstreamInvalid {
        /// The provider account.
        account: String,
    },
    /// The provider's answer was HTTP and not what its protocol says.
    UpstreamUnreadable {
        /// The provider account.
        account: String,
    },
    /// The provider's answer has to be translated and is larger than `relay.max_answer_bytes`.
    UpstreamTooLarge {
        /// The provider account.
        account: String,
    },
    /// The provider's first byte was late, or the call took longer than `relay.total_timeout_ms`.
    UpstreamTimeout {
        /// The provider account.
        account: String,
    },
    /// The answer broke off after it had begun.
    UpstreamBroken {
        /// The provider account.
        account: String,
    },
    /// Access was taken away while the call ran.
    AccessRevoked,
}

/// A failure made ready to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// HTTP status.
    pub status: u16,
    /// JSON.
    pub body: String,
    /// One more header, where the status wants one.
    pub header: Option<(&'static str, &'static str)>,
    /// Lines with values of their own.
    pub lines: Vec<(&'static str, String)>,
}

impl Failure {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest(_) | Self::InvalidField { .. } => 400,
            Self::Unauthenticated | Self::AccessRevoked => 401,
            Self::ModelForbidden { .. } | Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::RequestTimeout => 408,
            Self::Conflict(_) => 409,
            Self::Gone(_) => 410,
            Self::LengthRequired => 411,
            Self::BodyTooLarge => 413,
            Self::UriTooLong => 414,
            Self::UnsupportedMediaType(_) => 415,
            Self::ExpectationFailed => 417,
            Self::Unprocessable(_) => 422,
            Self::LimitReached(_) => 429,
            Self::HeadTooLarge => 431,
            Self::Internal => 500,
            Self::NotImplemented(_) => 501,
            Self::UpstreamUnreachable { .. }
            | Self::UpstreamRefused { .. }
            | Self::UpstreamCredential(_)
            | Self::UpstreamInvalid { .. }
            | Self::UpstreamUnreadable { .. }
            | Self::UpstreamTooLarge { .. }
            | Self::UpstreamBroken { .. } => 502,
            Self::Unavailable(_) => 503,
            Self::UpstreamTimeout { .. } => 504,
            Self::VersionNotSupported => 505,
        }
    }

    /// What the caller reads.
    pub fn message(&self) -> Cow<'static, str> {
        match self {
            Self::BadRequest(text)
            | Self::Unprocessable(text)
            | Self::Forbidden(text)
            | Self::NotFound(text)
            | Self::Conflict(text)
            | Self::Gone(text)
            | Self::UnsupportedMediaType(text)
            | Self::NotImplemented(text)
            | Self::Unavailable(text) => text.clone(),
            Self::InvalidField { field, message } if message.contains(field.as_str()) => message.clone().into(),
            Self::InvalidField { field, message } => format!("{field}: {message}").into(),
            Self::LimitReached(refusal) => refusal.message.clone().into(),
            Self::Unauthenticated => {
                "Unauthorized: send a valid gateway token as 'Authorization: Bearer tfy_...'".into()
            }
            Self::ModelForbidden { principal, model } => {
                format!("User {principal} is not authorized to access model {model} or model does not exist").into()
            }
            Self::MethodNotAllowed { allow } => format!("This path takes {allow}").into(),
            Self::RequestTimeout => "The request did not arrive in time".into(),
            Self::LengthRequired => "Send a Content-Length or a chunked body".into(),
            Self::BodyTooLarge => "The request body is larger than this gateway takes (server.max_body_bytes)".into(),
            Self::UriTooLong => "The request target is too long".into(),
            Self::ExpectationFailed => "The only expectation understood is 100-continue".into(),
            Self::HeadTooLarge => {
                "The request head is larger than this gateway takes (server.max_head_bytes, server.max_headers)".into()
            }
            Self::Internal => {
                "Something broke inside the gateway; its log has the details under this request id".into()
            }
            Self::VersionNotSupported => "This gateway speaks HTTP/1.1 and HTTP/1.0".into(),
            Self::UpstreamUnreachable { account } => {
                format!("The provider of account '{account}' could not be reached").into()
            }
            Self::UpstreamRefused { account, status } => format!(
                "The provider of account '{account}' refused the gateway (status {status}); ask the account's manager to check its key and URL"
            )
            .into(),
            Self::UpstreamCredential(text) => text.clone().into(),
            Self::UpstreamInvalid { account } => {
                format!("The provider of account '{account}' answered with something that is not HTTP/1.1").into()
            }
            Self::UpstreamUnreadable { account } => {
                format!("The provider of account '{account}' answered with something that is not its protocol; check the account's type and URL").into()
            }
            Self::UpstreamTooLarge { account } => {
                format!("The answer of the provider of account '{account}' is larger than this gateway translates (relay.max_answer_bytes)").into()
            }
            Self::UpstreamTimeout { account } => {
                format!("The provider of account '{account}' did not answer in time").into()
            }
            Self::UpstreamBroken { account } => {
                format!("The provider of account '{account}' broke off before its answer was complete").into()
            }
            Self::AccessRevoked => "Access to this model was taken away while the call ran".into(),
        }
    }

    /// The `type` of the error object in the OpenAI shape.
    fn kind(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "Error",
            Self::ModelForbidden { .. } | Self::Forbidden(_) | Self::AccessRevoked => "AuthorizationError",
            Self::UpstreamUnreachable { .. }
            | Self::UpstreamRefused { .. }
            | Self::UpstreamCredential(_)
            | Self::UpstreamInvalid { .. }
            | Self::UpstreamUnreadable { .. }
            | Self::UpstreamTooLarge { .. }
            | Self::UpstreamTimeout { .. }
            | Self::UpstreamBroken { .. } => "APIError",
            Self::Internal | Self::Unavailable(_) => "ServerError",
            Self::LimitReached(refusal) if refusal.is_budget => "BudgetExceededError",
            Self::LimitReached(_) => "RateLimitError",
            _ => "InvalidRequestError",
        }
    }

    /// The field that is wrong.
    fn field(&self) -> Option<&str> {
        match self {
            Self::InvalidField { field, .. } => Some(field),
            _ => None,
        }
    }

    fn origin(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "authentication",
            Self::ModelForbidden { .. } | Self::Forbidden(_) | Self::AccessRevoked => "authorization",
            Self::UpstreamUnreachable { .. }
            | Self::UpstreamRefused { .. }
            | Self::UpstreamCredential(_)
            | Self::UpstreamInvalid { .. }
            | Self::UpstreamUnreadable { .. }
            | Self::UpstreamTooLarge { .. }
            | Self::UpstreamTimeout { .. }
            | Self::UpstreamBroken { .. } => "api_error",
            _ => "gateway",
        }
    }

    /// The error object of the OpenAI dialect, as it stands in a body or in an event of a stream.
    pub fn openai_json(&self) -> serde_json::Value {
        let message = self.message();
        json!({
            "status": "failure",
            "message": message,
            "error": {"message": message, "type": self.kind(), "param": self.field(), "code": self.status().to_string()},
            "error_origin_level": self.origin(),
        })
    }

    /// The error of Anthropic's dialect, as it stands in a body or in an event of a stream.
    pub fn anthropic_json(&self) -> serde_json::Value {
        json!({
            "type": "error",
            "error": {"type": anthropic_kind(self.status()), "message": self.message()},
            "request_id": null,
        })
    }

    /// Status, body and extra header in a dialect.
    pub fn render(&self, dialect: Dialect) -> Rendered {
        let body = match dialect {
            Dialect::OpenAi => self.openai_json(),
            Dialect::Anthropic => self.anthropic_json(),
            Dialect::Management => json!({"statusCode": self.status(), "message": self.message()}),
        };
        let header = match self {
            Self::Unauthenticated => Some(("www-authenticate", "Bearer")),
            Self::MethodNotAllowed { allow } => Some(("allow", *allow)),
            Self::Unavailable(_) => Some(("retry-after", "1")),
            _ => None,
        };
        let mut lines = Vec::new();
        if let Self::LimitReached(refusal) = self {
            lines.push(("retry-after", refusal.retry_after_seconds.to_string()));
            lines.extend(refusal.lines.iter().cloned());
        }
        Rendered { status: self.status(), body: body.to_string(), header, lines }
    }
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Failure};

    #[test]
    fn anthropics_clients_read_a_refusal() {
        for (failure, status, kind) in [
            (Failure::BadRequest("no".into()), 400, "invalid_request_error"),
            (Failure::Unauthenticated, 401, "authentication_error"),
            (Failure::Forbidden("no".into()), 403, "permission_error"),
            (Failure::NotFound("no".into()), 404, "not_found_error"),
            (Failure::BodyTooLarge, 413, "request_too_large"),
            (Failure::Unprocessable("no".into()), 422, "invalid_request_error"),
            (Failure::Internal, 500, "api_error"),
            (Failure::UpstreamBroken { account: "a".to_owned() }, 502, "api_error"),
            (Failure::Unavailable("no".into()), 503, "overloaded_error"),
            (Failure::UpstreamTimeout { account: "a".to_owned() }, 504, "timeout_error"),
        ] {
            let rendered = failure.render(Dialect::Anthropic);
            let body: serde_json::Value = serde_json::from_str(&rendered.body).unwrap();
            assert_eq!((rendered.status, &body["type"]), (status, &"error".into()));
            assert_eq!(body["error"]["type"], kind);
            assert_eq!(body["error"]["message"], failure.message().as_ref());
        }
    }
}
