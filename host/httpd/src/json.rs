//! JSON in and out, the same for every route.
//!
//! Out: compact, keys of ad-hoc objects (`json!`) in alphabetical order, whole floats without
//! `.0`; clients compare these texts. In: the content type is not looked at, unknown fields are
//! ignored, and every failure is one of two fixed answers.

use std::io::{self, Write};

use axum::extract::rejection::{BytesRejection, FailedToBufferBody};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::Formatter;

use super::error::ApiError;

/// A JSON body: the argument of a handler, or its answer.
///
/// As an argument it is refused with 413 above the route's body limit
/// ([`DefaultBodyLimit`](axum::extract::DefaultBodyLimit)) and with 400 when it is not a `T`.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let Body(body) = Body::from_request(request, state).await?;
        serde_json::from_slice(&body).map(Json).map_err(|error| {
            tracing::debug!(%error, "the body does not match what the route expects");
            ApiError::invalid_body()
        })
    }
}

/// A body as it came, within the same limits and with the same refusals.
#[derive(Debug, Clone)]
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        Bytes::from_request(request, state).await.map(Self).map_err(refusal)
    }
}

fn refusal(rejection: BytesRejection) -> ApiError {
    match rejection {
        BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) => {
            ApiError::body_too_large()
        }
        other => {
            tracing::debug!(error = %other, "the body could not be read");
            ApiError::invalid_body()
        }
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match to_vec(&self.0) {
            Ok(body) => RenderedJson(body.into()).into_response(),
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }
}

/// JSON that is already bytes in the form of [`to_vec`]: rendered once and answered often.
#[derive(Debug, Clone)]
pub struct RenderedJson(pub Bytes);

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

impl IntoResponse for RenderedJson {
    fn into_response(self) -> Response {
        let mut response = Response::new(axum::body::Body::from(self.0));
        response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
        response
    }
}

/// The bytes of a value, in the form this server answers with.
///
/// # Errors
/// When the value has no JSON form (a map with keys that are not text, for instance).
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(128);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, PlainFloats))?;
    Ok(bytes)
}

/// Compact JSON whose floats print as integers when they are whole, and without an exponent in
/// the range where numbers are usually written without one.
struct PlainFloats;

/// From here up, and below its small counterpart, floats print with an exponent.
const EXPONENT_FROM: f64 = 1e21;
const EXPONENT_BELOW: f64 = 1e-6;

impl Formatter for PlainFloats {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value == 0.0 || (EXPONENT_BELOW..EXPONENT_FROM).contains(&value.abs()) {
            write!(writer, "{value}")
        } else {
            write!(writer, "{value:e}")
        }
    }

    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        if value == 0.0 || (EXPONENT_BELOW..EXPONENT_FROM).contains(&f64::from(value.abs())) {
            write!(writer, "{value}")
        } else {
            write!(writer, "{value:e}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text<T: Serialize>(value: T) -> String {
        String::from_utf8(to_vec(&value).expect("has a JSON form")).expect("UTF-8")
    }

    /// Fails as soon as any dependency turns on serde_json's `preserve_order`.
    #[test]
    fn keys_of_ad_hoc_objects_are_alphabetical() {
        let value = json!({"status": "ok", "id": 1, "Name": {"z": [], "a": null}});
        assert_eq!(text(value), r#"{"Name":{"a":null,"z":[]},"id":1,"status":"ok"}"#);
    }

    #[test]
    fn fields_of_structs_keep_their_order() {
        #[derive(Serialize)]
        struct Row {
            name: &'static str,
            id: u8,
        }
        assert_eq!(text(Row { name: "ä", id: 1 }), r#"{"name":"ä","id":1}"#);
    }

    #[test]
    fn whole_floats_print_as_integers_and_exponents_are_rare() {
        for (value, printed) in [
            (100.0, "100"),
            (0.0, "0"),
            (-2.0, "-2"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (0.00001, "0.00001"),
            (1e-7, "1e-7"),
            (1e20, "100000000000000000000"),
            (1e21, "1e21"),
            (f64::NAN, "null"),
        ] {
            assert_eq!(text(value), printed);
        }
        assert_eq!(text(json!({"x": 100.0, "y": -0.5})), r#"{"x":100,"y":-0.5}"#);
        assert_eq!(text(2.0_f32), "2");
        assert_eq!(text(0.1_f32), "0.1");
    }
}
