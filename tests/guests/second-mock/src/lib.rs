//! A second release of the runtime `mock`, for tests of activation: every reply is `second`.

use isomer_sdk::{Adapter, Description, Hosting, Message, Problem};
use serde::Deserialize;

/// The settings of `mock`, which are ignored.
#[derive(Deserialize)]
pub struct Settings {}

/// The guest.
pub struct SecondMock;

isomer_sdk::export_adapter!(SecondMock);

impl Adapter for SecondMock {
    type Settings = Settings;

    fn describe(_: &Settings) -> Description {
        Description::without_container("mock", "Second mock", Hosting::Synthetic)
    }

    fn synthetic_reply(_: &Settings, _: &Message) -> Result<Vec<String>, Problem> {
        Ok(vec!["second".to_owned()])
    }
}
