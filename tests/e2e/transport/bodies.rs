//! JSON bodies: limits and refusals.

use axum::Router;
use axum::routing::post;
use httpd::body::BodyLimit;
use httpd::json::Json;
use httpd::router_ext::RouterExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::transport::wire::{Server, request};

#[derive(Deserialize)]
struct Greeting {
    name: String,
}

async fn server() -> Server {
    Server::with_routes(&[], |_| {
        let greet = async |Json(Greeting { name }): Json<Greeting>| Json(json!({ "hello": name }));
        let length = async |Json(value): Json<Value>| Json(json!(value.to_string().len()));
        Router::new()
            .endpoint("/greet", post(greet))
            .endpoint("/small", post(length).layer(BodyLimit::layer(10)))
            .endpoint("/large", post(length).layer(BodyLimit::layer(2 * 1024 * 1024)))
    })
    .await
}

/// A JSON text of this many bytes.
fn json_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[tokio::test]
async fn unknown_fields_and_content_types_are_fine() {
    let server = server().await;
    for content_type in ["Content-Type: text/html", "X-None: x"] {
        let body = r#"{"name":"Ada","more":1}"#;
        let answer = server.send("POST", "/greet", &[content_type], body).await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, r#"{"hello":"Ada"}"#));
    }
}

#[tokio::test]
async fn invalid_json_is_400() {
    let server = server().await;
    for body in ["", "{", "[]", "{}", r#"{"name":1}"#, r#"{"name":"a"} x"#] {
        let answer = server.send("POST", "/greet", &[], body).await;
        assert_eq!(answer.status(), 400, "{body}");
        assert_eq!(answer.body, r#"{"error":"invalid request body"}"#, "{body}");
    }
}

#[tokio::test]
async fn bodies_have_a_limit_of_one_mebibyte() {
    const MIB: usize = 1024 * 1024;
    let server = server().await;
    let just_fits = server.send("POST", "/greet", &[], &json_of(MIB)).await;
    assert_eq!(just_fits.status(), 400);
    let too_large = server.send("POST", "/greet", &[], &json_of(MIB + 1)).await;
    assert_eq!(too_large.status(), 413);
    assert_eq!(too_large.body, r#"{"error":"request body too large"}"#);
}

#[tokio::test]
async fn a_route_may_have_another_limit() {
    let server = server().await;
    assert_eq!(server.send("POST", "/small", &[], &json_of(10)).await.status(), 200);
    assert_eq!(server.send("POST", "/small", &[], &json_of(11)).await.status(), 413);
    assert_eq!(server.send("POST", "/large", &[], &json_of(2_000_000)).await.status(), 200);
}

/// The client still sends megabytes when the refusal is written.
#[tokio::test]
async fn a_client_that_keeps_sending_still_reads_the_413() {
    let server = server().await;
    let mut client = server.connect().await;
    client.write(&request("POST", "/small", &[], &json_of(8 * 1024 * 1024))).await;
    assert_eq!(client.answer().await.status(), 413);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn chunked_bodies_are_limited_too() {
    let server = server().await;
    let mut client = server.connect().await;
    let head = request("POST", "/small", &["Transfer-Encoding: chunked"], "");
    client.write(&format!("{head}6\r\n\"xxxxx\r\n6\r\nxxxxx\"\r\n0\r\n\r\n")).await;
    assert_eq!(client.answer().await.status(), 413);
}
