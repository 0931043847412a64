//! Bytes from outside, mutated: whatever comes gives a value or an error, never a panic, an endless run or more memory than its size
//! allows. The corpus of each target is written here, so that it is never stale; mutants are bits, bytes, numbers, cut and doubled pieces,
//! and pieces of other members.
//!
//! A target runs for `FUZZ_SECONDS` (20): `FUZZ_SECONDS=1200 cargo test --release --test fuzz -- --nocapture` is the long run. An input that
//! fails is kept in `target/fuzz` and named; `FUZZ_SEED` changes the mutants.
#![cfg(feature = "native")]

mod common;

use face96::data::{self, Options};
use face96::infer::{Detector, Finder};
use face96::track::{Frame, Luma, Settings, Tracker, Want};
use face96::train::{checkpoint::State, Config};
use face96::weights::{Precision, Weights};
use rand::{seq::IndexedRandom, Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

/// The longest that one input may take, on a machine that is busy with other tests.
const SLOWEST: Duration = Duration::from_secs(20);

/// Values at which sizes and coordinates go wrong.
const NUMBERS: [&str; 20] = [
    "0",
    "-1",
    "1",
    "2",
    "255",
    "256",
    "65536",
    "2147483647",
    "-2147483648",
    "4294967296",
    "9223372036854775807",
    "18446744073709551616",
    "1e9",
    "1e39",
    "-1e39",
    "1e-40",
    "NaN",
    "inf",
    "0.5",
    "",
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One of the corpus, changed in one to eight ways.
fn mutant(corpus: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = corpus.choose(rng).expect("not empty").clone();
    for _ in 0..1 << rng.random_range(0..4) {
        let len = bytes.len();
        let at = rng.random_range(0..=len);
        match rng.random_range(0..9) {
            _ if len == 0 => bytes.push(rng.random()),
            0 => bytes[at.min(len - 1)] ^= 1 << rng.random_range(0..8),
            1 => bytes[at.min(len - 1)] = *[0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'<', b'{'].choose(rng).unwrap(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, rng.random()),
            4 => {
                let end = (at + rng.random_range(1..=64)).min(len);
                bytes.drain(at.min(end)..end);
            }
            5 => {
                let end = (at + rng.random_range(1..=256)).min(len);
                let piece = bytes[at.min(end)..end].to_vec();
                let to = rng.random_range(0..=len);
                bytes.splice(to..to, piece);
            }
            6 => {
                let other = corpus.choose(rng).expect("not empty");
                let from = rng.random_range(0..=other.len());
                let end = (from + rng.random_range(0..=256)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            // A number of text becomes another one.
            7 => {
                let digit = |b: &u8| b.is_ascii_digit() || *b == b'.';
                if let Some(start) = bytes[at..].iter().position(digit).map(|i| at + i) {
                    let end = bytes[start..].iter().position(|b| !digit(b)).map_or(len, |i| start + i);
                    bytes.splice(start..end, NUMBERS.choose(rng).unwrap().bytes());
                }
            }
            // So does one of eight bytes: sizes of headers.
            _ => {
                let value = [0, 1, u64::from(u32::MAX), u64::MAX, rng.random::<u64>() >> rng.random_range(0..64)];
                let value = value.choose(rng).unwrap().to_le_bytes();
                let width = *[1, 2, 4, 8].choose(rng).unwrap();
                let end = (at + width).min(len);
                bytes[at.min(end)..end].copy_from_slice(&value[..end - at.min(end)]);
            }
        }
        bytes.truncate(1 << 20);
    }
    bytes
}

/// Keeps an input that fails.
fn kept(name: &str, bytes: &[u8]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{name}-{:016x}", data::hash_bytes(bytes, 0)));
    std::fs::write(&file, bytes).unwrap();
    file.display().to_string()
}

/// Ends the tests at an input without an end, from a thread beside the target's own.
fn watch(name: &str, current: Weak<Mutex<(Instant, Vec<u8>)>>) {
    let name = name.to_string();
    std::thread::spawn(move || {
        while let Some(current) = current.upgrade() {
            let (start, bytes) = current.lock().unwrap().clone();
            if start.elapsed() > 3 * SLOWEST {
                eprintln!("{name}: {}: no end after {:?}", kept(&name, &bytes), 3 * SLOWEST);
                std::process::exit(1);
            }
            drop(current);
            std::thread::sleep(Duration::from_secs(1));
        }
    });
}

/// Runs a target on its corpus, all of which it has to take (`takes` says so), then on mutants until the time is over.
fn fuzz(name: &str, corpus: &[Vec<u8>], takes: impl Fn(&[u8]) -> bool) {
    for (i, bytes) in corpus.iter().enumerate() {
        assert!(takes(bytes), "{name}: member {i} of the corpus is refused");
    }
    let mut rng = ChaCha8Rng::seed_from_u64(number("FUZZ_SEED", 96));
    let end = Instant::now() + Duration::from_secs(number("FUZZ_SECONDS", 20));
    let (mut runs, mut taken, mut slowest) = (0u64, 0u64, Duration::ZERO);
    let current = Arc::new(Mutex::new((Instant::now(), Vec::new())));
    watch(name, Arc::downgrade(&current));
    while Instant::now() < end {
        let bytes = mutant(corpus, &mut rng);
        let start = Instant::now();
        *current.lock().unwrap() = (start, bytes.clone());
        let result = catch_unwind(AssertUnwindSafe(|| takes(&bytes)));
        let took = start.elapsed();
        slowest = slowest.max(took);
        if result.is_err() || took > SLOWEST {
            let file = kept(name, &bytes);
            panic!(
                "{name}: {file} after {runs} inputs: {}, {took:?}",
                if result.is_err() { "a panic" } else { "slow" }
            );
        }
        runs += 1;
        taken += u64::from(result.unwrap_or(false));
    }
    println!("{name}: {runs} inputs, {taken} of them taken, the slowest in {slowest:?}");
    assert!(runs > 20, "{name}: only {runs} inputs");
}

/// A folder `data` with two small pictures, for label files. Readers also look beside it, where nothing is.
fn pictures() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("data")).unwrap();
    for name in ["a.png", "b.png"] {
        image::GrayImage::from_fn(24, 16, |x, y| image::Luma([(x * y) as u8]))
            .save(dir.path().join("data").join(name))
            .unwrap();
    }
    dir
}

/// Fuzzes a reader of labels: the bytes are a file of this name beside the pictures; the data is read from the path.
fn labels(name: &str, file: &str, path: &str, corpus: &[&str]) {
    labels_in(&pictures(), name, file, path, corpus);
}

fn labels_in(dir: &tempfile::TempDir, name: &str, file: &str, path: &str, corpus: &[&str]) {
    let folder = dir.path().join("data");
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    let options = Options { skip_bad_rows: true, ..Options::default() };
    fuzz(name, &corpus, |bytes| {
        std::fs::write(folder.join(file), bytes).unwrap();
        let path = folder.join(path);
        let path = path.to_str().unwrap();
        // Both ways: stopping at a bad row, and going on.
        let _ = data::load(path, options.clone());
        data::load(path, Options::default()).is_ok()
    });
}

#[test]
fn csv() {
    let rows = "a.png,12,11,3,4\nb.png,1.5,2,,\n";
    labels(
        "csv",
        "x.csv",
        "x.csv",
        &[
            &format!("file,eye_x,eye_y,nose_x,nose_y\n{rows}"),
            &format!("\u{feff}\"file\";\"l eye_x\";\"l eye_y\"\r\n\"a.png\";1;2\r\n\"b.png\";3;4\r\n{}", ""),
            "file,eye_x,eye_y,split,subject,box_cx,box_cy,box_size\na.png,3,4,train,me,8,8,9\nb.png,3,4,val,you,8,8,9\n",
            "file\teye_x\teye_y\na.png\t0.1\t0.2\nb.png\t0.3\t0.4\n",
        ],
    );
}

#[test]
fn kaggle() {
    let pixels = vec!["7"; 96 * 96].join(" ");
    labels("kaggle", "x.csv", "x.csv", &[&format!("nose_tip_x,nose_tip_y,Image\n44.5,57,{pixels}\n,,{pixels}\n")]);
}

#[test]
fn scenes() {
    let head = "file,subject,split,n_faces,box_cx,box_cy,box_size\n";
    let text = format!("{head}a.png,1,train,1,8,8,9\nb.png,2,val,0,,,\n");
    labels("scenes", "scenes.csv", "", &[&text]);
}

#[test]
fn pts() {
    let points: Vec<String> = (0..68).map(|i| format!("{} {}", 2 + i % 9, 1 + i / 9)).collect();
    labels("pts", "a.pts", "", &[&format!("version: 1\nn_points: 68\n{{\n{}\n}}\n", points.join("\n"))]);
}

#[test]
fn coco() {
    labels(
        "coco",
        "x.json",
        "x.json",
        &[r#"{"images":[{"id":1,"file_name":"a.png","width":24,"height":16},{"id":2,"file_name":"b.png"}],
        "annotations":[{"id":1,"image_id":1,"category_id":1,"keypoints":[12,11,2,3,13,1],"bbox":[1,2,12,12],"num_keypoints":2},
        {"id":2,"image_id":2,"category_id":1,"keypoints":[12,11,2,0,0,0]}],
        "categories":[{"id":1,"name":"face","keypoints":["left_eye","right_eye"],"skeleton":[[1,2]],"flip_pairs":[[1,2]]}]}"#],
    );
}

#[test]
fn labelme() {
    labels(
        "labelme",
        "x.json",
        "x.json",
        &[
            r#"{"version":"5.0","flags":{},"imagePath":"a.png","imageData":null,"imageHeight":16,"imageWidth":24,"shapes":[
        {"label":"nose","points":[[10,12]],"shape_type":"point","group_id":1,"flags":{}},
        {"label":"face","points":[[1,2],[12,14]],"shape_type":"rectangle","group_id":1}]}"#,
        ],
    );
}

#[test]
fn label_studio() {
    labels(
        "label_studio",
        "x.json",
        "x.json",
        &[
            r#"[{"id":1,"data":{"img":"/data/upload/1/0a1b2c3d-a.png"},"annotations":[{"result":[
            {"id":"f","type":"rectanglelabels","original_width":24,"original_height":16,
             "value":{"x":5,"y":5,"width":40,"height":50,"rotation":0,"rectanglelabels":["face"]}},
            {"id":"p","parentID":"f","type":"keypointlabels","original_width":24,"original_height":16,"image_rotation":0,
             "value":{"x":10,"y":20,"width":0.5,"keypointlabels":["nose"]}}]}]}]"#,
            r#"[{"img":"b.png","id":7,"kp":[{"x":10,"y":20,"width":0.5,"keypointlabels":["nose"],"original_width":24,"original_height":16}]}]"#,
        ],
    );
}

#[test]
fn cvat() {
    labels(
        "cvat",
        "x.xml",
        "x.xml",
        &[
            r#"<?xml version="1.0"?><annotations><meta><task><labels><label><svg>&lt;line data-node-from="1" data-node-to="2"/&gt;
        &lt;circle data-node-id="1" data-label-name="eye"/&gt;&lt;circle data-node-id="2" data-label-name="nose"/&gt;</svg></label></labels></task></meta>
        <image id="0" name="a.png" width="24" height="16"><skeleton label="face"><points label="eye" outside="0" points="4.5,5.5"/>
        <points label="nose" outside="1" points="1,2"/></skeleton></image>
        <image id="1" name="b.png"><points label="eye" points="3,4" group_id="1"/><box xtl="1" ytl="2" xbr="9" ybr="12" group_id="1"/></image></annotations>"#,
        ],
    );
}

#[test]
fn dlib() {
    labels(
        "dlib",
        "x.xml",
        "x.xml",
        &["<?xml version='1.0'?>\n<dataset><images><image file='a.png'><box top='1' left='2' width='9' height='9'>\
           <part name='0' x='3' y='4'/><part name='1' x='5' y='6'/></box></image></images></dataset>"],
    );
}

#[test]
fn wflw() {
    let numbers: Vec<String> = (0..206).map(|i| (i % 14).to_string()).collect();
    labels("wflw", "list_train.txt", "list_train.txt", &[&format!("{} a.png\n", numbers.join(" "))]);
}

#[test]
fn ultralytics() {
    let yaml = "path: .\ntrain: .\nval: .\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\nnames:\n  0: face\nkpt_names:\n  0: [eye, nose]\n";
    let dir = pictures();
    std::fs::write(dir.path().join("data/a.txt"), ULTRALYTICS).unwrap();
    labels_in(&dir, "ultralytics", "data.yaml", "data.yaml", &[yaml]);
}

/// Two faces of two points.
const ULTRALYTICS: &str = "0 .5 .5 .3 .3 .1 .1 2 .4 .4 1\n0 .5 .5 .3 .3 .1 .1 2 0 0 0\n";

#[test]
fn ultralytics_text() {
    let dir = pictures();
    std::fs::write(dir.path().join("data/data.yaml"), "train: .\nval: .\nkpt_shape: [2, 3]\n").unwrap();
    let path = dir.path().join("data/data.yaml");
    fuzz("ultralytics_text", &[ULTRALYTICS.as_bytes().to_vec()], |bytes| {
        std::fs::write(dir.path().join("data/a.txt"), bytes).unwrap();
        data::load(path.to_str().unwrap(), Options::default()).is_ok()
    });
}

#[test]
fn picture_files() {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let picture =
        image::DynamicImage::ImageRgb8(image::RgbImage::from_fn(24, 16, |x, y| image::Rgb([x as u8 * 9, y as u8, 3])));
    let encoded = |format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    fuzz("picture_files", &[Jpeg, Png, WebP, Bmp, Gif, Tiff].map(encoded), |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let _ = data::photo::size(&path);
        let grey = data::photo::GreyReader::default().read(&path);
        assert_eq!(grey.is_ok(), data::photo::Photo::read(&path).is_ok(), "both readers");
        grey.is_ok()
    });
}

/// A weights file of a small net.
fn small_weights(precision: Precision) -> Vec<u8> {
    let pair = |text: &str| text.to_string();
    let config = Config::resolve(Some("compact"), false, None, &[pair(common::SMALL)]).unwrap();
    let state = State::new(&config, 15).unwrap();
    let schema = face96::schema::Schema::kaggle();
    let weights =
        face96::train::export(&config, "x", &schema, Some(face96::synthetic::MEAN_SHAPE.to_vec()), &state).unwrap();
    weights.to_bytes(precision).unwrap()
}

#[test]
fn weights() {
    let corpus = [Precision::F32, Precision::F16, Precision::I8].map(small_weights);
    let crop = vec![9f32; 96 * 96];
    fuzz("weights", &corpus, |bytes| {
        let Ok(weights) = Weights::from_bytes(bytes) else { return false };
        let _ = weights.to_bytes(Precision::I8);
        let _ = Finder::new(&weights);
        Detector::new(&weights).and_then(|mut d| d.detect_grey(&crop).map(<[f32]>::len)).is_ok()
    });
}

#[test]
fn checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("last.ckpt");
    let config = Config::resolve(Some("compact"), false, None, &[common::SMALL.to_string()]).unwrap();
    State::new(&config, 5).unwrap().save(&path, &config).unwrap();
    let corpus = [std::fs::read(&path).unwrap()];
    fuzz("checkpoint", &corpus, |bytes| {
        std::fs::write(&path, bytes).unwrap();
        let _ = State::history(&path);
        State::load(&path, &config, 5).is_ok()
    });
}

#[test]
fn settings() {
    let corpus =
        ["compact", "net4", "finder"].map(|name| Config::preset(name).unwrap().to_toml().unwrap().into_bytes());
    fuzz("settings", &corpus, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        Config::resolve(None, false, Some(text), &[]).is_ok_and(|config| config.options().is_ok())
    });
}

/// What a page hands in: sizes, times, strides, boxes, and answers of nets, all from bytes.
#[test]
fn tracker() {
    let weights = Weights::from_bytes(&small_weights(Precision::F32)).unwrap();
    let corpus: Vec<Vec<u8>> =
        (0..4u8).map(|i| (0..200u8).map(|b| b.wrapping_mul(37).wrapping_add(i)).collect()).collect();
    fuzz("tracker", &corpus, |bytes| {
        let mut at = 0;
        let mut byte = || {
            at += 1;
            bytes.get(at - 1).copied().unwrap_or(0)
        };
        let mut float = || match byte() {
            0..=9 => f32::NAN,
            10..=14 => f32::INFINITY,
            15..=19 => f32::NEG_INFINITY,
            20..=29 => f32::MAX,
            30..=39 => -1.,
            40..=49 => 0.,
            n => f32::from(n) * f32::from(byte()) / 16.,
        };
        let settings = Settings { max_faces: float() as usize, min_score: float(), ..Settings::default() };
        let mut tracker = Tracker::new(&weights.meta, true, settings);
        let (mut cells, mut grey) = (Vec::new(), vec![0f32; 96 * 96]);
        for _ in 0..6 {
            let frame = match float() as u32 % 3 {
                0 => Frame::Still,
                1 => Frame::Stream { seconds: f64::from(float()) },
                _ => Frame::Boxed(face96::geometry::CropBox { x: float(), y: float(), size: float(), roll: float() }),
            };
            tracker.begin(float(), float(), frame);
            for _ in 0..40 {
                let Some(want) = tracker.wanted() else { break };
                let (Want::Find(crop) | Want::Keypoints(crop)) = want;
                let (w, h, stride) = (float() as usize % 50, float() as usize % 50, float() as usize);
                let pixels = vec![7u8; float() as usize % 4000];
                if let Ok(luma) = Luma::new(&pixels, w, h, stride, w % 2 == 0) {
                    luma.crop(&crop, &mut cells, &mut grey);
                    assert!(grey.iter().all(|v| (0. ..=255.).contains(v)), "grey values");
                }
                match want {
                    Want::Find(_) => tracker.found(&[]),
                    Want::Keypoints(_) => {
                        let answer: Vec<f32> = (0..1 + 3 * 15).map(|_| float()).collect();
                        tracker.seen(&answer);
                    }
                }
            }
            let _ = tracker.faces();
        }
        true
    });
}
