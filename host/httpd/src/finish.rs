//! Changes that are seen through.

use super::error::ApiError;

/// Sees a change through even if the client hangs up meanwhile: no half of it is left undone.
///
/// # Errors
/// Those of the change; and a panic in it, as a fault of ours.
pub async fn finish<T, E>(change: impl Future<Output = Result<T, E>> + Send + 'static) -> Result<T, ApiError>
where
    T: Send + 'static,
    E: Send + 'static,
    ApiError: From<E>,
{
    Ok(tokio::spawn(change).await.map_err(|error| ApiError::internal(&error))??)
}
