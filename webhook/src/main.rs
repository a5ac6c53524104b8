//! The admission webhook as a process.

use std::process::ExitCode;

use clap::Parser;
use ferrolb_serving::Telemetry;
use ferrolb_webhook::Flags;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let flags = Flags::parse();
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
