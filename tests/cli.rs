//! The program as a user runs it: train, kill, resume, eval, predict, export, and what it says of bad input.
#![cfg(feature = "native")]

use std::path::Path;
use std::process::{Command, Output};

fn face96(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_face96")).args(args).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn ok(args: &[&str]) -> String {
    let output = face96(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    text(&output)
}

/// Exit status 2 and a sentence that contains `part`.
fn fails(args: &[&str], part: &str) {
    let output = face96(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output));
    assert!(text(&output).contains(part), "{args:?}: expected '{part}' in: {}", text(&output));
}

/// The metrics without the last column, which is the speed.
fn metrics(run: &Path) -> Vec<String> {
    let csv = std::fs::read_to_string(run.join("metrics.csv")).unwrap();
    csv.lines().map(|l| l.rsplit_once(',').unwrap().0.to_string()).collect()
}

#[test]
fn a_killed_run_resumes_to_the_same_numbers_and_its_weights_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let train = |run: &str| {
        ["train", "--data", "synthetic:60", "--epochs", "3", "--batch", "16", "--out", run].map(String::from)
    };
    let (whole, killed) = (path("whole"), path("killed"));
    let args = train(&whole);
    ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let mut child = Command::new(env!("CARGO_BIN_EXE_face96"))
        .args(train(&killed))
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Killed in the second epoch, in the middle of a step or of a write.
    let first = Path::new(&killed).join("metrics.csv");
    while !first.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(metrics(Path::new(&killed)).len() < 4, "killed too late to test anything");
    ok(&["resume", "--run", &killed]);
    assert_eq!(metrics(Path::new(&whole)), metrics(Path::new(&killed)));
    for file in ["config.toml", "curves.svg", "samples.png", "last.ckpt", "best.ckpt", "best.safetensors"] {
        assert!(Path::new(&whole).join(file).metadata().unwrap().len() > 100, "{file}");
    }
    fails(&["train", "--data", "synthetic:60", "--out", &whole], "already holds a run");

    let (weights, csv) = (path("w.safetensors"), path("out.csv"));
    ok(&["export", "--run", &whole, "--out", &weights]);
    let json = ok(&["eval", "--weights", &weights, "--data", "synthetic:60", "--json"]);
    let score: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(score["n"], 12);
    assert!(score["nme_pct"].as_f64().unwrap() > 0. && score["per_keypoint"]["nose_tip"].is_number());
    for key in ["rmse_px", "failure_pct"] {
        assert!(score[key].is_number(), "{key}");
    }
    ok(&["predict", "--weights", &weights, "--data", "synthetic:60", "--csv", &csv, "--draw", &path("drawn")]);
    assert!(std::fs::read_to_string(&csv).unwrap().starts_with("file,x0,y0,x1,y1"));
    assert_eq!(std::fs::read_dir(path("drawn")).unwrap().count(), 60);

    // The error of the validation in training (candle, NHWC products) is that of the exported file (the browser's kernels).
    let best = metrics(Path::new(&whole))
        .iter()
        .skip(1)
        .map(|l| l.split(',').nth(2).unwrap().parse::<f64>().unwrap())
        .fold(f64::MAX, f64::min);
    let exported = score["rmse_px"].as_f64().unwrap();
    assert!((best - exported).abs() < 0.02 * best, "{best} in training, {exported} exported");
}

#[test]
fn four_points_on_pictures_of_any_size_train_and_predict() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let mut rows = String::from("file,left_ear_x,left_ear_y,right_ear_x,right_ear_y,nose_x,nose_y,chin_x,chin_y\n");
    for i in 0..12u32 {
        let (w, h) = (100 + 7 * i, 120 - 3 * i);
        let picture = image_like(w, h, i);
        std::fs::write(path(&format!("{i}.png")), picture).unwrap();
        let (cx, cy) = (w / 2, h / 2);
        rows += &format!("{i}.png,{},{cy},{},{cy},{cx},{cy},{cx},{}\n", cx + 20, cx - 20, cy + 30);
    }
    std::fs::write(path("labels.csv"), rows).unwrap();
    let run = path("run");
    ok(&["train", "--data", &path("labels.csv"), "--epochs", "1", "--batch", "4", "--out", &run]);
    let weights = path("run/best.safetensors");
    let csv = path("out.csv");
    ok(&["predict", "--weights", &weights, "--data", &path("3.png"), "--crop", "--csv", &csv]);
    let out = std::fs::read_to_string(&csv).unwrap();
    assert_eq!(out.lines().next().unwrap(), "file,x0,y0,x1,y1,x2,y2,x3,y3");
    assert!(out.lines().nth(1).unwrap().starts_with("3.png,"));
}

/// A grey PNG with stored (uncompressed) data.
fn image_like(w: u32, h: u32, seed: u32) -> Vec<u8> {
    let picture =
        face96::picture::Gray::new(w as usize, h as usize, (0..w * h).map(|i| (i * 7 + seed * 31) as u8).collect())
            .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.png");
    face96::train::report::write_png(&path, &face96::train::report::annotate(&picture, 1, &[], &[])).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn bad_input_gets_one_sentence_and_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("cut.safetensors"), &[9u8; 40]).unwrap();
    std::fs::write(path("bad.csv"), "nose_x,nose_y,Image\n1,2,3 4\n").unwrap();
    std::fs::write(path("config.toml"), "epochs = 'many'").unwrap();
    let out = path("run");
    fails(&["train", "--preset", "net9", "--out", &out], "no net 'net9'");
    fails(
        &["train", "--data", &path("bad.csv"), "--out", &out],
        "row 1: column 'Image': expected 9216 pixels, found 2",
    );
    fails(&["train", "--data", &path("none.csv"), "--out", &out], "none.csv");
    fails(&["train", "--config", &path("config.toml"), "--out", &out], "config.toml");
    fails(&["train", "--epochs", "0", "--out", &out], "at least one epoch");
    fails(&["resume", "--run", &path("nowhere")], "nowhere");
    fails(&["eval", "--weights", &path("cut.safetensors")], "cut.safetensors");
    fails(&["serve", "--root", &path("")], "no folder 'www'");
    assert!(!Path::new(&out).exists(), "nothing is written before the input is known to be good");
}
