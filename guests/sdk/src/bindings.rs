//! Generated from `wit/`. Exports need functions with fixed symbol names, and therefore `unsafe`; the other
//! modules wrap it for guests.
#![allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "generated"
)]

/// `isomer:adapter/runtime-adapter`. Generates the types that the other worlds share.
pub mod adapter {
    wit_bindgen::generate!({
        path: ["../../wit/types/0.1.0", "../../wit/adapter/0.1.0"],
        world: "isomer:adapter/runtime-adapter",
        generate_all,
        pub_export_macro: true,
        additional_derives: [PartialEq],
        generate_unused_types: true,
    });
}

/// `isomer:template/template-resolver`.
pub mod template {
    wit_bindgen::generate!({
        path: ["../../wit/types/0.1.0", "../../wit/template/0.1.0"],
        world: "isomer:template/template-resolver",
        pub_export_macro: true,
        additional_derives: [PartialEq],
        with: { "isomer:types/types@0.1.0": crate::bindings::types },
    });
}

/// `isomer:classifier/reload-classifier`.
pub mod classifier {
    wit_bindgen::generate!({
        path: ["../../wit/types/0.1.0", "../../wit/classifier/0.1.0"],
        world: "isomer:classifier/reload-classifier",
        pub_export_macro: true,
        additional_derives: [PartialEq],
        with: { "isomer:types/types@0.1.0": crate::bindings::types },
    });
}

pub use adapter::isomer::types::types;
