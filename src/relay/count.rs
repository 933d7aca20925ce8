//! Counting a request's tokens where the provider has no such thing: an estimate, without a call.

use super::answer::{After, Answer};
use super::translated::invalid;
use super::{Call, Refusal, Relay};
use crate::domain::Outcome;
use crate::http::Connection;
use crate::relay::meter::Meter;
use crate::translate::front::messages;

impl Relay {
    /// Answers `messages/count_tokens` with an estimate.
    pub(super) fn estimate_tokens(
        &self,
        connection: &mut Connection,
        answer: &Answer<'_>,
        resolved_model: &str,
        call: &Call,
        meter: &mut Meter<'_>,
    ) -> Result<After, Refusal> {
        let conversation = messages::read_to_count(&call.body.bytes).map_err(invalid)?;
        let body = messages::write_count(messages::estimate_tokens(&conversation));
        meter.status(200);
        meter.outcome(Outcome::Complete);
        let lines = [("content-type", "application/json"), ("x-tfy-resolved-model", resolved_model)];
        Ok(answer.write(connection, 200, &lines, &body, self.limits.idle_timeout_ms))
    }
}
