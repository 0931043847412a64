//! The program as a user runs it, for the tests from outside.
#![allow(dead_code)]

use std::path::Path;
use std::process::{Command, Output};

pub fn face96(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_face96")).args(args).output().unwrap()
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub fn ok(args: &[&str]) -> String {
    let output = face96(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    text(&output)
}

/// Exit status 2 and a sentence that contains `part`.
pub fn fails(args: &[&str], part: &str) {
    let output = face96(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output));
    assert!(text(&output).contains(part), "{args:?}: expected '{part}' in: {}", text(&output));
}

/// The metrics without the last three columns, which are the speed.
pub fn metrics(run: &Path) -> Vec<String> {
    let csv = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    csv.lines().map(|l| l.rsplitn(4, ',').last().unwrap().to_string()).collect()
}

/// A net small enough for tests.
pub const SMALL: &str = "net.channels=[4,8,8,8]";

/// Arguments of a run of that net in batches of 8.
pub fn small<'a>(data: &'a str, epochs: &'a str, run: &'a str) -> [&'a str; 11] {
    ["train", "--data", data, "--epochs", epochs, "--batch", "8", "--set", SMALL, "--out", run]
}

/// The weights file that the package ships.
pub fn compact() -> String {
    format!("{}/pkg/weights/compact.safetensors", env!("CARGO_MANIFEST_DIR"))
}
