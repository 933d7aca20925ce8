use std::path::PathBuf;

use serde_json::Value as Json;

use super::*;

const LIMIT: usize = 1024 * 1024;

fn vectors(file: &str) -> Vec<Json> {
    let folder = std::env::var_os("GATEWAY_TEST_VECTORS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/wire/vectors"),
        PathBuf::from,
    );
    match std::fs::read(folder.join("eventstream").join(file)) {
        Ok(bytes) => serde_json::from_slice::<Json>(&bytes).unwrap()["cases"].as_array().unwrap().clone(),
        Err(_) => {
            eprintln!("not run: vectors absent");
            Vec::new()
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names of headers, and the payload.
type Read = (Vec<String>, Vec<u8>);

/// Decodes in pieces of this size.
fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Read>, EventStreamError> {
    let mut decoder = Decoder::new(LIMIT);
    let mut messages = Vec::new();
    for part in bytes.chunks(piece) {
        decoder.push(part);
        while let Some(message) = decoder.next()? {
            let names = message.headers().map(|header| header.unwrap().0.to_owned()).collect();
            messages.push((names, message.payload.to_vec()));
        }
    }
    assert_eq!(decoder.rest_bytes(), 0);
    Ok(messages)
}

#[test]
fn good_vectors() {
    for case in vectors("botocore_positive.json") {
        let bytes = unhex(case["hex"].as_str().unwrap());
        let mut decoder = Decoder::new(LIMIT);
        for byte in &bytes {
            assert_eq!(decoder.next(), Ok(None), "{case}");
            decoder.push(std::slice::from_ref(byte));
        }
        let message = decoder.next().unwrap().unwrap();
        assert_eq!(hex(message.payload), case["expect"]["payload_hex"].as_str().unwrap());
        let expected = case["expect"]["headers"].as_object().unwrap();
        assert_eq!(message.headers().count(), expected.len());
        for header in message.headers() {
            let (name, value) = header.unwrap();
            let expected = &expected[name];
            match value {
                Value::Bool(value) => assert_eq!(expected.as_bool(), Some(value)),
                Value::Integer(value) | Value::Timestamp(value) => assert_eq!(expected.as_i64(), Some(value)),
                Value::Text(value) => assert_eq!(expected.as_str(), Some(value)),
                Value::Bytes(value) | Value::Uuid(value) => assert_eq!(expected["hex"], hex(value)),
            }
        }
        assert_eq!(decoder.next(), Ok(None));
    }
}

#[test]
fn bad_vectors() {
    for case in vectors("botocore_negative.json") {
        let bytes = unhex(case["hex"].as_str().or(case["hex_head"].as_str()).unwrap());
        let expected = match case["error"].as_str().unwrap() {
            "ChecksumMismatch" => EventStreamError::BadChecksum,
            "DuplicateHeader" => EventStreamError::BadHeader,
            "InvalidPayloadLength" => EventStreamError::TooLarge,
            other => panic!("{other}"),
        };
        let mut decoder = Decoder::new(usize::MAX);
        decoder.push(&bytes);
        assert_eq!(decoder.next(), Err(expected), "{case}");
        assert_eq!(decoder.next(), Err(expected), "it stays broken");
        decoder.push(&encode(&[], b""));
        assert_eq!(decoder.next(), Err(expected));
    }
    for case in vectors("smithy_rs.json") {
        let result = decode(&unhex(case["hex"].as_str().unwrap()), 7);
        assert_eq!(result.is_ok(), case["valid"].as_bool().unwrap(), "{case}");
    }
}

#[test]
fn every_split_gives_the_same_messages() {
    let mut stream =
        encode(&[(":event-type", "a"), (":message-type", "event")], "{\"text\":\"☃\"}".as_bytes());
    stream.extend(encode(&[], b""));
    stream.extend(encode(&[("x", "")], &[0; 300]));
    let whole = decode(&stream, stream.len()).unwrap();
    assert_eq!(whole.len(), 3);
    for piece in 1..stream.len() {
        assert_eq!(decode(&stream, piece).unwrap(), whole);
    }
    for cut in 1..stream.len() {
        let mut decoder = Decoder::new(LIMIT);
        decoder.push(&stream[..cut]);
        let mut count = 0;
        while decoder.next().unwrap().is_some() {
            count += 1;
        }
        assert!(count < 3 && count <= whole.len());
        decoder.push(&stream[cut..]);
        while decoder.next().unwrap().is_some() {
            count += 1;
        }
        assert_eq!((count, decoder.rest_bytes()), (3, 0));
    }
}

#[test]
fn every_changed_bit_is_seen() {
    let message = encode(&[("name", "value")], b"payload");
    for at in 0..message.len() {
        for bit in 0..8 {
            let mut changed = message.clone();
            changed[at] ^= 1 << bit;
            let mut decoder = Decoder::new(LIMIT);
            decoder.push(&changed);
            assert!(decoder.next().is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn hostile_frames_are_refused_before_they_are_held() {
    // A prelude with a right check sum that announces too much, or impossible lengths.
    for (total, headers, limit, expected) in [
        (u32::MAX, 0, usize::MAX, EventStreamError::TooLarge),
        (2_000_000, 0, LIMIT, EventStreamError::TooLarge),
        (200_000, 131_073, LIMIT, EventStreamError::TooLarge),
        (15, 0, LIMIT, EventStreamError::BadLength),
        (0, 0, LIMIT, EventStreamError::BadLength),
        (20, 5, LIMIT, EventStreamError::BadLength),
        (16, u32::MAX, LIMIT, EventStreamError::BadLength),
    ] {
        let mut prelude = total.to_be_bytes().to_vec();
        prelude.extend_from_slice(&headers.to_be_bytes());
        prelude.extend_from_slice(&crc(&prelude).to_be_bytes());
        let mut decoder = Decoder::new(limit);
        decoder.push(&prelude);
        assert_eq!(decoder.next(), Err(expected), "{total} {headers}");
        decoder.push(&[0; 100_000]);
        assert!(decoder.rest_bytes() < 100, "nothing more is taken in");
    }
    for headers in [
        &b"\x00\x00"[..],         // a name of no length
        b"\x01a",                 // no type
        b"\x01a\x0a",             // an unknown type
        b"\x01a\x07\x00",         // half a length
        b"\x01a\x07\xff\xffxx",   // a length beyond the end
        b"\x01a\x07\x00\x01\xff", // not UTF-8
        b"\x01\xff\x00",          // a name that is not
        b"\x01a\x05\x00",         // a short number
        b"\xff",
    ] {
        assert_eq!(decode(&encode_raw(headers, b""), 1), Err(EventStreamError::BadHeader), "{headers:?}");
    }
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(decode(&encode(&many, b""), 64), Err(EventStreamError::BadHeader));
    assert!(decode(&encode(&many[..64], b""), 64).is_ok());
}

#[test]
fn negative_numbers_keep_their_sign() {
    let message = encode_raw(b"\x01a\x02\xff\x01b\x03\x80\x00\x01c\x04\x7f\xff\xff\xff", b"");
    let mut decoder = Decoder::new(LIMIT);
    decoder.push(&message);
    let values: Vec<_> = decoder.next().unwrap().unwrap().headers().map(|header| header.unwrap().1).collect();
    assert_eq!(values, [Value::Integer(-1), Value::Integer(-32_768), Value::Integer(0x7fff_ffff)]);
}

#[test]
fn crc_of_the_standard_check_text() {
    assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    assert_eq!(crc(b""), 0);
}
