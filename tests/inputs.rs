//! What people have and do, tried on the program from outside: pictures of every format and orientation, outputs to pipes and
//! links, photos with points and no boxes, data that has moved, signals. All faces are drawn.
#![cfg(feature = "native")]

mod common;

use common::{compact, face96, fails, metrics, ok, small, text};
use face96::geometry::CropBox;
use face96::synthetic::{Scene, SyntheticFace};
use image::{DynamicImage, ImageFormat, RgbImage};
use std::path::Path;
use std::process::{Command, Stdio};

/// A drawn face in a picture of 640 x 480, its box so large.
fn scene(seed: u64, size: f32) -> Scene {
    SyntheticFace::new(seed).draw(640, 480, CropBox { x: 330., y: 230., size, roll: 0. })
}

fn picture(scene: &Scene) -> RgbImage {
    let rgb = scene.rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    RgbImage::from_raw(scene.width as u32, scene.height as u32, rgb).unwrap()
}

fn write(path: &Path, picture: &DynamicImage, format: ImageFormat) {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    std::fs::write(path, bytes.into_inner()).unwrap();
}

/// A table's rows, by the names of its columns.
fn rows(csv: &str) -> Vec<std::collections::HashMap<String, String>> {
    let mut lines = csv.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines.map(|l| header.iter().map(|h| h.to_string()).zip(l.split(',').map(String::from)).collect()).collect()
}

#[test]
fn pictures_of_every_format_are_looked_at_by_content_and_bad_ones_only_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    std::fs::create_dir(path("photos")).unwrap();
    let scene = scene(3, 200.);
    let shown = DynamicImage::ImageRgb8(picture(&scene));
    let formats = [
        ("a.jpg", ImageFormat::Jpeg),
        ("a.png", ImageFormat::Png),
        ("b.jfif", ImageFormat::Jpeg),
        ("c.webp", ImageFormat::WebP),
        ("d.bmp", ImageFormat::Bmp),
        ("e.gif", ImageFormat::Gif),
        ("f.tif", ImageFormat::Tiff),
        ("g.jpg", ImageFormat::Png),
    ];
    for (name, format) in formats {
        write(&dir.path().join("photos").join(name), &shown, format);
    }
    let jpeg = std::fs::read(path("photos/a.jpg")).unwrap();
    std::fs::write(path("photos/x1.jpg"), "<html>404</html>").unwrap();
    std::fs::write(path("photos/x2.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    std::fs::write(path("photos/x3.heic"), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").unwrap();
    std::fs::write(path("photos/._a.jpg"), b"\0\x05\x16\x07").unwrap();
    std::fs::write(path("photos/notes.txt"), "of the day").unwrap();
    let (photos, weights, drawn) = (path("photos"), compact(), path("drawn"));
    let args = ["predict", "--weights", &weights, "--data", &photos, "--csv", "-", "--draw", &drawn];
    let output = face96(&args);
    let (csv, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    let rows = rows(&csv);
    assert_eq!(rows.iter().map(|r| r["file"].as_str()).collect::<Vec<_>>(), formats.map(|f| f.0), "{said}");
    for row in &rows {
        let at = |c: &str| row[c].parse::<f32>().unwrap();
        let [x, y] = scene.keypoints[10];
        // Gif has 256 colours.
        let off = (at("nose_tip_x") - x).hypot(at("nose_tip_y") - y);
        assert!(off < 6., "{}: {off}", row["file"]);
        assert_eq!(row["face"], "1");
        assert!(at("score") > 0.5 && at("nose_tip_confidence") > 0.3);
    }
    for part in [
        "x1.jpg: expected JPEG, PNG, WebP, BMP, GIF or TIFF, found a file that begins with '<html>404</html>'",
        "x2.jpg: expected a whole JPEG, found one that is cut off",
        "x3.heic: expected JPEG, PNG, WebP, BMP, GIF or TIFF, found HEIC",
        "1 file left out that is no picture, such as notes.txt",
        "3 of 11 pictures could not be read and are left out",
        "8 faces",
    ] {
        assert!(said.contains(part), "expected '{part}' in: {said}");
    }
    // Copies keep name and format, and are in colour.
    for (name, format) in formats {
        let bytes = std::fs::read(dir.path().join("drawn").join(name)).unwrap();
        assert_eq!(image::guess_format(&bytes).unwrap(), format, "{name}");
        let copy = image::load_from_memory(&bytes).unwrap().into_rgb8();
        assert_eq!(copy.dimensions(), (640, 480));
        assert!(copy.pixels().any(|p| p.0[0].abs_diff(p.0[2]) > 60), "{name} has colours");
    }
    // Drawn again, they are replaced; what was not drawn here is not.
    assert_eq!(face96(&args).status.code(), Some(1));
    fails(&["predict", "--weights", &weights, "--data", &photos, "--draw", &photos], "was not drawn by this program");
    std::fs::write(path("drawn/a.png"), "mine").unwrap();
    fails(&args, "drawn/a.png is there and was not drawn by this program");
    assert_eq!(std::fs::read(path("photos/a.jpg")).unwrap(), jpeg);
    assert_eq!(std::fs::read_to_string(path("drawn/a.png")).unwrap(), "mine");
}

#[test]
fn all_faces_of_a_picture_are_drawn_and_labels_written_as_coco_are_read_by_train() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    for i in 0..6u64 {
        let mut both = RgbImage::new(1280, 480);
        image::imageops::overlay(&mut both, &picture(&scene(i, 190.)), 0, 0);
        image::imageops::overlay(&mut both, &picture(&scene(i + 50, 170.)), 640, 0);
        both.save(path(&format!("{i}.png"))).unwrap();
    }
    let (weights, here, json) = (compact(), dir.path().to_str().unwrap().to_string(), path("found.json"));
    let predict = ["predict", "--weights", &weights, "--data", &here, "--max-faces", "4"];
    let said = ok(&[&predict[..], &["--json", &json, "--draw", &path("drawn")]].concat());
    let found: usize = said.lines().last().unwrap().trim_end_matches(" faces").parse().unwrap();
    // Drawn faces are none that the shipped nets were made for; the first picture's are both found.
    assert!((8..=12).contains(&found), "{said}");
    let before = image::open(path("0.png")).unwrap().into_rgb8();
    let after = image::open(path("drawn/0.png")).unwrap().into_rgb8();
    let changed = |from: u32| {
        (0..480)
            .flat_map(|y| (from..from + 640).map(move |x| (x, y)))
            .filter(|(x, y)| before.get_pixel(*x, *y) != after.get_pixel(*x, *y))
            .count()
    };
    assert!(changed(0) > 300 && changed(640) > 300, "{} {}", changed(0), changed(640));
    let said = ok(&["data", &json]);
    assert!(
        said.contains("format: COCO keypoints")
            && said.contains(&format!("with {found} faces"))
            && said.contains("mirror pairs: 6:"),
        "{said}"
    );
    ok(&small(&json, "1", &path("run")));
    let data = face96::data::load(&json, Default::default()).unwrap();
    let face = &data.faces[0];
    let [x, y] = face.to_picture.then(face.to_file).apply(face.points[10]);
    let nose = scene(0, 190.).keypoints[10];
    let other = scene(50, 170.).keypoints[10];
    let near = |p: [f32; 2], dx: f32| (x - p[0] - dx).hypot(y - p[1]) < 6.;
    assert!(near(nose, 0.) || near(other, 640.), "{x} {y}");
}

#[test]
#[cfg(unix)]
fn outputs_go_through_links_and_into_pipes_and_never_over_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    picture(&scene(1, 200.)).save(path("a.png")).unwrap();
    let (weights, data) = (compact(), path("a.png"));
    let predict = |flag: &str, out: &str| face96(&["predict", "--weights", &weights, "--data", &data, flag, out]);
    std::fs::write(path("real.csv"), "old").unwrap();
    std::os::unix::fs::symlink("real.csv", path("link.csv")).unwrap();
    assert!(predict("--csv", &path("link.csv")).status.success());
    assert!(std::fs::symlink_metadata(path("link.csv")).unwrap().is_symlink());
    assert!(std::fs::read_to_string(path("real.csv")).unwrap().starts_with("file,"));
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    for flag in ["--csv", "--json"] {
        let reader = Command::new("cat").arg(path("pipe")).stdout(Stdio::piped()).spawn().unwrap();
        assert!(predict(flag, &path("pipe")).status.success());
        let got = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
        assert!(got.contains("a.png"), "{flag}: {got}");
    }
    assert!(!std::fs::metadata(path("pipe")).unwrap().is_file());
    for flag in ["--csv", "--json"] {
        let output = predict(flag, "-");
        let (out, said) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(out.contains("a.png") && !out.contains("1 face\n") && said.contains("1 face"), "{out}{said}");
    }
    assert!(!Path::new("-").exists());
    fails(&["predict", "--weights", &weights, "--data", &data, "--csv", &data], "is read by this very command");
}

/// The fingerprint of every file of a folder, and of those below it.
fn contents(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = std::collections::BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        match entry.is_dir() {
            true => all.extend(contents(&entry)),
            false => drop(all.insert(entry.clone(), std::fs::read(&entry).unwrap())),
        }
    }
    all
}

#[test]
fn no_output_replaces_what_it_did_not_make() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    photos(&dir.path().join("my"), 0..6);
    // A folder as label tools export it: pictures in `images`.
    std::fs::create_dir_all(path("tool/images")).unwrap();
    for i in 0..6 {
        std::fs::copy(path(&format!("my/IMG_{i}.jpg")), path(&format!("tool/images/IMG_{i}.jpg"))).unwrap();
    }
    ok(&["data", &path("my"), "--to", "labelme", "--out", &path("tool")]);
    ok(&["data", &path("my"), "--to", "coco", "--out", &path("my")]);
    let (run, weights) = (path("run"), path("w.safetensors"));
    ok(&small(&path("my/labels.csv"), "1", &run));
    std::fs::copy(compact(), &weights).unwrap();
    let finder = path("f.safetensors");
    std::fs::copy(compact().replace("compact", "finder"), &finder).unwrap();
    std::fs::hard_link(path("my/IMG_0.jpg"), path("hard.jpg")).unwrap();
    std::fs::write(path("own.toml"), "preset = 'net1'").unwrap();
    let before = contents(dir.path());
    let predict = |data: &str, flag: &str, out: &str, part: &str| {
        let args = ["predict", "--weights", &weights, "--finder", &finder, "--data", &path(data), flag, &path(out)];
        fails(&args, part);
    };
    let (read, foreign) = ("is read by this very command", "is there and was not written by predict");
    // Labels beside photos are no input, and still nobody's to replace.
    predict("my", "--csv", "my/labels.csv", foreign);
    predict("my", "--json", "my/coco.json", foreign);
    predict("my", "--csv", "my/IMG_1.jpg", read);
    predict("my", "--csv", "hard.jpg", read);
    predict("my", "--csv", "f.safetensors", read);
    predict("my/labels.csv", "--csv", "my/IMG_0.jpg", read);
    predict("my/labels.csv", "--json", "my/labels.csv", read);
    predict("tool", "--csv", "tool/images/IMG_1.jpg", read);
    predict("tool", "--csv", "tool/IMG_0.json", read);
    fails(&["predict", "--weights", &run, "--data", &path("my"), "--csv", &path("run/best.safetensors")], read);
    let photo = path("tool/images/IMG_0.jpg");
    fails(&["data", &path("tool"), "--draw", &photo], read);
    fails(&["plot", "--augmented", "--data", &path("tool"), "--out", &photo], read);
    fails(&["plot", "--run", &run, "--out", &path("run/last.ckpt")], read);
    fails(&["plot", "--augmented", "--config", &path("own.toml"), "--out", &path("own.toml")], read);
    fails(&["eval", "--weights", &run, "--data", &path("tool"), "--worst", &photo], read);
    fails(&["eval", "--weights", &run, "--data", &path("tool"), "--curve", &path("run/best.ckpt")], read);
    for kept in ["best.ckpt", "last.ckpt", "config.toml"] {
        fails(&["export", "--run", &run, "--out", &path(&format!("run/{kept}"))], read);
    }
    assert!(contents(dir.path()) == before, "some file is another");
    // Its own outputs it replaces, also beside the photos.
    for _ in 0..2 {
        let out = [("--csv", "my/found.csv"), ("--json", "my/found.json")];
        for (flag, out) in out {
            ok(&["predict", "--weights", &weights, "--data", &path("my/IMG_2.jpg"), flag, &path(out)]);
        }
    }
}

#[test]
fn labelled_faces_of_one_photo_are_written_together_with_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    photos(&dir.path().join("my"), 0..2);
    let labels = std::fs::read_to_string(path("my/labels.csv")).unwrap();
    let first = labels.lines().nth(1).unwrap();
    std::fs::write(path("my/labels.csv"), format!("{labels}{first}\n")).unwrap();
    let (weights, json, csv) = (compact(), path("o.json"), path("o.csv"));
    ok(&["predict", "--weights", &weights, "--data", &path("my/labels.csv"), "--json", &json, "--csv", &csv]);
    let coco: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    let images = coco["images"].as_array().unwrap();
    assert_eq!((images.len(), &images[0]["width"], &images[0]["height"]), (2, &640.into(), &480.into()));
    let numbers: Vec<String> = rows(&std::fs::read_to_string(csv).unwrap()).iter().map(|r| r["face"].clone()).collect();
    assert_eq!(numbers, ["1", "2", "1"]);
    // Folders of pictures below are told, not looked into.
    std::fs::create_dir(path("all")).unwrap();
    std::fs::rename(path("my"), path("all/anna")).unwrap();
    std::fs::remove_file(path("all/anna/labels.csv")).unwrap();
    let predict = ["predict", "--weights", &weights, "--data", &path("all"), "--csv", "-"];
    fails(&predict, "all/anna: give that");
    std::fs::copy(path("all/anna/IMG_0.jpg"), path("all/a.jpg")).unwrap();
    assert!(ok(&predict).contains("1 folder of pictures in it is passed over, such as anna"));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_output_is_told_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let photo = dir.path().join("a.png");
    picture(&scene(1, 200.)).save(&photo).unwrap();
    let full = || std::fs::File::create("/dev/full").unwrap();
    let run = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_face96")).args(args).stdout(full()).output().unwrap();
    let told = |output: std::process::Output, part: &str| {
        assert!(output.status.code() == Some(2) && text(&output).contains(part), "{}", text(&output));
    };
    told(run(&["data", "synthetic:5"]), "standard output: No space left on device");
    let weights = compact();
    let predict = ["predict", "--weights", &weights, "--data", photo.to_str().unwrap(), "--csv"];
    told(run(&[&predict[..], &["-"]].concat()), "standard output: No space left");
    told(face96(&[&predict[..], &["/dev/full"]].concat()), "/dev/full: No space left");
    // A run's files are written all the same.
    let out = dir.path().join("run");
    told(run(&small("synthetic:20", "1", out.to_str().unwrap())), "standard output");
    assert!(out.join("last.ckpt").is_file());
}

#[test]
fn frames_of_a_clip_are_followed_in_the_order_of_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let face = SyntheticFace::new(5);
    for i in 0..12u32 {
        let at = CropBox { x: 200. + 6. * i as f32, y: 200., size: 180., roll: 0. };
        picture(&face.draw(640, 480, at)).save(path(&format!("f{i}.png"))).unwrap();
    }
    let (weights, here) = (compact(), dir.path().to_str().unwrap().to_string());
    let csv = face96(&["predict", "--weights", &weights, "--data", &here, "--stream", "25", "--csv", "-"]).stdout;
    let rows = rows(&String::from_utf8(csv).unwrap());
    let files: Vec<String> = rows.iter().map(|r| r["file"].clone()).collect();
    assert_eq!(files, (0..12).map(|i| format!("f{i}.png")).collect::<Vec<_>>());
    assert!(rows.iter().all(|r| r["face"] == rows[0]["face"] && r["face"] != "0"), "one track");
    let x: Vec<f32> = rows.iter().map(|r| r["nose_tip_x"].parse().unwrap()).collect();
    assert!(x.windows(2).all(|w| (0. ..14.).contains(&(w[1] - w[0]))), "{x:?}");
    fails(
        &["predict", "--weights", &weights, "--data", &here, "--stream", "0", "--csv", "-"],
        "frames a second above 0",
    );
}

/// Photos with a `labels.csv` of five points and no boxes, as the README tells people to make them.
fn photos(folder: &Path, seeds: std::ops::Range<u64>) -> Vec<(String, [[f32; 2]; 5])> {
    std::fs::create_dir_all(folder).unwrap();
    let names = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"];
    let header: Vec<String> = names.iter().map(|n| format!("{n}_x,{n}_y")).collect();
    let mut csv = format!("file,{}\n", header.join(","));
    let mut all = Vec::new();
    for seed in seeds {
        let n = seed as f32;
        let at =
            CropBox { x: 200. + (n * 37.) % 240., y: 160. + (n * 23.) % 150., size: 120. + (n * 29.) % 120., roll: 0. };
        let scene = SyntheticFace::new(seed).draw(640, 480, at);
        let file = format!("IMG_{seed}.jpg");
        write(&folder.join(&file), &DynamicImage::ImageRgb8(picture(&scene)), ImageFormat::Jpeg);
        let points = [0, 1, 10, 11, 12].map(|k| scene.keypoints[k]);
        csv += &format!("{file},{}\n", points.map(|p| format!("{:.1},{:.1}", p[0], p[1])).join(","));
        all.push((file, points));
    }
    std::fs::write(folder.join("labels.csv"), csv).unwrap();
    all
}

#[test]
fn photos_with_points_and_no_boxes_train_a_net_that_predict_finds_faces_with() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    photos(&dir.path().join("train"), 100..150);
    let others = photos(&dir.path().join("others"), 200..220);
    let said = ok(&["train", "--data", &path("train/labels.csv"), "--epochs", "40", "--out", &path("run")]);
    assert!(said.contains("few faces, so each 4 times an epoch, in batches of 20 instead of 64"), "{said}");
    let csv = face96(&["predict", "--weights", &path("run"), "--data", &path("others"), "--csv", "-"]).stdout;
    let rows = rows(&String::from_utf8(csv).unwrap());
    let mut errors = Vec::new();
    for (row, (file, points)) in rows.iter().zip(&others) {
        assert_eq!(&row["file"], file);
        let number = |c: String| row[&c].parse::<f32>().ok();
        let found = ["left_eye", "right_eye", "nose", "mouth_left", "mouth_right"]
            .map(|n| (number(format!("{n}_x")), number(format!("{n}_y"))));
        let eyes = (points[0][0] - points[1][0]).hypot(points[0][1] - points[1][1]);
        let off = found.iter().zip(points).filter_map(|((x, y), p)| Some(((*x)? - p[0]).hypot((*y)? - p[1])));
        let off: Vec<f32> = off.collect();
        if off.len() == 5 {
            errors.push(off.iter().sum::<f32>() / 5. / eyes);
        }
    }
    let mean = 100. * errors.iter().sum::<f32>() / errors.len() as f32;
    println!("{} of {} found, NME {mean:.2} % of the eye distance", errors.len(), others.len());
    assert!(errors.len() * 100 >= others.len() * 95 && mean <= 6., "{} found, {mean} %", errors.len());
}

/// One photo of 12 million pixels with a face, under many names.
#[cfg(target_os = "linux")]
fn large_photos(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder).unwrap();
    let at = CropBox { x: 2100., y: 1400., size: 1300., roll: 0. };
    let rgb =
        SyntheticFace::new(7).draw(4000, 3000, at).rgba.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    let photo = DynamicImage::ImageRgb8(RgbImage::from_raw(4000, 3000, rgb).unwrap());
    write(&folder.join("0.jpg"), &photo, ImageFormat::Jpeg);
    for i in 1..count {
        std::fs::hard_link(folder.join("0.jpg"), folder.join(format!("{i}.jpg"))).unwrap();
    }
}

/// Looks at all pictures of a folder in so much address space, KiB; the highest memory in MB, and the seconds.
#[cfg(target_os = "linux")]
fn peak_of_predict(folder: &Path, address_space: &str) -> (f64, f64) {
    let csv = folder.with_extension("csv");
    let script = format!(
        "ulimit -v {address_space}; exec {} predict --weights {} --data {} --csv {}",
        env!("CARGO_BIN_EXE_face96"),
        compact(),
        folder.display(),
        csv.display()
    );
    let start = std::time::Instant::now();
    let mut child = Command::new("sh").args(["-c", &script]).stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0f64;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0.) / 1000.);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let seconds = start.elapsed().as_secs_f64();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let rows = rows(&std::fs::read_to_string(csv).unwrap());
    let files = std::fs::read_dir(folder).unwrap().count();
    assert!(rows.len() == files && rows.iter().all(|r| r["face"] == "1"), "{} rows", rows.len());
    (peak, seconds)
}

#[test]
#[cfg(target_os = "linux")]
fn many_large_photos_take_the_memory_of_a_few() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("photos");
    large_photos(&folder, 24);
    let (peak, _) = peak_of_predict(&folder, "560000");
    assert!(peak <= 400., "{peak} MB");
}

/// The figures of docs/your-faces.md: `cargo test --release --test inputs thousand -- --ignored --nocapture`.
#[test]
#[ignore = "two minutes of decoding"]
#[cfg(target_os = "linux")]
fn a_thousand_large_photos_are_bound_by_decoding() {
    use rayon::prelude::*;
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("photos");
    let count = 1000;
    large_photos(&folder, count);
    let (peak, seconds) = peak_of_predict(&folder, "unlimited");
    let some = 100;
    let start = std::time::Instant::now();
    (0..some).into_par_iter().for_each_init(face96::data::photo::GreyReader::default, |reader, i| {
        reader.read(&folder.join(format!("{i}.jpg"))).unwrap();
    });
    let decoding = start.elapsed().as_secs_f64() / some as f64;
    let each = seconds / count as f64;
    println!(
        "{count} photos of 12 million pixels: peak {peak:.0} MB, {:.1} a second on {} threads, {:.0} % of the time decoding",
        1. / each,
        rayon::current_num_threads(),
        100. * decoding / each
    );
    assert!(peak <= 400., "{peak} MB");
}

#[test]
fn a_run_knows_its_data_by_content() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    photos(&dir.path().join("my"), 0..8);
    let run = path("run");
    ok(&[&small(&path("my/labels.csv"), "2", &run)[..], &["--set", "patience=0"]].concat());
    let before = metrics(Path::new(&run));
    let resume = |run: &str, more: &[&str]| face96(&[&["resume", "--run", run], more].concat());
    std::fs::rename(path("my"), path("moved")).unwrap();
    let output = resume(&run, &[]);
    assert!(text(&output).contains("--data says where the data lies now"), "{}", text(&output));
    assert!(resume(&run, &["--data", &path("moved/labels.csv")]).status.success());
    // Found there from now on, from any folder.
    assert!(resume(&run, &[]).status.success());
    assert_eq!(metrics(Path::new(&run)), before);
    let labels = std::fs::read_to_string(path("moved/labels.csv")).unwrap();
    let refused = |csv: &str, part: &str| {
        std::fs::write(path("moved/labels.csv"), csv).unwrap();
        let output = resume(&run, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output).contains(part), "expected '{part}' in: {}", text(&output));
    };
    let exchanged = labels.replacen(
        "left_eye_x,left_eye_y,right_eye_x,right_eye_y",
        "right_eye_x,right_eye_y,left_eye_x,left_eye_y",
        1,
    );
    refused(&exchanged, "in the order left_eye, right_eye, nose");
    refused(
        &labels.replace("nose_", "beak_"),
        "expected the keypoints left_eye, right_eye, nose, mouth_left, mouth_right, found left_eye, right_eye, beak",
    );
    refused(labels.trim_end().rsplit_once('\n').unwrap().0, "expected 8 faces and negatives, found 7");
    refused(&labels.replacen("IMG_1.jpg,", "IMG_2.jpg,", 1), "found others");
    std::fs::write(path("moved/labels.csv"), &labels).unwrap();
    let config = std::fs::read_to_string(path("run/config.toml")).unwrap();
    std::fs::write(path("run/config.toml"), config.replace("epochs = 2", "epochs = 9")).unwrap();
    assert!(text(&resume(&run, &[])).contains("train --init"), "{}", text(&resume(&run, &[])));
}

#[test]
#[cfg(unix)]
fn a_stopped_run_ends_with_the_status_of_its_signal() {
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        let child = Command::new(env!("CARGO_BIN_EXE_face96"))
            .args(small("synthetic:60", "1000000", run.to_str().unwrap()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        while !run.join("last.ckpt").exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert_eq!(metrics(&run).len() - 1, said.lines().filter(|l| l.starts_with("epoch")).count(), "{said}");
    }
}

#[test]
fn what_is_doubtful_is_said_in_the_first_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    photos(&dir.path().join("my"), 0..6);
    let labels = std::fs::read_to_string(path("my/labels.csv")).unwrap();
    let data = path("my/labels.csv");
    let said = |csv: String| {
        std::fs::write(&data, csv).unwrap();
        let run = tempfile::tempdir().unwrap();
        ok(&small(&data, "1", run.path().join("run").to_str().unwrap()))
    };
    assert!(said(labels.clone()).contains("mirror pairs: left_eye/right_eye, mouth_left/mouth_right\n"));
    let numbers = labels
        .replace("left_eye", "a")
        .replace("right_eye", "b")
        .replace("mouth_left", "c")
        .replace("mouth_right", "d");
    let text = said(numbers.clone());
    assert!(text.contains("no mirror images: no name of a, b, nose, c, d says left or right; --pairs"), "{text}");
    let config = |run: &str| std::fs::read_to_string(format!("{run}/config.toml")).unwrap();
    let run = path("paired");
    let text = ok(&[&small(&data, "1", &run)[..], &["--pairs", "a=b,c=d"]].concat());
    assert!(text.contains("mirror pairs: a/b, c/d\n") && config(&run).contains("flip = 0.5"), "{text}");
    let line = labels.lines().nth(2).unwrap();
    let file = line.split(',').next().unwrap();
    let text = said(labels.replace(line, &format!("{file},-1,-1,0,0,8000,9,NA,null,300,300")));
    for part in [
        "line 3: 'left_eye' is at (-1, -1), and 1 point more: taken as not labelled",
        "line 3: 'nose' is at (8000, 9) of 640 x 480 pixels",
    ] {
        assert!(text.contains(part), "expected '{part}' in: {text}");
    }
    std::fs::write(
        &data,
        labels
            .replacen('\n', ",split\n", 1)
            .lines()
            .enumerate()
            .map(|(i, l)| if i == 0 { format!("{l}\n") } else { format!("{l},train\n") })
            .collect::<String>(),
    )
    .unwrap();
    fails(&small(&data, "1", &path("none")), "expected rows with split 'val' to validate, found none");
    // One row is to validate, and has no label.
    let mut all_train = std::fs::read_to_string(&data).unwrap();
    let (file, values) = labels.lines().nth(1).unwrap().split_once(',').unwrap();
    let commas = ",".repeat(1 + values.matches(',').count());
    all_train.push_str(&format!("{file}{commas},val\n"));
    std::fs::write(&data, all_train).unwrap();
    fails(&small(&data, "1", &path("none")), "the only picture to validate has none");
    assert!(!Path::new(&path("none")).exists());
    let text = ok(&[
        "train",
        "--epochs",
        "1",
        "--batch",
        "64",
        "--set",
        common::SMALL,
        "--seconds",
        "1",
        "--out",
        &path("drawn"),
    ]);
    assert!(text.lines().next().unwrap().contains("draws itself"), "{text}");
}

#[test]
fn data_says_what_it_saw_and_writes_it_in_other_formats() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    photos(&dir.path().join("my"), 0..10);
    let labels = std::fs::read_to_string(path("my/labels.csv")).unwrap();
    // The eyes and the corners of the mouth of one face are exchanged.
    let line = labels.lines().nth(4).unwrap();
    let p: Vec<&str> = line.split(',').collect();
    let exchanged = [p[0], p[3], p[4], p[1], p[2], p[5], p[6], p[9], p[10], p[7], p[8]].join(",");
    std::fs::write(path("my/labels.csv"), labels.replace(line, &exchanged)).unwrap();
    let (data, sheet) = (path("my/labels.csv"), path("sheet.png"));
    let said = ok(&["data", &data, "--draw", &sheet]);
    for part in [
        "format: CSV of pictures and points",
        "pictures: 10 with 10 faces",
        "keypoints: 5: left_eye, right_eye, nose, mouth_left, mouth_right",
        "mirror pairs: 2: left_eye/right_eye, mouth_left/mouth_right",
        "splits: 8 to train on, 2 to validate",
        "missing: none",
        "suspicious: IMG_3.jpg: left and right look exchanged",
    ] {
        assert!(said.contains(part), "expected '{part}' in: {said}");
    }
    assert_eq!(said.matches("suspicious").count(), 1, "{said}");
    assert!(image::open(&sheet).unwrap().width() > 96);
    let json: serde_json::Value = serde_json::from_str(&ok(&["data", &data, "--json"])).unwrap();
    assert_eq!((&json["faces"], &json["keypoints"][2]), (&10.into(), &"nose".into()));
    std::fs::write(&data, labels).unwrap();
    let expected = face96::data::load(&data, Default::default()).unwrap();
    for format in ["coco", "cvat", "labelme", "label-studio", "ultralytics"] {
        let out = path(format);
        std::fs::create_dir(&out).unwrap();
        for (i, _) in expected.faces.iter().enumerate() {
            std::fs::copy(path(&format!("my/IMG_{i}.jpg")), format!("{out}/IMG_{i}.jpg")).unwrap();
        }
        ok(&["data", &data, "--to", format, "--out", &out]);
        fails(&["data", &data, "--to", format, "--out", &out], "is there already");
        let back = face96::data::load(&out, Default::default()).unwrap();
        assert_eq!((back.schema, back.faces.len()), (expected.schema.clone(), 10), "{format}");
        let mut faces: Vec<_> = back.faces.iter().collect();
        faces.sort_by_key(|f| f.name.trim_start_matches("IMG_").trim_end_matches(".jpg").parse::<u32>().unwrap());
        for (a, b) in expected.faces.iter().zip(faces) {
            for (p, q) in a.points.iter().zip(&b.points) {
                assert!((p[0] - q[0]).hypot(p[1] - q[1]) < 0.05, "{format}: {p:?} {q:?}");
            }
        }
    }
    fails(&["data", &data, "--draw", &path("my/IMG_2.jpg")], "IMG_2.jpg: is read by this very command");
    fails(&["data", &path("my/IMG_1.jpg")], "expected labelled faces, found a picture without labels");
    std::fs::write(path("labels.zip"), b"PK\x03\x04....").unwrap();
    fails(&["data", &path("labels.zip")], "found a ZIP archive; unpack it first");
}

#[test]
fn it_tells_its_version_completions_and_manual() {
    let dir = tempfile::tempdir().unwrap();
    let version = ok(&["--version"]);
    assert!(version.contains("features: native") && version.contains("kernels: "), "{version}");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        assert!(ok(&["completions", shell]).contains("predict"), "{shell}");
    }
    ok(&["man", "--out", dir.path().to_str().unwrap()]);
    for page in ["face96.1", "face96-train.1", "face96-predict.1"] {
        assert!(std::fs::read_to_string(dir.path().join(page)).unwrap().contains(".TH"), "{page}");
    }
    assert!(ok(&["--help"]).contains("Exit status: 0 done"));
}
