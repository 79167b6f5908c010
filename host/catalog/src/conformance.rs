//! Is a component fit to answer? The probes that a release must pass before it is activated, and
//! that `isomer guest check` runs for its author.
//!
//! Each probe asks something that every guest of the world must be able to answer, twice, and
//! compares. What a guest answers is its own business except where the platform relies on it.

mod adapter;
mod classifier;
mod resolver;

use std::time::Duration;

use serde_json::Value;
use wasm::{Component, Failure, FailureKind, Limits, Outcome, Report as Took, Sandbox, Settings, World};

use crate::{
    CatalogError,
    findings::{Conformance, Finding, Verdict},
};

/// What activation would say about these bytes, for authors without a server.
///
/// # Errors
/// If the bytes can't run, or the settings are none.
pub async fn check(
    sandbox: &Sandbox,
    bytes: &[u8],
    settings: &Value,
    trusted: bool,
) -> Result<(Component, Conformance), CatalogError> {
    let component = sandbox.load(bytes)?;
    let settings = Settings::new(settings, sandbox.limits().settings_bytes)?;
    let found = probe(&component, &settings, trusted, sandbox.limits()).await;
    Ok((component, found))
}

/// Probes `component` with the settings of its row. `trusted` is the row's mark.
pub(crate) async fn probe(
    component: &Component,
    settings: &Settings,
    trusted: bool,
    limits: &Limits,
) -> Conformance {
    let mut probes = Probes::new(component, settings);
    // A probe that fails ends the run: what follows would only repeat its reason.
    let _ended_early = run(&mut probes, trusted, limits).await;
    if let Some(Failure::Timeout { .. }) = probes.done.unsure {
        // A machine that is busy with other things may be too slow once.
        probes = Probes::new(component, settings);
        let _ended_early = run(&mut probes, trusted, limits).await;
    }
    probes.done
}

async fn run(probes: &mut Probes<'_>, trusted: bool, limits: &Limits) -> Result<(), Unfit> {
    let world = format!("world {}@{}", probes.component.world(), probes.component.version());
    probes.note(&world, Verdict::Ok, None);
    settings(probes).await?;
    match probes.component.world() {
        World::Adapter => adapter::run(probes, trusted).await?,
        World::Template => resolver::run(probes).await?,
        World::Classifier => classifier::run(probes).await?,
    }
    headroom(probes, limits);
    Ok(())
}

/// The run is over; the findings say why.
struct Unfit;

/// A run of probes on one component.
struct Probes<'a> {
    component: &'a Component,
    settings: &'a Settings,
    done: Conformance,
}

impl<'a> Probes<'a> {
    fn new(component: &'a Component, settings: &'a Settings) -> Self {
        let done = Conformance {
            findings: Vec::new(),
            description: None,
            peak_memory_bytes: 0,
            slowest_us: 0,
            unsure: None,
        };
        Self { component, settings, done }
    }

    fn note(&mut self, probe: &str, verdict: Verdict, detail: Option<String>) {
        let detail = detail.map(wasm::validate::message);
        self.done.findings.push(Finding { probe: probe.to_owned(), verdict, detail, backtrace: Vec::new() });
    }

    fn fail(&mut self, probe: &str, detail: impl Into<String>) -> Unfit {
        self.note(probe, Verdict::Failed, Some(detail.into()));
        Unfit
    }

    fn took(&mut self, report: &Took) {
        self.done.peak_memory_bytes = self.done.peak_memory_bytes.max(report.peak_memory);
        self.done.slowest_us = self.done.slowest_us.max(report.elapsed.as_micros());
    }

    /// The answer of a call that must not fail.
    fn answer<T>(&mut self, probe: &str, outcome: Outcome<T>) -> Result<T, Unfit> {
        self.took(&outcome.report);
        outcome.result.map_err(|failure| {
            self.done.findings.push(Finding {
                probe: probe.to_owned(),
                verdict: Verdict::Failed,
                detail: Some(wasm::validate::message(failure.to_string())),
                backtrace: failure.backtrace().to_vec(),
            });
            let is_unsure = matches!(failure.kind(), FailureKind::Busy | FailureKind::Timeout);
            self.done.unsure = Some(failure).filter(|_| is_unsure);
            Unfit
        })
    }

    /// The answer of a call that must not fail and must answer the same again.
    fn same<T: PartialEq>(&mut self, probe: &str, first: Outcome<T>, second: Outcome<T>) -> Result<T, Unfit> {
        let first = self.answer(probe, first)?;
        let second = self.answer(probe, second)?;
        if first != second {
            return Err(self.fail(
                probe,
                "the answer differs from call to call. A guest is a pure function: no state, no addresses, no hash order in its answers",
            ));
        }
        self.note(probe, Verdict::Ok, None);
        Ok(first)
    }
}

async fn settings(probes: &mut Probes<'_>) -> Result<(), Unfit> {
    const PROBE: &str = "settings";
    let outcome = probes.component.validate_settings(probes.settings).await;
    match probes.answer(PROBE, outcome)? {
        Ok(()) => probes.note(PROBE, Verdict::Ok, None),
        Err(problem) => return Err(probes.fail(PROBE, problem.to_string())),
    }

    const UNKNOWN: &str = "settings it doesn't know";
    let unknown = serde_json::json!({ "no-guest-has-this-setting": [1, { "deep": null }] });
    if let Ok(unknown) = Settings::new(&unknown, usize::MAX) {
        let outcome = probes.component.validate_settings(&unknown).await;
        probes.answer(UNKNOWN, outcome)?.ok();
        probes.note(UNKNOWN, Verdict::Ok, None);
    }
    Ok(())
}

/// Warns an author whose guest is near a limit on inputs as small as these.
fn headroom(probes: &mut Probes<'_>, limits: &Limits) {
    let (memory, slowest) = (probes.done.peak_memory_bytes, probes.done.slowest_us);
    let near = memory > limits.memory_bytes / 2 || slowest > (limits.call_time / 4).as_micros();
    let took = Duration::from_micros(u64::try_from(slowest).unwrap_or(u64::MAX));
    let detail = format!(
        "at most {} KiB of {} MiB memory, {took:?} of {:?}",
        memory >> 10,
        limits.memory_bytes >> 20,
        limits.call_time
    );
    let verdict = if near { Verdict::Warning } else { Verdict::Ok };
    probes.note("stays well within its limits", verdict, Some(detail));
}
