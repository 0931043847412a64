//! `face96 serve` alone, so that opening the page does not have to wait for the trainer's build, which takes minutes.

#[path = "cli/serve.rs"]
mod serve;

use clap::Parser;

/// Serves the page on this machine.
#[derive(Parser)]
#[command(version)]
struct ServerCli {
    #[command(flatten)]
    args: serve::ServeArgs,
}

fn main() -> anyhow::Result<()> {
    serve::serve(ServerCli::parse().args)
}
