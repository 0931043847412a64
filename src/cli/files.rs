//! What a command writes: files, of which none replaces an input of the same command.

use anyhow::{bail, Context, Result};
use face96::train::checkpoint::write_atomically;
use std::collections::HashSet;
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What tells one file from another whatever its path is: symbolic and hard links lead to the same.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let meta = path.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().filter(|p| p.is_file())
}

/// Fails if an output would replace an input of the same command.
pub(super) fn guard<O: AsRef<Path>, I: AsRef<Path>>(
    outputs: impl IntoIterator<Item = O>,
    inputs: impl IntoIterator<Item = I>,
) -> Result<()> {
    let outputs: Vec<_> = outputs.into_iter().filter_map(|o| Some((identity(o.as_ref())?, o))).collect();
    // Nearly always; there may be a hundred thousand inputs.
    if outputs.is_empty() {
        return Ok(());
    }
    let inputs: HashSet<_> = inputs.into_iter().filter_map(|i| identity(i.as_ref())).collect();
    match outputs.iter().find(|(file, _)| inputs.contains(file)) {
        Some((_, output)) => {
            bail!("{}: is read by this very command: choose another file to write", output.as_ref().display())
        }
        None => Ok(()),
    }
}

/// Fails if a file is there that its content does not show to be an earlier output of the same kind: labels made by hand often lie
/// where `predict` is told to write. Empty files, devices and pipes hold nothing that could be lost.
pub(super) fn guard_foreign(path: &Path, is_own: impl Fn(&str) -> bool) -> Result<()> {
    if !path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
        return Ok(());
    }
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    if !is_own(&String::from_utf8_lossy(&bytes)) {
        bail!("{} is there and was not written by predict: choose another file", path.display());
    }
    Ok(())
}

/// The files of a run that nothing can make anew.
pub(super) const KEPT: [&str; 5] = ["last.ckpt", "best.ckpt", "best.safetensors", "metrics.csv", "config.toml"];

/// The files of a run that no other command may replace.
pub(super) fn of_run(run: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    KEPT.into_iter().map(|name| run.join(name))
}

/// A line on standard output. Unlike `println!` it does not panic where that is full.
pub(super) fn say(line: impl Display) -> Result<()> {
    print(format_args!("{line}\n"))
}

/// Text on standard output.
pub(super) fn print(text: impl Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_fmt(format_args!("{text}")).and_then(|()| out.flush()).context("standard output")
}

/// Writes a command's output: `-` is standard output, any other path goes through [`write_atomically`].
pub(super) fn write_output(path: &Path, bytes: &[u8]) -> Result<()> {
    if path == Path::new("-") {
        return std::io::stdout().lock().write_all(bytes).context("standard output");
    }
    Ok(write_atomically(path, bytes)?)
}
