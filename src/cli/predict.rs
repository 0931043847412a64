//! `predict`: keypoints of pictures, as CSV, as COCO JSON, and drawn.
//!
//! Pictures flow one by one through threads that each read one, look at it, draw on it and drop it; rows come out in the pictures'
//! order as soon as they are known. A bad picture is reported and skipped. With `--stream` the pictures are the frames of a clip:
//! read by many threads, tracked by one.

use super::draw::{self, Folder};
use super::files::say;
use super::nets::{Nets, Page, Seen};
use super::outputs::{Outputs, PictureResult};
use super::{count, guard, outputs};
use anyhow::{bail, Context, Result};
use clap::Args;
use face96::data::photo::{self, GreyReader, Kind, Photo};
use face96::data::{self, Face, Options};
use face96::geometry::Affine;
use face96::infer::Finder;
use face96::nets::SIDE;
use face96::picture::Gray;
use face96::schema::Schema;
use face96::track::{whole_frame, Frame, MAX_FACES};
use face96::weights::Weights;
use image::{ImageFormat, RgbImage};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

#[derive(Args)]
pub(super) struct PredictArgs {
    /// Weights files, or run folders; specialists share the keypoints among them
    #[arg(long, required = true, num_args = 1..)]
    weights: Vec<PathBuf>,
    /// A picture, a folder of pictures, or labelled data as for train
    #[arg(long)]
    pub(super) data: String,
    /// Write one row per face: file, NAME_x and NAME_y in pixels of the picture as a viewer shows it, face (0: none), score, box, and
    /// NAME_confidence; - is standard output
    #[arg(long)]
    pub(super) csv: Option<PathBuf>,
    /// Write COCO keypoints, which label tools open and train reads; - is standard output
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
    /// Write annotated copies, in the format of each picture, to this folder
    #[arg(long)]
    pub(super) draw: Option<PathBuf>,
    /// Take each whole picture as the crop of a face, without looking for one
    #[arg(long)]
    crop: bool,
    /// The pictures are the frames of a clip, at FPS frames a second: faces are tracked and smoothed, and keep their numbers
    #[arg(long, value_name = "FPS", conflicts_with = "crop", value_parser = frames_a_second)]
    stream: Option<f64>,
    /// Weights of the finder, for plain pictures [default: the finder built into this program]
    #[arg(long)]
    finder: Option<PathBuf>,
    /// Largest number of faces in a plain picture, best first, one row each; 8 at most
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_FACES as i64))]
    max_faces: u8,
}

fn frames_a_second(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.);
    number.ok_or_else(|| format!("expected frames a second above 0, found '{text}'"))
}

/// The finder that the page uses, built in, so that the program finds faces wherever it is installed.
const FINDER: &[u8] = include_bytes!("../../pkg/weights/finder.safetensors");

/// Pixels of all pictures that are open at once, so that many threads do not take more memory than few: five photos of 12
/// million pixels, which take 4 to 7 bytes a pixel while they are read. A single larger picture is read by itself.
const OPEN_PIXELS: u64 = 60_000_000;

pub(super) fn predict(args: PredictArgs) -> Result<ExitCode> {
    if args.csv.is_none() && args.draw.is_none() && args.json.is_none() {
        bail!("nothing to write: give --csv FILE, --json FILE or --draw FOLDER");
    }
    let nets = Nets::load(&args.weights)?;
    if nets.finder().is_some() {
        bail!("{}: expected a net that gives keypoints, found a finder; --finder takes it", args.weights[0].display());
    }
    let data = Path::new(&args.data);
    match plain_pictures(data)? {
        Some(files) => {
            keep_inputs(&args, &nets, &files)?;
            pictures(&args, &nets, &files)
        }
        None if args.stream.is_some() => {
            bail!("{}: --stream expects a folder of frames, found labelled data", args.data)
        }
        None => {
            let empty = data.is_dir() && std::fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_none());
            if empty {
                bail!("{}: expected pictures or labelled faces, found an empty folder", args.data);
            }
            labelled(&args, &nets)
        }
    }
}

/// The pictures at a path that is a picture, or a folder without a `labels.csv`; `None` for labelled data. Other files in a folder are
/// reported.
fn plain_pictures(path: &Path) -> Result<Option<Vec<PathBuf>>> {
    if path.is_file() {
        return match photo::kind_of_file(path) {
            Some(Kind::Picture(_) | Kind::Foreign(_)) => Ok(Some(vec![path.to_path_buf()])),
            _ => Ok(None),
        };
    }
    if !path.is_dir() {
        return Ok(None);
    }
    let (mut files, mut others, mut folders) = (Vec::new(), Vec::new(), Vec::new());
    for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
        let file = entry.with_context(|| path.display().to_string())?.path();
        if photo::is_hidden(&file) || !file.is_file() {
            folders.extend(has_pictures(&file).then_some(file));
            continue;
        }
        // A file with a picture's extension is a picture, or a bad one, which is reported.
        match photo::kind_of_file(&file) {
            Some(Kind::Picture(_) | Kind::Foreign(_)) => files.push(file),
            _ if photo::is_called_picture(&file) => files.push(file),
            _ => others.push(file),
        }
    }
    if files.is_empty() {
        return Ok(None);
    }
    files.sort_by_key(|file| natural(file));
    if let Some(first) = folders.iter().min() {
        let name = first.file_name().unwrap_or_default().to_string_lossy();
        let pass = if folders.len() == 1 { "is" } else { "are" };
        eprintln!(
            "{}: {} of pictures in it {pass} passed over, such as {name}: give each on its own",
            path.display(),
            count(folders.len(), "folder")
        );
    }
    if let Some(first) = others.first() {
        let name = first.file_name().unwrap_or_default().to_string_lossy();
        eprintln!(
            "{}: {} left out that {} no picture, such as {name}",
            path.display(),
            count(others.len(), "file"),
            if others.len() == 1 { "is" } else { "are" }
        );
    }
    Ok(Some(files))
}

/// Whether a path is a folder, not hidden, that directly holds a picture.
fn has_pictures(path: &Path) -> bool {
    let entries = std::fs::read_dir(path).ok().filter(|_| !photo::is_hidden(path));
    entries.into_iter().flatten().flatten().any(|e| photo::is_called_picture(&e.path()))
}

/// A name split into words and numbers, so that frame 2 sorts before frame 10.
fn natural(path: &Path) -> (Vec<(String, u64)>, PathBuf) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let (mut parts, mut rest) = (Vec::new(), name.as_str());
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let end = rest[digits..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        parts.push((rest[..digits].to_string(), rest[digits..end].parse().unwrap_or(0)));
        rest = &rest[end..];
    }
    (parts, path.to_path_buf())
}

/// Fails if an output would replace an input, or a file in the folder of pictures that is not an earlier output: labels made by hand
/// often lie there. Elsewhere the file that the user names is the one to replace.
fn keep_inputs(args: &PredictArgs, nets: &Nets, inputs: &[PathBuf]) -> Result<()> {
    guard([&args.csv, &args.json].into_iter().flatten(), inputs.iter().chain(&nets.files).chain(&args.finder))?;
    outputs::guard_foreign_files(args)
}

/// Labelled data: one look through each face's own crop.
fn labelled(args: &PredictArgs, nets: &Nets) -> Result<ExitCode> {
    let data = data::load(&args.data, Options::default()).map_err(|why| {
        let entries = std::fs::read_dir(&args.data).into_iter().flatten().flatten().map(|e| e.path());
        match entries.filter(|p| has_pictures(p)).min() {
            Some(folder) => anyhow::anyhow!("{why}; there are pictures in {}: give that", folder.display()),
            None => why.into(),
        }
    })?;
    keep_inputs(args, nets, &data.files)?;
    data.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let faces: Vec<&Face> = data.faces.iter().filter(|f| f.is_face()).collect();
    // Several faces may be in one picture, and rows have no file name.
    let mut taken = BTreeSet::new();
    let names: Vec<String> = faces
        .iter()
        .map(|face| {
            let name = Path::new(&face.name.replace('/', "_")).with_extension("").display().to_string();
            let free = (1..).map(|n| if n == 1 { format!("{name}.png") } else { format!("{name}-{n}.png") });
            let name = free.into_iter().find(|n| !taken.contains(n)).expect("one of infinitely many");
            taken.insert(name.clone());
            name
        })
        .collect();
    let mut outputs = Outputs::open(args, &nets.schema, names.iter().map(String::as_str))?;
    let chunk = faces.len().div_ceil(rayon::current_num_threads()).max(1);
    let part = |(faces, names): (&[&Face], &[String])| -> Result<Vec<Seen>> {
        let mut page = Page::new(nets, 1)?;
        let mut looks = Vec::new();
        for (face, name) in faces.iter().zip(names) {
            let mut seen = page.look_at(&face.picture, face.to_picture)?;
            if let Some(folder) = &outputs.drawn {
                let labels: Vec<_> = face.points.iter().map(|p| face.to_picture.apply(*p)).collect();
                folder.write(name, enlarged(&face.picture, &nets.schema, &seen, &labels), ImageFormat::Png)?;
            }
            for p in &mut seen.points {
                let [x, y] = face.to_file.apply([p[0], p[1]]);
                *p = [x, y, p[2]];
            }
            let corners = seen.square.corners().map(|p| face.to_file.apply(p));
            seen.square = face96::geometry::CropBox::of_corners(&corners);
            looks.push(seen);
        }
        Ok(looks)
    };
    let parts = faces.par_chunks(chunk).zip(names.par_chunks(chunk)).map(part).collect::<Result<Vec<_>>>()?;
    // The faces of one picture together, wherever its rows are.
    let (mut places, mut pictures) = (BTreeMap::new(), Vec::<PictureResult>::new());
    for (face, seen) in faces.iter().zip(parts.into_iter().flatten()) {
        let place = *places.entry((&face.source, &face.name)).or_insert(pictures.len());
        if place == pictures.len() {
            pictures.push(PictureResult { name: face.name.clone(), size: face.size, faces: vec![], refused: false });
        }
        pictures[place].faces.push(seen);
    }
    for picture in &pictures {
        outputs.add(picture)?;
    }
    let quiet = outputs.quiet;
    outputs.finish()?;
    tell(quiet, &count(faces.len(), "face"))?;
    Ok(ExitCode::SUCCESS)
}

fn tell(quiet: bool, text: &str) -> Result<()> {
    if quiet {
        eprintln!("{text}");
        return Ok(());
    }
    say(text)
}

/// Small pictures are drawn on at several times their size.
fn enlarged(picture: &Gray, schema: &Schema, seen: &Seen, labels: &[[f32; 2]]) -> RgbImage {
    let zoom = (320 / picture.width.max(1)).clamp(1, 4) as f32;
    let map = Affine::similarity(zoom, 0.).then(Affine::translation((zoom - 1.) / 2., (zoom - 1.) / 2.));
    let mut out =
        RgbImage::from_fn((picture.width as f32 * zoom) as u32, (picture.height as f32 * zoom) as u32, |x, y| {
            let v = picture.sample((x as f32 + 0.5) / zoom - 0.5, (y as f32 + 0.5) / zoom - 0.5) as u8;
            image::Rgb([v; 3])
        });
    let mut seen = seen.clone();
    seen.square.size *= zoom;
    for p in &mut seen.points {
        let [x, y] = map.apply([p[0], p[1]]);
        *p = [x, y, p[2]];
    }
    let labels: Vec<_> = labels.iter().map(|p| map.apply(*p)).collect();
    draw::faces(&mut out, schema, &[seen], &labels);
    out
}

/// A picture that was read, and the room it occupies until it is dropped.
struct Opened<'a> {
    grey: Gray,
    /// The colours to draw on, if it will be drawn on.
    photo: Option<Photo>,
    _room: Room<'a>,
}

/// The nets and the finder of one thread.
struct Looker<'a> {
    page: Page<'a>,
    finder: Finder,
    crop: bool,
}

impl<'a> Looker<'a> {
    fn new(args: &PredictArgs, nets: &'a Nets, finder: &Weights) -> Result<Self> {
        Ok(Self { page: Page::new(nets, args.max_faces.into())?, finder: Finder::new(finder)?, crop: args.crop })
    }

    /// Looks at a picture, draws the faces if wanted, and drops the picture.
    fn look(
        &mut self,
        opened: Opened,
        name: String,
        frame: Frame,
        drawn: Option<&Folder>,
        schema: &Schema,
    ) -> Result<PictureResult> {
        let Opened { grey, photo, _room } = opened;
        let size = [grey.width, grey.height];
        let whole = whole_frame(size[0] as f32, size[1] as f32).crop_to_frame(SIDE);
        let faces = match self.crop {
            true => vec![self.page.look_at(&grey, whole)?],
            false => self.page.look(&grey, frame, &mut self.finder)?,
        };
        let refused = faces.is_empty() && !self.finder.find_grey(&grey.crop(whole, SIDE))?.is_empty();
        if let (Some(folder), Some(photo)) = (drawn, photo) {
            let mut picture = photo.picture.into_rgb8();
            draw::faces(&mut picture, schema, &faces, &[]);
            folder.write(&name, picture, photo.format)?;
        }
        Ok(PictureResult { name, size, faces, refused })
    }
}

/// Room for the pixels of open pictures, assigned in the order of the pictures.
struct Rooms {
    next: Mutex<usize>,
    open: Mutex<u64>,
    freed: Condvar,
}

struct Room<'a> {
    rooms: &'a Rooms,
    pixels: u64,
}

impl Rooms {
    /// The next picture and room for it; `None` after the last.
    fn next(&self, files: &[PathBuf]) -> Option<(usize, Room<'_>)> {
        // Held while waiting, so that the earliest picture never waits for a later one.
        let mut next = self.next.lock().expect("no thread panics with it");
        let index = *next;
        let pixels = photo::size(files.get(index)?).map_or(0, |[w, h]| (w * h) as u64);
        let mut open = self.open.lock().expect("no thread panics with it");
        while *open > 0 && *open + pixels > OPEN_PIXELS {
            open = self.freed.wait(open).expect("no thread panics with it");
        }
        *open += pixels;
        *next += 1;
        Some((index, Room { rooms: self, pixels }))
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        if let Ok(mut open) = self.rooms.open.lock() {
            *open -= self.pixels;
        }
        self.rooms.freed.notify_all();
    }
}

/// Plain pictures, streamed.
fn pictures(args: &PredictArgs, nets: &Nets, files: &[PathBuf]) -> Result<ExitCode> {
    let weights = match &args.finder {
        Some(path) => {
            let weights = Weights::read(path)?;
            Finder::new(&weights).with_context(|| path.display().to_string())?;
            weights
        }
        None => Weights::from_bytes(FINDER)?,
    };
    let name = |file: &PathBuf| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = files.iter().map(name).collect();
    let mut outputs = Outputs::open(args, &nets.schema, names.iter().map(String::as_str))?;
    let rooms = Rooms { next: Mutex::new(0), open: Mutex::new(0), freed: Condvar::new() };
    // Only drawings need the colours once the nets have their input; the threads share the folder.
    let drawn = outputs.drawn.take();
    let drawn = drawn.as_ref();
    let read = |reader: &mut GreyReader, index: usize, room| -> Result<Opened> {
        if drawn.is_none() {
            return Ok(Opened { grey: reader.read(&files[index])?.0, photo: None, _room: room });
        }
        let photo = Photo::read(&files[index])?;
        Ok(Opened { grey: photo.grey(), photo: Some(photo), _room: room })
    };
    let threads = rayon::current_num_threads().min(files.len()).max(1);
    let mut shown = PredictionProgress::new(files.len());
    let mut totals = Totals::default();
    // The outer error ends everything: a full disk is no bad picture.
    let mut add = |look: Result<Result<PictureResult>>| -> Result<()> {
        match look? {
            Ok(look) => {
                outputs.add(&look)?;
                totals.add(&look);
            }
            Err(why) => {
                totals.bad += 1;
                shown.say(&format!("{why:#}"));
            }
        }
        shown.done(1);
        Ok(())
    };
    match args.stream {
        None => in_order(
            threads,
            |send| {
                let (mut looker, mut reader) = (Looker::new(args, nets, &weights)?, GreyReader::default());
                while let Some((i, room)) = rooms.next(files) {
                    let look = match read(&mut reader, i, room) {
                        Ok(opened) => looker.look(opened, names[i].clone(), Frame::Still, drawn, &nets.schema).map(Ok),
                        Err(why) => Ok(Err(why)),
                    };
                    if send(i, look).is_err() {
                        break;
                    }
                }
                Ok(())
            },
            |_, look| add(look),
        )?,
        Some(rate) => {
            let mut looker = Looker::new(args, nets, &weights)?;
            in_order(
                threads,
                |send| {
                    let mut reader = GreyReader::default();
                    while let Some((i, room)) = rooms.next(files) {
                        if send(i, read(&mut reader, i, room)).is_err() {
                            break;
                        }
                    }
                    Ok(())
                },
                |i, opened: Result<Opened>| {
                    let frame = Frame::Stream { seconds: i as f64 / rate };
                    add(match opened {
                        Ok(opened) => looker.look(opened, names[i].clone(), frame, drawn, &nets.schema).map(Ok),
                        Err(why) => Ok(Err(why)),
                    })
                },
            )?;
        }
    }
    shown.bar.finish_and_clear();
    let quiet = outputs.quiet;
    outputs.finish()?;
    totals.tell(quiet, files.len())?;
    Ok(ExitCode::from(u8::from(totals.bad > 0)))
}

/// Runs `work` in threads that send numbered results, and passes these to `each` in the order of their numbers, from 0.
fn in_order<T: Send>(
    threads: usize,
    work: impl Fn(&dyn Fn(usize, T) -> std::result::Result<(), ()>) -> Result<()> + Sync,
    mut each: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (sender, work) = (sender.clone(), &work);
                scope.spawn(move || work(&|i, value| sender.send((i, value)).map_err(|_| ())))
            })
            .collect();
        drop(sender);
        let (mut next, mut early) = (0, BTreeMap::new());
        // Moved here, so that an error drops it and the workers end.
        for (i, value) in receiver {
            early.insert(i, value);
            while let Some(value) = early.remove(&next) {
                each(next, value)?;
                next += 1;
            }
        }
        workers.into_iter().try_for_each(|w| w.join().unwrap_or_else(|_| bail!("a thread ended in a panic")))
    })
}

/// Progress: a bar on a terminal, otherwise a line now and then.
struct PredictionProgress {
    bar: ProgressBar,
    done: usize,
    of: usize,
    start: Instant,
    said: Instant,
}

/// Interval between progress lines without a terminal.
const SAY: Duration = Duration::from_secs(10);

impl PredictionProgress {
    fn new(of: usize) -> Self {
        let bar =
            if std::io::stderr().is_terminal() && of > 1 { ProgressBar::new(of as u64) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} pictures, {per_sec}, {eta} left");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, done: 0, of, start: Instant::now(), said: Instant::now() }
    }

    fn say(&self, text: &str) {
        if self.bar.is_hidden() {
            eprintln!("{text}");
        } else {
            self.bar.println(text);
        }
    }

    fn done(&mut self, n: usize) {
        self.done += n;
        self.bar.inc(n as u64);
        if self.bar.is_hidden() && self.said.elapsed() > SAY {
            let rate = self.done as f64 / self.start.elapsed().as_secs_f64();
            eprintln!("{} of {} pictures, {rate:.1} a second", self.done, self.of);
            self.said = Instant::now();
        }
    }
}

/// Totals for the last lines.
#[derive(Default)]
struct Totals {
    faces: usize,
    without: usize,
    refused: usize,
    bad: usize,
}

impl Totals {
    fn add(&mut self, look: &PictureResult) {
        self.faces += look.faces.len();
        self.without += usize::from(look.faces.is_empty());
        self.refused += usize::from(look.refused);
    }

    fn tell(&self, quiet: bool, pictures: usize) -> Result<()> {
        if self.without > 0 {
            let refused = match self.refused {
                0 => String::new(),
                n => format!("; in {n} of them the finder saw something that the keypoint net did not take for a face"),
            };
            eprintln!(
                "no face found in {} of {}{refused}; --crop takes each picture as the crop of a face",
                self.without,
                count(pictures, "picture")
            );
        }
        if self.bad > 0 {
            eprintln!(
                "{} of {} could not be read and {} left out",
                self.bad,
                count(pictures, "picture"),
                if self.bad == 1 { "is" } else { "are" }
            );
        }
        tell(quiet, &count(self.faces, "face"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut files = ["f10.png", "f9.png", "f2.png", "e100.png", "f.png", "f2b.png"].map(PathBuf::from);
        files.sort_by_key(|file| natural(file));
        let names = files.map(|f| f.display().to_string());
        assert_eq!(names, ["e100.png", "f.png", "f2.png", "f2b.png", "f9.png", "f10.png"]);
    }

    #[test]
    fn results_come_in_order_however_they_are_made() {
        let next = std::sync::atomic::AtomicUsize::new(0);
        let mut seen = Vec::new();
        in_order(
            4,
            |send| loop {
                let i = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if i >= 40 || send(i, i * i).is_err() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_micros((i as u64 * 7919) % 900));
            },
            |i, value| {
                seen.push((i, value));
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, (0..40).map(|i| (i, i * i)).collect::<Vec<_>>());
    }

    #[test]
    fn an_error_of_the_receiver_ends_the_workers() {
        let forever = |send: &dyn Fn(usize, usize) -> std::result::Result<(), ()>| {
            (0..).try_for_each(|i| send(i, i)).ok();
            Ok(())
        };
        assert!(in_order(1, forever, |i, _| if i == 5 { bail!("full") } else { Ok(()) }).is_err());
    }
}
