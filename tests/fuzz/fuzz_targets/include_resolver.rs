//! The resolver on arbitrary files: it must not panic, and the component must give the same answer as the native
//! code.

#![no_main]

use std::{path::Path, sync::OnceLock};

use isomer_sdk as sdk;
use isomer_wasm::{Component, Limits, Sandbox, Settings, template as plain};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;

/// Files of one template; a 0xff byte begins the next one.
const NAMES: [&str; 4] = ["org.yaml", "a.yaml", "teams/b.yaml", "teams/c.yaml"];

struct Wasm {
    component: Component,
    runtime: Runtime,
}

fn wasm() -> &'static Wasm {
    static WASM: OnceLock<Wasm> = OnceLock::new();
    WASM.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let files = guest_build::build(&workspace, &workspace.join("target/guests"), &["include-resolver"]);
        let bytes = std::fs::read(&files.expect("the guest builds")[0]).expect("it was built");
        let sandbox = Sandbox::new(Limits::default(), None).expect("an engine");
        let component = sandbox.load(&bytes).expect("a resolver");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Wasm { component, runtime }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let contents: Vec<&[u8]> = bytes.split(|byte| *byte == 0xff).take(NAMES.len()).collect();
    // All files are given at once, which is the longest single call that the host makes.
    let files = NAMES.iter().zip(&contents).map(|(name, content)| sdk::KnownFile {
        path: (*name).to_owned(),
        answer: sdk::Answer::Bytes(content.to_vec()),
    });
    let request = sdk::Expansion { entry: NAMES[0].to_owned(), has_directory: true, files: files.collect() };
    let native = include_resolver::expand(&request);

    let request = plain::Expansion {
        entry: request.entry,
        has_directory: true,
        files: NAMES
            .iter()
            .zip(&contents)
            .map(|(name, content)| plain::KnownFile {
                path: (*name).to_owned(),
                answer: plain::Answer::Bytes(content.to_vec()),
            })
            .collect(),
    };
    let Wasm { component, runtime } = wasm();
    let resolver = component.resolver().expect("it is one");
    let outcome = runtime.block_on(resolver.expand(&Settings::default(), &request));
    let component = outcome.result.expect("an answer that the host accepts, within its limits");
    assert_eq!(as_plain(native), component);
});

fn as_plain(progress: sdk::Progress) -> plain::Progress {
    match progress {
        sdk::Progress::Done(tree) => {
            plain::Progress::Done(plain::Tree { files: tree.files, root: node(&tree.nodes, 0) })
        }
        sdk::Progress::Need(paths) => plain::Progress::Need(paths),
        sdk::Progress::Failed(problem) => {
            plain::Progress::Failed(isomer_wasm::Problem { at: problem.at, message: problem.message })
        }
    }
}

fn node(nodes: &[sdk::Node], id: u32) -> plain::Node {
    let found = &nodes[id as usize];
    let value = match &found.value {
        sdk::Value::Scalar(scalar) => plain::Value::Scalar { text: scalar.text.clone(), quoted: scalar.quoted },
        sdk::Value::Sequence(items) => plain::Value::Sequence(items.iter().map(|id| node(nodes, *id)).collect()),
        sdk::Value::Mapping(pairs) => {
            plain::Value::Mapping(pairs.iter().map(|(k, v)| (node(nodes, *k), node(nodes, *v))).collect())
        }
    };
    let mark = plain::Mark { file: found.mark.file, line: found.mark.line, column: found.mark.column };
    plain::Node { value, mark, tag: found.tag.clone() }
}
