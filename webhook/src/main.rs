//! The admission webhook as a process.

use std::process::ExitCode;

use clap::Parser;
use ferrolb_serving::Telemetry;
use ferrolb_webhook::{Command, Flags};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(Command::Lint(lint)) = &flags.command {
        return match ferrolb_webhook::lint::run(lint, &mut std::io::stdout().lock()) {
            Ok(code) => ExitCode::from(code),
            // Whoever reads has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("ferrolb-webhook: cannot write what was found: {error}");
                ExitCode::from(2)
            }
        };
    }
    let telemetry = match Telemetry::start("ferrolb-webhook", flags.common.log_level) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("ferrolb-webhook: {:#}", anyhow::Error::new(error));
            return ExitCode::FAILURE;
        }
    };
    let ended = ferrolb_webhook::run(flags).await;
    if let Err(error) = &ended {
        tracing::error!(error = %format!("{error:#}"), "the webhook cannot go on");
    }
    telemetry.shutdown().await;
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
