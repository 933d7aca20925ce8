//! The line of JSON that a record is on disk, written by hand: every call pays for it, and the writer's time is mostly
//! this. The bytes are those that `serde_json` would write, which a test compares.

use std::fmt::Write as _;

use crate::domain::{TokenCounts, TokenOrigin, UsageRecord};

/// Appends a record as one JSON object, without a line end.
///
/// # Errors
/// When the metadata can not be written, which maps of texts always can.
pub(super) fn append(out: &mut Vec<u8>, record: &UsageRecord) -> Result<(), serde_json::Error> {
    // Every field by name, so that a new one can not be forgotten here.
    let UsageRecord {
        at,
        request_id,
        subject,
        token_id,
        account,
        model,
        endpoint,
        tokens: TokenCounts { input, output, cached, cache_write, reasoning, origin },
        status,
        outcome,
        stream,
        latency_ms,
        first_byte_ms,
        metadata,
        teams,
        model_asked,
        cost,
        error_kind,
        request_bytes,
        answer_bytes,
    } = record;
    number(out, b"{\"at\":", at.0);
    for (name, value) in [
        (&b",\"request_id\":\""[..], request_id),
        (b",\"subject\":\"", subject),
        (b",\"token_id\":\"", token_id),
        (b",\"account\":\"", account),
        (b",\"model\":\"", model),
        (b",\"endpoint\":\"", endpoint),
    ] {
        out.extend_from_slice(name);
        text(out, value);
    }
    number(out, b",\"tokens\":{\"input\":", *input);
    number(out, b",\"output\":", *output);
    number(out, b",\"cached\":", *cached);
    number(out, b",\"cache_write\":", *cache_write);
    number(out, b",\"reasoning\":", *reasoning);
    out.extend_from_slice(match origin {
        TokenOrigin::Reported => b",\"origin\":\"reported\"}",
        TokenOrigin::Estimated => b",\"origin\":\"estimated\"}",
        TokenOrigin::None => b",\"origin\":\"none\"}",
    });
    number(out, b",\"status\":", u64::from(*status));
    out.extend_from_slice(b",\"outcome\":\"");
    out.extend_from_slice(outcome.as_str().as_bytes());
    out.extend_from_slice(if *stream { b"\",\"stream\":true" } else { b"\",\"stream\":false" });
    number(out, b",\"latency_ms\":", *latency_ms);
    match first_byte_ms {
        Some(first_byte_ms) => number(out, b",\"first_byte_ms\":", *first_byte_ms),
        None => out.extend_from_slice(b",\"first_byte_ms\":null"),
    }
    if !metadata.is_empty() {
        out.extend_from_slice(b",\"metadata\":");
        serde_json::to_writer(&mut *out, metadata)?;
    }
    for (place, team) in teams.iter().enumerate() {
        out.extend_from_slice(if place == 0 { b",\"teams\":[\"" } else { b",\"" });
        text(out, team);
    }
    if !teams.is_empty() {
        out.push(b']');
    }
    if let Some(model_asked) = model_asked {
        out.extend_from_slice(b",\"model_asked\":\"");
        text(out, model_asked);
    }
    if let Some(cost) = cost {
        out.extend_from_slice(b",\"cost\":\"");
        let mut digits = String::new();
        let _ = write!(digits, "{cost}");
        text(out, &digits);
    }
    if let Some(error_kind) = error_kind {
        out.extend_from_slice(b",\"error_kind\":\"");
        text(out, error_kind);
    }
    number(out, b",\"request_bytes\":", *request_bytes);
    number(out, b",\"answer_bytes\":", *answer_bytes);
    out.push(b'}');
    Ok(())
}

fn number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    let mut digits = [b'0'; 20];
    let (mut rest, mut used) = (value, 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - used..).unwrap_or_default());
}

/// The rest of a string whose opening quote stands there.
fn text(out: &mut Vec<u8>, value: &str) {
    // Looked at as a whole, which the compiler does in wide steps; hardly a text needs more.
    let special =
        value.bytes().fold(false, |found, byte| found | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
    if !special {
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
        return;
    }
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0..0x20 => {
                let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::domain::{Money, Outcome};

    const OUTCOMES: [Outcome; 6] = [
        Outcome::Complete,
        Outcome::ProviderError,
        Outcome::ProviderFailed,
        Outcome::CallerGone,
        Outcome::Cut,
        Outcome::Refused,
    ];

    fn record(number: u64, word: &str) -> UsageRecord {
        let some = number % 2 == 1;
        let counts = [number, number.wrapping_mul(7), 0, 10, u64::MAX];
        UsageRecord {
            at: UnixMillis(number),
            request_id: word.to_owned(),
            subject: format!("user:{word}"),
            token_id: String::new(),
            account: "main".to_owned(),
            model: format!("main/{word}"),
            endpoint: "chat/completions".to_owned(),
            tokens: TokenCounts {
                input: counts[0],
                output: counts[1],
                cached: counts[2],
                cache_write: counts[3],
                reasoning: counts[4],
                origin: [TokenOrigin::Reported, TokenOrigin::Estimated, TokenOrigin::None]
                    [usize::try_from(number % 3).unwrap()],
            },
            status: u16::try_from(number % 1000).unwrap(),
            outcome: OUTCOMES[usize::try_from(number % 6).unwrap()],
            stream: some,
            latency_ms: number,
            first_byte_ms: some.then_some(number),
            metadata: (0..number % 3).map(|at| (format!("{word}{at}"), word.to_owned())).collect(),
            teams: (0..number % 4).map(|at| format!("{word}{at}")).collect(),
            model_asked: some.then(|| word.to_owned()),
            cost: some.then(|| Money::from_units(i128::from(number) * 1_234_567_890_123)),
            error_kind: (!some).then(|| word.to_owned()),
            request_bytes: number,
            answer_bytes: u64::MAX - number,
        }
    }

    #[test]
    fn the_bytes_are_those_of_serde() {
        let controls: String = (0..=0x80_u8).map(char::from).collect();
        for word in ["", "a", "\"", "\\", "a\"b\\c\n", "\u{7f}é日本\u{1f600}\u{2028}", &controls] {
            for number in (0..25).chain([99, 100, 101, 1_750_000_000_000, u64::MAX - 1, u64::MAX]) {
                let record = record(number, word);
                let mut bytes = b"before".to_vec();
                append(&mut bytes, &record).unwrap();
                let expected = serde_json::to_string(&record).unwrap();
                assert_eq!(String::from_utf8(bytes).unwrap(), format!("before{expected}"));
                assert_eq!(serde_json::from_str::<UsageRecord>(&expected).unwrap(), record);
            }
        }
    }
}
