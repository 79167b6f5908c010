use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::*;
use crate::{AotCache, Limits};

const LIMITS: CompileLimits = CompileLimits { memory_bytes: 64 << 20, cpu_seconds: 1 };

/// A sandbox whose compile process is this shell script.
fn sandbox(script: &str) -> (tempfile::TempDir, Sandbox) {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let cache = AotCache::open(directory.path().join("compiled")).unwrap();
    let limits = Limits { slots: 1, ..Limits::default() };
    let compiler = Compiler::Process(program, LIMITS);
    (directory, Sandbox::with_compiler(limits, Some(cache), compiler).unwrap())
}

async fn failure(script: &str) -> String {
    let (_directory, sandbox) = sandbox(script);
    let failed =
        sandbox.compile(Digest::of(b"a component"), Bytes::from_static(b"a component")).await.unwrap_err();
    let died = matches!(failed, CompileError::Load(LoadError::CompilerDied { .. }));
    // Only a death is noted.
    assert_eq!(sandbox.noted_death(&Digest::of(b"a component")).is_some(), died);
    failed.to_string()
}

#[tokio::test]
async fn the_cause_of_a_death_is_told() {
    assert!(failure("kill -XCPU $$").await.contains("took more than 1 s of processor time"));
    assert!(failure("kill -SEGV $$").await.contains("crashed the compiler (signal 11)"));
    let memory = failure("echo memory allocation of 7 bytes failed >&2; kill -ABRT $$").await;
    assert!(memory.contains("took more than 64 MiB of memory"), "{memory}");
}

#[tokio::test]
async fn a_process_that_can_not_do_its_work_is_no_fault_of_the_component() {
    let unusable = "the process that compiles guests can't be used: ";
    assert_eq!(failure("echo no limits here >&2; exit 3").await, format!("{unusable}no limits here"));
    assert!(failure("kill -KILL $$").await.starts_with(&format!("{unusable}it was killed")));
    assert_eq!(failure("kill -TERM $$").await, format!("{unusable}it was ended by signal 15"));
    assert_eq!(failure("exit 0").await, format!("{unusable}it wrote no whole result"));
    assert_eq!(failure("printf ISOMAOT1half").await, format!("{unusable}it wrote no whole result"));
    let (_directory, mut sandbox) = sandbox("");
    sandbox = Sandbox::with_compiler(
        sandbox.limits().clone(),
        None,
        Compiler::Process(PathBuf::from("/nowhere/isomer"), LIMITS),
    )
    .unwrap();
    let failed =
        sandbox.compile(Digest::of(b"a component"), Bytes::from_static(b"a component")).await.unwrap_err();
    assert!(matches!(failed, CompileError::NoProcess(_)), "{failed}");
}

#[tokio::test]
async fn a_refusal_of_the_compiler_is_told_and_clipped() {
    let refused = failure("printf 'ISOMREF1type mismatch'").await;
    assert_eq!(refused, "the component does not compile: type mismatch");
    let long = failure("printf ISOMREF1; head -c 1000000 /dev/zero | tr '\\0' x").await;
    assert!(long.len() < 5_000, "{} bytes", long.len());
}

#[tokio::test]
async fn a_note_is_for_these_limits_and_goes_with_the_component() {
    let (_directory, sandbox) = sandbox("kill -XCPU $$");
    let digest = Digest::of(b"a component");
    sandbox.compile(Digest::of(b"a component"), Bytes::from_static(b"a component")).await.unwrap_err();
    let under = |limits: &CompileLimits| {
        sandbox.cache().unwrap().noted_death(sandbox.compatibility(), &digest, &limits.to_string())
    };
    assert!(under(&LIMITS).is_some());
    assert!(under(&CompileLimits { cpu_seconds: 2, ..LIMITS }).is_none());
    sandbox.evict(&digest);
    assert!(under(&LIMITS).is_none());
}
