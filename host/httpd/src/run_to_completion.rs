//! Changes that continue after their client has hung up.

use std::future::poll_fn;
use std::task::Poll;

use super::error::ApiError;

/// Runs a change to its end, even if the client hangs up meanwhile, so that no change stays half done.
///
/// The change is polled once in place: one that is then complete (a heartbeat that changes nothing, for
/// instance) costs no task.
///
/// # Errors
/// Those of the change; and a panic in it, as an internal error.
pub async fn run_to_completion<T, E>(
    change: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, ApiError>
where
    T: Send + 'static,
    E: Send + 'static,
    ApiError: From<E>,
{
    let mut change = Box::pin(change);
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(change.as_mut().poll(cx))).await {
        return Ok(done?);
    }
    // No await between the two polls, so a client that hangs up cannot cancel the change here.
    Ok(tokio::spawn(change).await.map_err(|error| ApiError::internal(&error))??)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn a_change_that_waits_is_completed_after_its_caller_is_gone() {
        let (done, completed) = oneshot::channel();
        let change = run_to_completion(async move {
            yield_now().await;
            done.send(()).map_err(|()| ApiError::opaque())
        });
        let mut change = Box::pin(change);
        let first = poll_fn(|cx| Poll::Ready(change.as_mut().poll(cx))).await;
        assert!(first.is_pending());
        drop(change);
        completed.await.expect("the change went on");
    }

    #[tokio::test]
    async fn a_panic_after_the_first_wait_is_an_internal_error() {
        let change = run_to_completion::<(), ApiError>(async {
            yield_now().await;
            panic!("on purpose")
        });
        let error = change.await.expect_err("it panicked");
        assert_eq!(error, ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal error"));
    }
}
