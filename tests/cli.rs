//! The program as a user runs it: train, kill, resume, specialists, eval, predict, plot, export, submission, and what it says of
//! bad input.
#![cfg(feature = "native")]

mod common;

use common::{fails, metrics, ok, small, text, SMALL};
use std::path::Path;
use std::process::Command;

/// Starts the program and kills it after a time.
fn killed(args: &[&str], after: std::time::Duration) {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_face96")).args(args).stdout(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
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
    for file in ["config.toml", "curves.svg", "errors.svg", "samples.png", "last.ckpt", "best.ckpt", "best.safetensors"]
    {
        assert!(Path::new(&whole).join(file).metadata().unwrap().len() > 100, "{file}");
    }
    let events = |e: std::io::Result<std::fs::DirEntry>| e.unwrap().file_name().to_string_lossy().contains("tfevents");
    assert_eq!(std::fs::read_dir(&whole).unwrap().filter_map(|e| events(e).then_some(())).count(), 1);
    let other = ["train", "--data", "synthetic:60", "--epochs", "3", "--batch", "8", "--out", &whole];
    fails(&other, "already holds a run with batch = 16, not 8");

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
    assert!(std::fs::read_to_string(&csv)
        .unwrap()
        .starts_with("file,left_eye_center_x,left_eye_center_y,right_eye_center_x,"));
    let drawn = std::fs::read_dir(path("drawn")).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some());
    assert_eq!(drawn.count(), 60);

    // The error of the validation in training (candle, NHWC products) is that of the exported file (the browser's kernels).
    let best = metrics(Path::new(&whole))
        .iter()
        .skip(1)
        .map(|l| l.split(',').nth(3).unwrap().parse::<f64>().unwrap())
        .fold(f64::MAX, f64::min);
    let exported = score["nme_pct"].as_f64().unwrap();
    assert!((best - exported).abs() < 0.02 * best, "{best} in training, {exported} exported");
}

#[test]
fn the_shipped_nets_find_drawn_faces_in_whole_pictures() {
    use face96::geometry::CropBox;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let mut rows = String::from("file,subject,split,n_faces,box_cx,box_cy,box_size\n");
    let write = |name: &str, rgba: &[u8]| {
        let mut grey = vec![0f32; 320 * 240];
        face96::picture::grey_from_rgba(rgba, &mut grey).unwrap();
        let picture = face96::picture::Gray::new(320, 240, grey.iter().map(|p| *p as u8).collect()).unwrap();
        face96::train::report::write_picture(
            Path::new(&path(name)),
            &face96::train::report::annotate(&picture, 1, &[], &[]),
        )
        .unwrap();
    };
    for i in 0..6 {
        let at = CropBox { x: 100. + 20. * i as f32, y: 110., size: 60. + 14. * i as f32, roll: 0. };
        write(&format!("{i}.png"), &face96::synthetic::SyntheticFace::new(i).draw(320, 240, at).rgba);
        rows += &format!("{i}.png,{i},val,1,{},{},{}\n", at.x, at.y, at.size);
    }
    for i in 6..9u32 {
        let wall: Vec<u8> = (0..4 * 320 * 240u32).map(|p| (p / 40 * i + p % 97) as u8).collect();
        write(&format!("{i}.png"), &wall);
        rows += &format!("{i}.png,{i},val,0,,,\n");
    }
    std::fs::write(path("scenes.csv"), rows).unwrap();
    let shipped = |name: &str| format!("{}/pkg/weights/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
    let (finder, compact) = (shipped("finder"), shipped("compact"));
    let json =
        ok(&["eval", "--weights", &finder, "--keypoints", &compact, "--data", dir.path().to_str().unwrap(), "--json"]);
    let figures: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&figures["n"], &figures["negatives"]), (&6.into(), &3.into()));
    let both = &figures["with_keypoints"];
    assert!(both["found_pct"] == 100. && both["false_pct"] == 0. && figures["found_pct"] == 100., "{json}");

    std::fs::remove_file(path("scenes.csv")).unwrap();
    let (said, csv) = (
        ok(&["predict", "--weights", &compact, "--data", dir.path().to_str().unwrap(), "--csv", &path("p.csv")]),
        path("p.csv"),
    );
    assert!(said.contains("no face found in 3 of 9 pictures") && said.contains("6 faces"), "{said}");
    // A row a face, and one for each picture without.
    assert_eq!(std::fs::read_to_string(&csv).unwrap().lines().count(), 1 + 6 + 3);

    let (curve, sheet) = (path("reliability.svg"), path("sheet.png"));
    let said = ok(&[
        "eval",
        "--weights",
        &compact,
        "--data",
        "synthetic:50",
        "--reliability",
        &curve,
        "--boxes-off",
        "--shifted",
    ]);
    assert_eq!(said.matches("NME").count(), 3 + 9, "{said}");
    assert!(std::fs::read_to_string(&curve).unwrap().starts_with("<svg"));
    let plot = ["plot", "--augmented", "--data", "synthetic:8", "--count", "8", "--out", &sheet];
    ok(&plot);
    let plain = std::fs::read(&sheet).unwrap();
    ok(&[&plot[..], &["--weights", &compact]].concat());
    assert_ne!(std::fs::read(&sheet).unwrap(), plain);
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
    let json = ok(&["eval", "--weights", &weights, "--data", &path("labels.csv"), "--split", "train", "--json"]);
    let score: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(score["per_keypoint"].as_object().unwrap().len(), 4);
    ok(&["export", "--run", &run, "--precision", "int8", "--out", &path("int8.safetensors")]);
    let csv = path("out.csv");
    ok(&["predict", "--weights", &path("int8.safetensors"), "--data", &path("3.png"), "--crop", "--csv", &csv]);
    ok(&["predict", "--weights", &weights, "--data", &path("3.png"), "--crop", "--csv", &csv]);
    let out = std::fs::read_to_string(&csv).unwrap();
    let points = "file,left_ear_x,left_ear_y,right_ear_x,right_ear_y,nose_x,nose_y,chin_x,chin_y";
    let rest = "face,score,box_cx,box_cy,box_size,box_roll";
    let confidences = "left_ear_confidence,right_ear_confidence,nose_confidence,chin_confidence";
    assert_eq!(out.lines().next().unwrap(), format!("{points},{rest},{confidences}"));
    assert!(out.lines().nth(1).unwrap().starts_with("3.png,"));
}

/// A grey PNG with stored (uncompressed) data.
fn image_like(w: u32, h: u32, seed: u32) -> Vec<u8> {
    let picture =
        face96::picture::Gray::new(w as usize, h as usize, (0..w * h).map(|i| (i * 7 + seed * 31) as u8).collect())
            .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.png");
    face96::train::report::write_picture(&path, &face96::train::report::annotate(&picture, 1, &[], &[])).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
#[cfg(unix)]
fn a_reader_that_has_gone_ends_it_without_a_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut face96 = Command::new(env!("CARGO_BIN_EXE_face96"));
    let output = face96.args(["bench", "--nets", "net1", "--seconds", "0"]).stdout(writer).output().unwrap();
    assert!(!output.status.success() && output.stderr.is_empty(), "{}", text(&output));
}

#[test]
fn bad_input_gets_one_sentence_and_status_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::write(path("cut.safetensors"), [9u8; 40]).unwrap();
    std::fs::write(path("bad.csv"), "nose_x,nose_y,Image\n1,2,3 4\n").unwrap();
    std::fs::write(path("config.toml"), "epochs = 'many'").unwrap();
    let out = path("run");
    fails(&["train", "--preset", "net9", "--out", &out], "no net 'net9'");
    fails(
        &["train", "--data", &path("bad.csv"), "--out", &out],
        "line 2: column 'Image': expected 9216 pixels, found 2",
    );
    fails(&["train", "--data", &path("none.csv"), "--out", &out], "none.csv");
    fails(&["train", "--config", &path("config.toml"), "--out", &out], "config.toml");
    fails(&["train", "--epochs", "0", "--out", &out], "at least one epoch");
    fails(
        &["train", "--device", "cuda", "--out", &out],
        "face96 needs to be built with --features cuda, and the device there",
    );
    fails(&["resume", "--run", &path("nowhere")], "nowhere");
    fails(&["train", "--set", "augment.flop=1", "--out", &out], "unknown field `flop`");
    fails(
        &["train", "--specialists", "--group", "ears=left_ear", "--out", &out],
        "group 'ears': keypoint schema: no keypoint 'left_ear'",
    );
    fails(&["train", "--group", "ears=", "--out", &out], "group 'ears' names no keypoint");
    fails(&["train", "--init", &path("cut.safetensors"), "--preset", "net2", "--out", &out], "cut.safetensors");
    std::fs::write(path("broken.jpg"), b"no picture").unwrap();
    std::fs::write(path("labels.csv"), "file,nose_x,nose_y\nbroken.jpg,1,2\n").unwrap();
    fails(&["train", "--data", &path("labels.csv"), "--out", &out], "labels.csv: line 2: ");
    fails(&["plot", "--out", &path("x.svg")], "nothing to draw");
    fails(&["tutorial", "--nets", "compact", "--out", &out], "no net 'compact' in the tutorial");
    fails(&["eval", "--weights", &path("cut.safetensors")], "cut.safetensors");
    fails(&["serve", "--root", &path("")], "no folder 'www'");
    assert!(!Path::new(&out).exists(), "nothing is written before the input is known to be good");
}

#[test]
fn a_run_that_ends_while_it_saves_an_epoch_does_that_epoch_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (whole, broken) = (path("whole"), path("broken"));
    ok(&small("synthetic:20", "2", &whole));
    for file in ["best.ckpt", "samples.png"] {
        // What lies in the way of a file ends the run there.
        let way = path(&format!("broken/{file}"));
        std::fs::create_dir_all(&way).unwrap();
        fails(&small("synthetic:20", "2", &broken), file);
        std::fs::remove_dir(&way).unwrap();
        ok(&["resume", "--run", &broken]);
        assert_eq!(metrics(Path::new(&whole)), metrics(Path::new(&broken)), "{file}");
        for left in ["best.safetensors", "best.ckpt", "samples.png", "errors.svg"] {
            assert!(Path::new(&path(&format!("broken/{left}"))).is_file(), "{left} after {file}");
        }
        std::fs::remove_dir_all(&broken).unwrap();
    }
}

#[test]
fn a_run_without_its_last_checkpoint_keeps_its_best_weights() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let run = path("run");
    ok(&small("synthetic:20", "3", &run));
    let read = |name: &str| std::fs::read(path(&format!("run/{name}"))).unwrap();
    let before = ["best.safetensors", "best.ckpt", "metrics.csv"].map(read);
    std::fs::remove_file(path("run/last.ckpt")).unwrap();
    fails(
        &["resume", "--run", &run],
        "last.ckpt: expected the last checkpoint of the run, whose 3 epochs would be lost",
    );
    fails(&small("synthetic:20", "3", &run), "already holds a run");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(path("elsewhere"), path("run/last.ckpt")).unwrap();
        fails(&["resume", "--run", &run], "last.ckpt: No such file");
        std::fs::remove_file(path("run/last.ckpt")).unwrap();
    }
    assert!(["best.safetensors", "best.ckpt", "metrics.csv"].map(read) == before);
    // As the sentence says.
    std::fs::copy(path("run/best.ckpt"), path("run/last.ckpt")).unwrap();
    ok(&["resume", "--run", &run]);
    assert_eq!(metrics(Path::new(&run)).len(), 4);
}

#[test]
fn a_run_replaces_no_file_that_no_run_has_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    for (name, text) in [("samples.png", "mine"), ("lock", "mine"), ("config.toml", "# by hand\nseed = 7\n")] {
        let own = path(name).replace(name, &format!("own-{name}"));
        std::fs::create_dir(&own).unwrap();
        let file = format!("{own}/{name}");
        std::fs::write(&file, text).unwrap();
        let mut args = small("synthetic:20", "1", &own).to_vec();
        fails(&args, &format!("{name} is there and "));
        if name == "config.toml" {
            args.extend(["--config", &file]);
            fails(&args, "is read by this very command");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_keeps_every_epoch_that_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let child = Command::new(env!("CARGO_BIN_EXE_face96"))
        .args(small("synthetic:60", "1000000", run.to_str().unwrap()))
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !run.join("last.ckpt").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Epochs as short as these are written a few at a time.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = text(&output);
    assert_eq!(output.status.code(), Some(130), "{text}");
    let epochs = text.split("stopped after epoch ").nth(1).and_then(|rest| rest.split('\n').next()).unwrap();
    // And a header.
    assert_eq!(metrics(&run).len(), 1 + epochs.parse::<usize>().unwrap(), "{text}");
    let done = face96::train::checkpoint::State::history(&run.join("last.ckpt")).unwrap();
    assert_eq!(done.len().to_string(), epochs);
}

#[test]
fn killed_at_random_steps_a_run_still_ends_at_the_same_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (whole, cut) = (path("whole"), path("cut"));
    let start = std::time::Instant::now();
    ok(&small("synthetic:60", "6", &whole));
    let time = start.elapsed();
    // Somewhere in the first two thirds, then twice more after the start of what is left.
    killed(&small("synthetic:60", "6", &cut), time * 2 / 3 * (std::process::id() % 97) / 97);
    if !Path::new(&cut).join("config.toml").exists() {
        ok(&small("synthetic:60", "6", &cut));
    }
    for part in [4, 3] {
        killed(&["resume", "--run", &cut], time / part);
    }
    ok(&["resume", "--run", &cut]);
    assert_eq!(metrics(Path::new(&whole)), metrics(Path::new(&cut)));
    // Settings changed by hand no longer fit the checkpoint.
    let config = std::fs::read_to_string(path("cut/config.toml")).unwrap();
    std::fs::write(path("cut/config.toml"), config.replace("batch = 8", "batch = 9")).unwrap();
    fails(&["resume", "--run", &cut], "last.ckpt: was trained with batch = 8, the run's settings say 9");
}

/// The disk is full in the second epoch: no file may grow past half of a checkpoint, which the kernel refuses as it does on a full disk
/// (`File too large` where that says `No space left on device`).
#[test]
#[cfg(unix)]
fn a_full_disk_is_told_and_the_run_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let args = ["train", "--data", "synthetic:60", "--epochs", "3", "--batch", "16", "--set", SMALL];
    ok(&[&args[..], &["--out", &path("whole")]].concat());
    // One epoch is done: its files are there.
    ok(&[&args[..], &["--out", &path("full"), "--seconds", "0.001"]].concat());
    let config = std::fs::read_to_string(path("full/config.toml")).unwrap();
    assert!(config.contains("seconds = 0.001"), "{config}");
    std::fs::write(path("full/config.toml"), config.replace("seconds = 0.001", "seconds = 0.0")).unwrap();
    let checkpoint = std::fs::read(path("full/last.ckpt")).unwrap();
    let script = format!(
        "trap '' XFSZ; ulimit -f {room}; {program} resume --run {run}; echo status $?; ls {run}",
        room = checkpoint.len() / 2 / 512,
        program = env!("CARGO_BIN_EXE_face96"),
        run = path("full"),
    );
    let told = text(&Command::new("sh").args(["-c", &script]).output().unwrap());
    assert!(told.contains("status 2\n") && told.contains(".ckpt: File too large"), "{told}");
    assert!(!told.lines().any(|line| line.contains("face96-tmp")), "nothing is left half written: {told}");
    assert!(std::fs::read(path("full/last.ckpt")).unwrap() == checkpoint, "the checkpoint is as it was");
    let resumed = Command::new(env!("CARGO_BIN_EXE_face96")).args(["resume", "--run", &path("full")]).output().unwrap();
    let resumed = text(&resumed);
    assert!(resumed.contains("going on after epoch 1 of 3"), "{resumed}");
    assert_eq!(metrics(&dir.path().join("full")), metrics(&dir.path().join("whole")));
}

/// Kaggle's training.csv, test.csv and IdLookupTable.csv, small: drawn faces, some without mouth corners.
fn kaggle_files(dir: &Path) {
    use std::fmt::Write;
    let data = face96::data::load("synthetic:24", Default::default()).unwrap();
    let names = &data.schema.keypoints;
    let header: Vec<String> = names.iter().map(|n| format!("{n}_x,{n}_y")).collect();
    let mut training = format!("{},Image\n", header.join(","));
    let mut test = String::from("ImageId,Image\n");
    for (i, face) in data.faces.iter().enumerate() {
        let pixels: Vec<String> = face.crop().iter().map(|p| format!("{p:.0}")).collect();
        for (name, p) in names.iter().zip(&face.points) {
            match name.contains("corner") && name.contains("mouth") && i % 2 == 1 {
                true => training.push_str(",,"),
                false => write!(training, "{},{},", p[0], p[1]).unwrap(),
            }
        }
        writeln!(training, "{}", pixels.join(" ")).unwrap();
        if i < 3 {
            writeln!(test, "{},{}", i + 1, pixels.join(" ")).unwrap();
        }
    }
    let lookup = "RowId,ImageId,FeatureName,Location\n1,1,nose_tip_x,\n2,1,nose_tip_y,\n3,3,mouth_left_corner_x,\n";
    for (name, text) in [("training.csv", training.as_str()), ("test.csv", &test), ("lookup.csv", lookup)] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

#[test]
fn specialists_from_kaggles_files_to_a_submission() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    kaggle_files(dir.path());
    let (run, data) = (path("run"), path("training.csv"));
    let small = ["--set", "net.dense=[24,24]", "--epochs", "1", "--batch", "8"];
    let base = path("base");
    ok(&[&["train", "--data", &data, "--preset", "net2", "--out", &base], &small[..]].concat());
    let init = path("base/best.safetensors");
    let specialists = ["train", "--data", &data, "--preset", "net2", "--specialists", "--init", &init, "--out", &run];
    let said = ok(&[&specialists[..], &small[..]].concat());
    assert!(said.contains("all specialists together"), "{said}");
    let folder = |name: &str| dir.path().join("run").join(name).join("best.safetensors").is_file();
    for name in ["eye_centers", "nose", "mouth_top", "mouth_bottom", "eye_corners", "eyebrows"] {
        assert!(folder(name), "{name}");
    }
    let config = std::fs::read_to_string(path("run/mouth_top/config.toml")).unwrap();
    assert!(config.contains("mouth_left_corner") && config.contains("patience = 200"), "{config}");
    let eval = |weights: &[&str]| {
        let json = ok(&[&["eval", "--data", &data, "--json", "--weights"], weights].concat());
        serde_json::from_str::<serde_json::Value>(&json).unwrap()
    };
    let (all, nose) = (eval(&[&run]), eval(&[&path("run/nose")]));
    assert_eq!(all["per_keypoint"].as_object().unwrap().len(), 15);
    assert_eq!(nose["per_keypoint"].as_object().unwrap().len(), 1);
    assert_eq!(all["per_keypoint"]["nose_tip"], nose["per_keypoint"]["nose_tip"]);
    let (eyes, mouth) = (path("run/eye_centers"), path("run/mouth_bottom/best.safetensors"));
    assert_eq!(eval(&[&eyes, &mouth])["per_keypoint"].as_object().unwrap().len(), 3);

    let out = path("submission.csv");
    let submission = |weights: &str, lookup: &str| {
        ["submission", "--weights", weights, "--test", &path("test.csv"), "--lookup", lookup, "--out", &out]
            .map(String::from)
    };
    let refused = |weights: &str, lookup: &str, part: &str| {
        fails(&submission(weights, lookup).each_ref().map(String::as_str), part);
        assert!(!Path::new(&out).exists(), "nothing is written half");
    };
    let lookup = path("lookup.csv");
    refused(&path("run/nose"), &lookup, "lookup.csv: line 4: no net predicts 'mouth_left_corner_x'");
    std::fs::write(path("wrong.csv"), "RowId,ImageId,FeatureName,Location\n1,1,nose_tip_x,\n2,9,nose_tip_x,\n")
        .unwrap();
    refused(&run, &path("wrong.csv"), "wrong.csv: line 3: ");
    refused(&run, &path("wrong.csv"), "test.csv has no ImageId '9'");
    refused(&run, &path("none.csv"), "none.csv");
    let over = ["submission", "--weights", &run, "--test", &path("test.csv"), "--lookup", &lookup, "--out", &lookup];
    fails(&over, "lookup.csv: is read by this very command");
    fails(&["export", "--weights", &init, "--out", &init], "is read by this very command");
    let said = ok(&[&submission(&run, &lookup).each_ref().map(String::as_str)[..], &["--json"]].concat());
    let figures: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&figures["rows"], &figures["pictures"]), (&3.into(), &3.into()));
    let text = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines.len()), ("RowId,Location", 4));
    for (i, line) in lines[1..].iter().enumerate() {
        let (row, place) = line.split_once(',').unwrap();
        assert_eq!(row, (i + 1).to_string());
        assert!((0. ..=96.).contains(&place.parse::<f32>().unwrap()), "{line}");
    }
    // Finished: it only says what there is.
    assert!(ok(&["resume", "--run", &run]).contains("all specialists together"));
}

#[test]
fn figures_come_as_json_alone_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let json = |args: &[&str]| {
        let output = common::face96(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{}", text(&output));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let run = path("run");
    let lines = json(&small("synthetic:30", "2", &run));
    assert_eq!(
        lines.iter().map(|l| &l["epoch"]["epoch"]).collect::<Vec<_>>(),
        [&1.into(), &2.into(), &serde_json::Value::Null]
    );
    assert!(lines[0]["epoch"]["valid_nme_pct"].is_number() && lines[0]["best"] == true, "{lines:?}");
    assert!(lines[2]["score"]["nme_pct"].is_number() && lines[2]["epochs"] == 2 && lines[2]["best_epoch"].is_number());
    // Finished: only the end is told.
    assert_eq!(json(&["resume", "--run", &run])[..], lines[2..]);
    let (out, onnx) = (path("w.safetensors"), path("w.onnx"));
    let files = &json(&["export", "--run", &run, "--out", &out, "--onnx", &onnx])[0]["files"];
    for (i, file) in [&out, &onnx].into_iter().enumerate() {
        assert_eq!(
            (&files[i]["path"], &files[i]["bytes"]),
            (&file.as_str().into(), &std::fs::metadata(file).unwrap().len().into())
        );
    }
    let bench = &json(&["bench", "--nets", "net1", "--seconds", "0"])[0];
    assert!(
        bench["nets"][0]["train_samples_per_second"].as_f64() > Some(0.)
            && bench["multiply_adds_per_second"].is_number()
    );
    let threads = &json(&["bench", "--nets", "net1", "--seconds", "0", "--threads", "1,2"])[0];
    assert_eq!(threads["threads"].as_array().unwrap().len(), 2);
    assert!(threads["model"]["parallel_ms"].is_number(), "{threads}");
}

#[test]
fn plots_and_a_file_of_settings() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let toml = "preset = 'net1'\ndata = 'synthetic:30'\nepochs = 40\npatience = 2\n[net]\nhidden = 4\n\
                [optimizer]\nlr = [0.0, 0.0]\n";
    std::fs::write(path("my.toml"), toml).unwrap();
    let (a, b) = (path("a"), path("b"));
    let said = ok(&["train", "--config", &path("my.toml"), "--out", &a]);
    // With a rate of 0 no epoch is better than the first.
    assert!(said.contains("no better epoch in 2; the weights are those of epoch 1, the best of 3"), "{said}");
    assert!(said.contains("nose_tip"), "the table by keypoint: {said}");
    let said = ok(&["train", "--config", &path("my.toml"), "--seconds", "0.001", "--seed", "7", "--out", &b]);
    assert!(said.contains("the best of 1"), "{said}");
    ok(&["plot", "--run", &a, "--out", &path("one.svg")]);
    ok(&["plot", "--run", &a, &b, "--out", &path("two.svg")]);
    let sheet = path("sheet.png");
    let plot = |set: &str| {
        ok(&["plot", "--augmented", "--data", "synthetic:10", "--count", "9", "--set", set, "--out", &sheet]);
        std::fs::read(&sheet).unwrap()
    };
    let (first, again, other) = (plot("seed=1"), plot("seed=1"), plot("seed=2"));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_ne!(first, plot("augment.flip=0"));
    for file in ["one.svg", "two.svg"] {
        assert!(std::fs::read_to_string(path(file)).unwrap().starts_with("<svg"), "{file}");
    }
}

#[test]
fn the_tutorials_table_is_written_by_a_command() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let doc = path("docs/tutorial.md");
    let args = ["tutorial", "--data", "synthetic:40", "--nets", "net1", "--seconds", "1", "--doc", &doc];
    ok(&[&args[..], &["--out", &path("runs")]].concat());
    let page = std::fs::read_to_string(&doc).unwrap();
    assert!(page.contains("| net1 | one hidden layer |") && page.contains("(tutorial.svg)"), "{page}");
    assert!(std::fs::read_to_string(path("docs/tutorial.svg")).unwrap().contains("net1"));
    // The runs are there: the same command only writes the page again.
    let said = ok(&[&args[..], &["--out", &path("runs")]].concat());
    assert!(said.contains("going on after epoch"), "{said}");
    assert_eq!(std::fs::read_to_string(&doc).unwrap(), page);
}

#[test]
fn pictures_with_pts_files_train_with_15_or_68_points() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::create_dir(path("faces")).unwrap();
    for i in 0..12u32 {
        std::fs::write(path(&format!("faces/photo{i}_1.png")), image_like(200, 180, i)).unwrap();
        // Not a face, but 68 points spread over a square.
        let points: Vec<String> = (0..68).map(|p| format!("{} {}", 60 + 10 * (p % 9), 40 + 12 * (p / 9))).collect();
        let text = format!("version: 1\nn_points: 68\n{{\n{}\n}}\n", points.join("\n"));
        std::fs::write(path(&format!("faces/photo{i}_1.pts")), text).unwrap();
    }
    for (flag, points) in [(None, 15), (Some("--all-68"), 68)] {
        let run = path(&format!("run{points}"));
        let data = path("faces");
        let mut args = vec!["train", "--data", &data, "--epochs", "1", "--batch", "4", "--set", SMALL, "--out", &run];
        args.extend(flag);
        assert!(ok(&args).contains(&format!("{points} keypoints")));
        let csv = path("out.csv");
        let weights = format!("{run}/best.safetensors");
        ok(&["predict", "--weights", &weights, "--data", &path("faces/photo3_1.png"), "--crop", "--csv", &csv]);
        let header = std::fs::read_to_string(&csv).unwrap().lines().next().unwrap().to_string();
        assert_eq!(header.split(',').count(), 1 + 3 * points + 6);
    }
}
