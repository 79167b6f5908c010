//! What happens to each request around its route, and in which order.
//!
//! One tower layer does all of it. A layer per concern would be boxed and cloned by axum for each
//! request, the handler's state with it; that cost more than the concerns themselves.
//!
//! | On the way in | On the way out |
//! |---|---|
//! | client address | |
//! | span and clock of the request log | log line, `X-Request-Id` |
//! | | security headers |
//! | request metrics | request metrics |
//! | is the head clear? | |
//! | in development mode: is the `Host` ours? | |
//! | CORS: refuse, or answer a preflight | CORS headers |
//! | tenant guard | |
//! | rate limit | rate limit headers |
//! | panic guard, route | |
//!
//! A panic of the route is an answer like any other: logged, counted, with all headers. A panic of this
//! layer itself is answered too, with the security headers only.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::Instrument;
use tracing::instrument::Instrumented;

use crate::canvas::{Canvas, CanvasSockets};
use crate::client_ip::TrustedProxies;
use crate::cors::{Cors, Decision};
use crate::head_check;
use crate::host_guard;
use crate::metrics::Metrics;
use crate::panics;
use crate::rate_limit::{QuotaStatus, RateLimits};
use crate::request_log::Exchange;
use crate::router_ext;
use crate::security_headers;
use crate::settings::HttpSettings;
use crate::shutdown::Shutdown;
use crate::tenant::{self, TenantGuard};

/// Headers that an answer has at least: allocated at once instead of in three steps.
const USUAL_HEADERS: usize = 12;

/// Wraps routes in the middleware of the whole server.
pub fn middleware<S>(
    routes: Router<S>,
    settings: &HttpSettings,
    cors: &Arc<Cors>,
    metrics: &Arc<Metrics>,
    limits: &Arc<RateLimits>,
) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let policy = Arc::new(Policy {
        proxies: settings.trusted_proxies.clone(),
        cors: Arc::clone(cors),
        tenant: TenantGuard::new(settings),
        limits: Arc::clone(limits),
        metrics: Arc::clone(metrics),
    });
    let around = MiddlewareLayer { policy };
    routes.layer(around)
}

/// Adds what answers where no route matches: the web canvas, if there is one.
pub fn with_fallback<S>(
    routes: Router<S>,
    settings: &HttpSettings,
    sockets: CanvasSockets,
    shutdown: &Shutdown,
) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let url = settings.canvas_proxy_url.as_ref();
    let canvas = url.and_then(|url| Canvas::new(url, sockets, shutdown.clone()));
    match canvas.map(Arc::new) {
        Some(canvas) => routes.fallback(async move |request: Request| canvas.answer(request).await),
        None => routes.fallback(router_ext::not_found),
    }
}

/// What requests are judged by.
#[derive(Debug)]
struct Policy {
    proxies: TrustedProxies,
    cors: Arc<Cors>,
    tenant: TenantGuard,
    limits: Arc<RateLimits>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Clone)]
struct MiddlewareLayer {
    policy: Arc<Policy>,
}

impl<S> Layer<S> for MiddlewareLayer {
    type Service = Middleware<S>;

    fn layer(&self, route: S) -> Middleware<S> {
        Middleware { policy: Arc::clone(&self.policy), route }
    }
}

/// The middleware around one route.
#[derive(Debug, Clone)]
struct Middleware<S> {
    policy: Arc<Policy>,
    route: S,
}

impl<S> Service<Request> for Middleware<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let begun = catch_unwind(AssertUnwindSafe(|| {
            self.policy.proxies.identify(&mut request);
            let exchange = Exchange::begin(&request, &self.policy.metrics);
            let verdict = exchange.span().in_scope(|| self.policy.judge(&request));
            (exchange, verdict)
        }));
        let (exchange, step) = match begun {
            Ok((exchange, Verdict::Pass(after))) => {
                let route = self.route.call(request).instrument(exchange.span().clone());
                (Some(exchange), Step::Route { route, after: Some(after) })
            }
            Ok((exchange, Verdict::Answer(response))) => {
                (Some(exchange), Step::Answer { response: Some(response) })
            }
            Err(panic) => (None, Step::Answer { response: Some(panics::answer(&*panic)) }),
        };
        ResponseFuture { step, exchange }
    }
}

// === Before the route ===

/// What is to be done with a request.
enum Verdict {
    /// The route answers.
    Pass(After),
    /// This is the answer.
    Answer(Response),
}

/// What is added to the answer of a route.
struct After {
    cors: Decision,
    /// `None`: limits are off.
    quota: Option<QuotaStatus>,
}

impl Policy {
    fn judge(&self, request: &Request) -> Verdict {
        if let Some(refusal) = head_check::refusal(request) {
            return Verdict::Answer(refusal.into_response());
        }
        if !self.cors.admits_host(request.headers()) {
            return Verdict::Answer(host_guard::misdirected());
        }
        let cors = self.cors.decide(request);
        if let Some(response) = cors.answer() {
            return Verdict::Answer(response);
        }
        let refused = |mut response: Response| {
            cors.write_headers(response.headers_mut());
            response
        };
        if !self.tenant.admits(request.uri().path(), request.headers()) {
            return Verdict::Answer(refused(tenant::not_found()));
        }
        match self.limits.check(request) {
            Ok(quota) => Verdict::Pass(After { cors, quota }),
            Err(refusal) => Verdict::Answer(refused((*refusal).into_response())),
        }
    }
}

// === After the route ===

pin_project! {
    /// The answer to come.
    struct ResponseFuture<F> {
        #[pin]
        step: Step<F>,
        // Taken when the answer is there. Dropped before, it counts as a client that left.
        exchange: Option<Exchange>,
    }
}

pin_project! {
    #[project = StepProjection]
    enum Step<F> {
        Route { #[pin] route: Instrumented<F>, after: Option<After> },
        Answer { response: Option<Response> },
    }
}

impl<F> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response, Infallible>>,
{
    type Output = Result<Response, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = match this.step.project() {
            StepProjection::Route { route, after } => {
                let polled = catch_unwind(AssertUnwindSafe(|| route.poll(cx)));
                let span = this.exchange.as_ref().map(Exchange::span);
                let mut response = match polled {
                    Ok(polled) => match ready!(polled) {
                        Ok(response) => response,
                    },
                    Err(panic) => span.map_or_else(
                        || panics::answer(&*panic),
                        |span| span.in_scope(|| panics::answer(&*panic)),
                    ),
                };
                if let Some(after) = after.take() {
                    after.finish(&mut response);
                }
                response
            }
            // Polled again after its end, which no caller does: an answer all the same.
            StepProjection::Answer { response } => response.take().unwrap_or_default(),
        };
        let exchange = this.exchange.take();
        let finished = catch_unwind(AssertUnwindSafe(|| finish(response, exchange)));
        Poll::Ready(Ok(finished.unwrap_or_else(|panic| panics::answer(&*panic))))
    }
}

impl After {
    fn finish(self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.reserve(USUAL_HEADERS.saturating_sub(headers.len()));
        RateLimits::write_headers(self.quota, response);
        self.cors.write_headers(response.headers_mut());
    }
}

/// Counts and logs an answer, and adds the headers that every answer has.
fn finish(mut response: Response, exchange: Option<Exchange>) -> Response {
    security_headers::set(response.headers_mut());
    if let Some(exchange) = exchange {
        exchange.end(&mut response);
    }
    response
}
