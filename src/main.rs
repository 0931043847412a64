//! The command line: train, resume, eval, predict, plot, export, submission, bench, tutorial, serve.

mod cli;

#[global_allocator]
// Training allocates and frees the same big buffers each step; this allocator keeps them instead of handing the pages back.
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // `face96 eval ... | head` ends quietly, as other programs do, not in a panic about a broken pipe.
    sigpipe::reset();
    match cli::main() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("face96: {error:#}");
            std::process::ExitCode::from(2)
        }
    }
}
