//! Components to push, built from this workspace once per test run.

use std::{fs, sync::OnceLock};

use crate::{scratch, workspace};

/// The components that tests push.
pub struct Components {
    /// The first-party `mock`.
    pub mock: Vec<u8>,
    /// Another `mock`, which replies `second`.
    pub second_mock: Vec<u8>,
    /// An adapter that misbehaves on demand.
    pub hostile: Vec<u8>,
    /// A resolver whose trees are invalid.
    pub hostile_resolver: Vec<u8>,
    /// The first-party classifier.
    pub classifier: Vec<u8>,
    /// The first-party resolver.
    pub include: Vec<u8>,
}

impl Components {
    pub fn get() -> &'static Self {
        static BUILT: OnceLock<Components> = OnceLock::new();
        BUILT.get_or_init(|| {
            let target = guest_build::target_dir(&scratch());
            let packages = [
                "mock",
                "second-mock",
                "hostile",
                "hostile-resolver",
                "skill-classifier",
                "include-resolver",
            ];
            let files = guest_build::build(&workspace(), &target, &packages).expect("the guests build");
            let [mock, second_mock, hostile, hostile_resolver, classifier, include] = files
                .iter()
                .map(|file| fs::read(file).expect("it was built"))
                .collect::<Vec<_>>()
                .try_into()
                .expect("six");
            Self { mock, second_mock, hostile, hostile_resolver, classifier, include }
        })
    }
}

/// The same guest with other bytes: a custom section with `mark` at the end changes the digest and
/// nothing else.
pub fn variant(component: &[u8], mark: u32) -> Vec<u8> {
    let mut bytes = component.to_vec();
    bytes.extend_from_slice(&[0, 9, 4]);
    bytes.extend_from_slice(b"mark");
    bytes.extend_from_slice(&mark.to_le_bytes());
    bytes
}
