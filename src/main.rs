//! The command line: train, resume, eval, predict, plot, export, submission, bench, tutorial, serve.

mod cli;

#[global_allocator]
// Training allocates and frees the same big buffers in each step; this allocator keeps them instead of returning the pages.
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Reserves address space in small pieces, because `ulimit -v` and batch systems limit what is reserved, not what is used. By default
/// mimalloc reserves 1 GiB at once, and glibc, from which only C libraries allocate here, 64 MiB per thread. This runs before `main`,
/// because the runtime's own first allocation already makes the first arena.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[used]
// SAFETY: the section holds pointers to functions of this signature, which the loader calls once, before any thread starts.
#[unsafe(link_section = ".init_array")]
static RESERVE_LITTLE: extern "C" fn() = {
    /// `mi_option_arena_reserve` of mimalloc.h, which the bindings leave out; its unit is KiB.
    const ARENA_RESERVE: libmimalloc_sys::mi_option_t = 23;
    extern "C" fn reserve_little() {
        // SAFETY: both only store a number, and may be called before anything is allocated.
        unsafe {
            libmimalloc_sys::mi_option_set(ARENA_RESERVE, 64 * 1024);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
    reserve_little
};

fn main() -> std::process::ExitCode {
    // `face96 eval ... | head` ends quietly, as other programs do, instead of panicking about a broken pipe.
    sigpipe::reset();
    match cli::main() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("face96: {error:#}");
            std::process::ExitCode::from(2)
        }
    }
}
