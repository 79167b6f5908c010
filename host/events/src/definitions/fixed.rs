//! Values that a payload always has the same: types with one value each, so that a payload with
//! another one can't be written, and one read from elsewhere isn't taken for it.

use std::borrow::Cow;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Always `true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Yes;

impl Serialize for Yes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(true)
    }
}

impl<'de> Deserialize<'de> for Yes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self),
            false => Err(D::Error::custom("expected true")),
        }
    }
}

macro_rules! fixed_text {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name;

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($word)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                match Cow::<'_, str>::deserialize(deserializer)?.as_ref() {
                    $word => Ok(Self),
                    _ => Err(D::Error::custom(concat!("expected ", $word))),
                }
            }
        }
    )*};
}

fixed_text! {
    /// The agent reports that it is stuck.
    Wedged = "wedged";
    /// The sweep that ends attempts to provision.
    ProvisionTimeoutSweep = "provision_timeout_sweep";
    /// The workspace's own watcher of its start.
    BootstrapWatcher = "bootstrap_watcher";
    /// The queue of turns that waited for an agent.
    QueueDrain = "queue_drain";
    /// From the channel to the agent.
    Inbound = "inbound";
    /// From the agent to the channel.
    Outbound = "outbound";
    /// Go ahead.
    Approved = "approved";
    /// Don't.
    Denied = "denied";
}
