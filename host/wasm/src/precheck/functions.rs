//! The sizes of one function on which the compiler's time depends.

use wasmparser::{FunctionBody, Operator};

use super::{limit, within};
use crate::LoadError;

/// Refuses a function that would take too long to compile. `at` names it.
pub(super) fn check(body: &FunctionBody<'_>, at: impl Fn() -> String) -> Result<(), LoadError> {
    let range = body.range();
    within("bytes", (range.end - range.start) as u64, limit::BODY_BYTES, &at)?;
    let mut locals = 0_u64;
    for local in body.get_locals_reader()? {
        locals = locals.saturating_add(local?.0.into());
    }
    within("locals", locals, limit::LOCALS, &at)?;

    let mut loops = 0_u64;
    // For each block that is open, whether it is a loop.
    let mut open: Vec<bool> = Vec::new();
    let mut loop_depth = 0_u64;
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        match operators.read()? {
            Operator::Loop { .. } => {
                (loops, loop_depth) = (loops + 1, loop_depth + 1);
                within("loops in each other", loop_depth, limit::LOOP_DEPTH, &at)?;
                within("locals times loops", locals.max(1) * loops, limit::LOCALS_TIMES_LOOPS, &at)?;
                open.push(true);
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => open.push(false),
            Operator::End => loop_depth -= u64::from(open.pop() == Some(true)),
            _ => {}
        }
        within("blocks in each other", open.len() as u64, limit::BLOCK_DEPTH, &at)?;
    }
    Ok(())
}
