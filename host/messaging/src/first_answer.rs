//! The first answer to a message as it is stored, beside the row of activity that has its response, so that the same
//! message gets the same status and bytes again when no memory knows them.

use bytes::Bytes;
use http::StatusCode;
use store::message_keys::{AnswerForm, FirstAnswer};
use wire_json::{RawJson, raw};

use crate::{
    headers::{restored_value, stored_value},
    reply::{Known, RecordedStream, Reply},
};

/// What is stored of an answer with this status, beside its row with this response. None where the row says all.
pub(crate) fn stored(status: StatusCode, known: &Known, response: Option<&RawJson>) -> Option<FirstAnswer> {
    let answer = FirstAnswer {
        status: status.as_u16(),
        form: AnswerForm::Json,
        bytes: None,
        retry_after: None,
        content_type: None,
    };
    match known {
        Known::Incomplete => Some(FirstAnswer { form: AnswerForm::Incomplete, ..answer }),
        Known::TooLarge => Some(FirstAnswer { form: AnswerForm::TooLarge, ..answer }),
        Known::Stream(stream) => {
            let content_type = Some(stored_value(&stream.content_type));
            let (form, bytes) = form_of(&stream.text, response);
            let form = if stream.is_whole { form } else { AnswerForm::Incomplete };
            Some(FirstAnswer { form, bytes, content_type, ..answer })
        }
        Known::Reply(reply) => {
            let (form, bytes) = form_of(&reply.body, response);
            let retry_after = reply.retry_after.as_ref().map(stored_value);
            let says_all = form == AnswerForm::Json && status == StatusCode::OK && retry_after.is_none();
            (!says_all).then_some(FirstAnswer { form, bytes, retry_after, ..answer })
        }
    }
}

/// The answer of a row.
pub(crate) fn restored(answer: Option<FirstAnswer>, response: Option<String>) -> Known {
    let Some(answer) = answer else {
        return match response {
            Some(body) => {
                Known::Reply(Reply { status: StatusCode::OK, body: body.into(), retry_after: None })
            }
            None => Known::Incomplete,
        };
    };
    let FirstAnswer { status, form, bytes, retry_after, content_type } = answer;
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let response = response.unwrap_or_default();
    let body: Bytes = match (bytes, form) {
        (Some(bytes), _) => bytes.into(),
        (None, AnswerForm::Json) => response.into(),
        (None, _) => serde_json::from_str::<String>(&response).unwrap_or_default().into(),
    };
    match (form, content_type.as_deref().and_then(restored_value)) {
        (AnswerForm::TooLarge, _) => Known::TooLarge,
        (AnswerForm::Incomplete, None) => Known::Incomplete,
        (_, Some(content_type)) => {
            let is_whole = form != AnswerForm::Incomplete;
            Known::Stream(RecordedStream { status, content_type, text: body, is_whole })
        }
        (_, None) => {
            Known::Reply(Reply { status, body, retry_after: retry_after.as_deref().and_then(restored_value) })
        }
    }
}

/// Whether the response of a row has these bytes as they are, or as a string; else the bytes.
fn form_of(bytes: &Bytes, response: Option<&RawJson>) -> (AnswerForm, Option<Vec<u8>>) {
    if response.is_some_and(|response| response.text().as_bytes() == bytes) {
        return (AnswerForm::Json, None);
    }
    let string = response.and_then(|response| raw::string(response.at(&[])?));
    match string.is_some_and(|string| string.as_bytes() == bytes) {
        true => (AnswerForm::Text, None),
        false => (AnswerForm::Bytes, Some(bytes.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn reply(status: StatusCode, body: &[u8], retry_after: Option<&'static str>) -> Known {
        let retry_after = retry_after.map(HeaderValue::from_static);
        Known::Reply(Reply { status, body: Bytes::copy_from_slice(body), retry_after })
    }

    fn stream(text: &[u8], is_whole: bool) -> Known {
        let content_type = HeaderValue::from_bytes(b"text/event-stream; charset=\"\xfctf\"").unwrap();
        let text = Bytes::copy_from_slice(text);
        Known::Stream(RecordedStream { status: StatusCode::CREATED, content_type, text, is_whole })
    }

    #[test]
    fn an_answer_is_restored_as_it_was() {
        let created = StatusCode::CREATED;
        for (status, known, is_stored) in [
            (StatusCode::OK, reply(StatusCode::OK, br#"{"a":1.0}"#, None), false),
            (StatusCode::OK, reply(StatusCode::OK, br#"{"a": 1.0}"#, None), true),
            (StatusCode::OK, reply(StatusCode::OK, br#""\u0000""#, None), true),
            (StatusCode::OK, reply(StatusCode::OK, br#"{"a":1}"#, Some("7")), true),
            (created, reply(created, br#"{"a":1}"#, None), true),
            (created, reply(created, b"plain \"text\"", None), true),
            (created, reply(created, b"\xff\0", None), true),
            (created, reply(created, b"", None), true),
            (created, stream(b"data: 1\n\n", true), true),
            (created, stream(b"data: 1\n\n", false), true),
            (created, stream(b"data: \xff\n\n", false), true),
            (created, stream(b"", true), true),
            (created, Known::Incomplete, true),
            (created, Known::TooLarge, true),
        ] {
            let response = match &known {
                Known::Reply(reply) => Some(
                    RawJson::read(&reply.body)
                        .unwrap_or_else(|_| RawJson::render(&String::from_utf8_lossy(&reply.body))),
                ),
                Known::Stream(stream) => Some(RawJson::render(&String::from_utf8_lossy(&stream.text))),
                Known::Incomplete | Known::TooLarge => None,
            };
            let answer = stored(status, &known, response.as_ref());
            assert_eq!(answer.is_some(), is_stored, "{known:?}");
            assert_eq!(restored(answer, response.map(|response| response.to_string())), known);
        }
    }
}
