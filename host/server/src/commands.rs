//! The command line: which subcommands exist and how their arguments are read.
//!
//! One rule is special: an environment variable that is set but blank counts as unset (compose
//! files and `.env` files are full of `ADMIN_TOKEN=`), see [`ignore_blank_variables`].

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::doctor::{self, DoctorArgs};
use crate::settings::{Settings, is_blank};
use crate::{logging, run};
use ::cli::events::{self, EventsArgs};
use ::cli::guest::{self, GuestArgs};
use ::cli::orgs::{self, OrgArgs};
use ::cli::send::{self, SendArgs};
use ::cli::workspaces::{self, WorkspaceArgs};
use ::cli::{finish_output, output_failed, printable_lines};

/// Isomer: a control plane for teams of AI agents.
#[derive(Debug, Parser)]
#[command(name = "isomer", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// What the program is asked to do.
#[derive(Debug, Subcommand)]
enum Task {
    /// Run the server
    Serve(Box<Settings>),
    /// List, check, push, activate and try guests
    Guest(Box<GuestArgs>),
    /// Create, list, change, stop and explain workspaces
    Ws(Box<WorkspaceArgs>),
    /// Import organizations from templates
    Org(Box<OrgArgs>),
    /// Send a message to an agent and print its answer
    Send(Box<SendArgs>),
    /// Show past events, and new ones as they happen
    Events(Box<EventsArgs>),
    /// Show what of a deployment is open, and to whom
    Doctor(Box<DoctorArgs>),
}

/// Runs the program; a failure is printed with its causes.
#[must_use]
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|command| command == wasm::COMPILE_COMMAND) {
        // Before anything that this process doesn't need has memory, threads or descriptors.
        return wasm::run_compile_process(arguments);
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return exit(Err(error)),
    };
    let code = runtime.block_on(run_task());
    // Does not wait for blocking work (compiling a guest, say), so that a stop stays bounded.
    runtime.shutdown_background();
    code
}

async fn run_task() -> ExitCode {
    let matches = ignore_blank_variables(Cli::command()).try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(text) => return print(&text),
    };
    match cli.task {
        Task::Serve(settings) => {
            let log = match logging::init(settings.logging.log_format) {
                Ok(log) => log,
                Err(error) => return exit(Err(error)),
            };
            let done = run::serve(&settings).await;
            if let Err(error) = &done {
                // Through the log: standard error may have a reader that stalls.
                log.print(&format!("isomer: {}\n", with_causes(error)));
            }
            drop(log); // writes the lines that wait
            if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Task::Guest(args) => exit(guest::run(*args).await),
        Task::Ws(args) => exit(workspaces::run(*args).await),
        Task::Org(args) => exit(orgs::run(*args).await),
        Task::Send(args) => exit(send::run(*args).await),
        Task::Events(args) => exit(events::run(*args).await),
        Task::Doctor(args) => exit(doctor::run(*args).await),
    }
}

/// Prints what clap has to say: an error in the arguments, or the help that they ask for.
fn print(text: &clap::Error) -> ExitCode {
    let printed = text.print().and_then(|()| io::stdout().flush());
    match printed {
        Err(error) if !text.use_stderr() => exit(output_failed(error)),
        _ => u8::try_from(text.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// Ends a command that is done; what it printed counts as well.
fn exit<E: Error + 'static>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => fail_or_succeed(finish_output()),
        failed => fail_or_succeed(failed),
    }
}

fn fail_or_succeed<E: Error + 'static>(done: Result<(), E>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The reader of standard error may be gone; `eprintln!` would panic.
            let _ = writeln!(io::stderr(), "isomer: {}", printable_lines(&with_causes(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Detaches every argument from a variable that is set but blank, in all subcommands.
fn ignore_blank_variables(command: Command) -> Command {
    command.mut_subcommands(ignore_blank_variables).mut_args(|argument| {
        let blank = argument.get_env().and_then(std::env::var_os).as_deref().is_some_and(is_blank);
        if blank { argument.env(Resettable::Reset) } else { argument }
    })
}

/// An error and everything that caused it, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn only_text_counts_as_a_value() {
        assert!(is_blank(OsStr::new("")));
        assert!(is_blank(OsStr::new("  \t")));
        assert!(!is_blank(OsStr::new("x")));
    }
}
