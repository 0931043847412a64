//! Arguments and what each command does with them.

mod bench;
mod eval;
mod nets;
mod plot;
mod serve;
mod submission;
mod train;
mod tutorial;

use anyhow::{bail, Context, Result};
use clap::{Args, Parser, Subcommand};
use face96::data::{self, Dataset, Face, Options, Split};
use face96::geometry::CropBox;
use face96::infer::Finder;
use face96::nets::SIDE;
use face96::track::MAX_FACES;
use face96::train::{checkpoint::write_atomically, report, Config};
use face96::weights::{Precision, Weights};
use nets::{Nets, Page};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Finds facial keypoints: trains the net, evaluates it, serves the page.
#[derive(Parser)]
#[command(name = "face96", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a net and write a run folder.
    Train(train::TrainArgs),
    /// Go on with an interrupted run.
    Resume(train::ResumeArgs),
    /// Error of a net, or of specialists together, on labelled faces.
    Eval(eval::EvalArgs),
    /// Keypoints of pictures, as CSV and drawn.
    Predict(PredictArgs),
    /// Learning curves of runs, or a sheet of augmented samples.
    Plot(plot::PlotArgs),
    /// Write the weights file of a run, or an ONNX file.
    Export(ExportArgs),
    /// Kaggle's submission file.
    Submission(submission::SubmissionArgs),
    /// Speed of the nets on this machine.
    Bench(bench::BenchArgs),
    /// Train the tutorial's nets for the same time each and write the table.
    Tutorial(tutorial::TutorialArgs),
    /// Serve the page on this machine.
    Serve(serve::ServeArgs),
}

/// Where labelled faces come from.
#[derive(Args, Clone)]
struct DataArgs {
    /// Kaggle's training.csv, a CSV of file,NAME_x,NAME_y,..., a folder with labels.csv, a folder of such folders, a folder of
    /// pictures with .pts files, or synthetic[:COUNT] [default: synthetic]
    #[arg(long)]
    data: Option<String>,
    /// Leave out rows with a missing keypoint, as the tutorial did
    #[arg(long)]
    complete_rows: bool,
    /// Leave out wrong rows and say how many, instead of stopping at the first
    #[arg(long)]
    skip_bad_rows: bool,
    /// Keep the 68 points of .pts files, not Kaggle's 15
    #[arg(long)]
    all_68: bool,
}

impl DataArgs {
    /// Writes what is given into a run's settings.
    fn settle(&self, config: &mut Config) {
        if let Some(data) = &self.data {
            config.data = data.clone();
        }
        config.complete_rows |= self.complete_rows;
        config.skip_bad_rows |= self.skip_bad_rows;
        config.all_68 |= self.all_68;
    }

    fn load(&self) -> Result<Dataset> {
        let mut config = Config::preset("compact")?;
        self.settle(&mut config);
        train::load_data(&config)
    }
}

#[derive(Args)]
struct PredictArgs {
    /// Weights files, or run folders; specialists share out the keypoints
    #[arg(long, required = true, num_args = 1..)]
    weights: Vec<PathBuf>,
    /// A picture, a folder of pictures, or labelled data as for train
    #[arg(long)]
    data: String,
    /// Write file,x0,y0,... in pixels of each picture
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write annotated PNGs to this folder
    #[arg(long)]
    draw: Option<PathBuf>,
    /// Take each whole picture as the crop of a face, without looking for one
    #[arg(long)]
    crop: bool,
    /// Weights of the finder, for plain pictures [default: the one in this program]
    #[arg(long)]
    finder: Option<PathBuf>,
    /// Faces of a plain picture, best first, a row each; 8 at most
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=MAX_FACES as i64))]
    max_faces: u8,
}

#[derive(Args)]
struct ExportArgs {
    /// Run folder, whose best epoch is taken
    #[arg(long, required_unless_present = "weights", conflicts_with = "weights")]
    run: Option<PathBuf>,
    /// Weights file, in place of a run folder
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Weights file to write
    #[arg(long, required_unless_present = "onnx")]
    out: Option<PathBuf>,
    /// How its numbers are stored: f32, f16, or int8 with a scale an output channel
    #[arg(long, default_value = "f16", value_parser = precision)]
    precision: Precision,
    /// Labelled faces on whose validation people the confidences of keypoints are calibrated, as for train
    #[arg(long)]
    calibrate: Option<String>,
    /// ONNX file to write: `input` (batch, 1, 96, 96) to `keypoints` (batch, K, 2) in pixels
    #[arg(long)]
    onnx: Option<PathBuf>,
}

/// Runs the command line.
pub fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Train(args) => train::train(args),
        Command::Resume(args) => train::resume(args),
        Command::Eval(args) => eval::eval(args),
        Command::Predict(args) => predict(args),
        Command::Plot(args) => plot::plot(args),
        Command::Submission(args) => submission::submission(args),
        Command::Export(args) => export(args),
        Command::Bench(args) => bench::bench(args),
        Command::Tutorial(args) => tutorial::tutorial(args),
        Command::Serve(args) => serve::serve(args),
    }
}

fn grey(crop: &[f32]) -> face96::picture::Gray {
    let side = face96::nets::SIDE;
    face96::picture::Gray { width: side, height: side, pixels: crop.iter().map(|p| p.round() as u8).collect() }
}

/// The finder that the page uses, so that the program finds faces wherever it lies.
const FINDER: &[u8] = include_bytes!("../../pkg/weights/finder.safetensors");

/// The faces in whole pictures, at most `max_faces` of each, best first, and what the nets see of them, as on the page.
fn find_faces(args: &PredictArgs, nets: &Nets, pictures: &[Face]) -> Result<(Vec<nets::Found>, Vec<Face>)> {
    let weights = match &args.finder {
        Some(path) => Weights::read(path)?,
        None => Weights::from_bytes(FINDER)?,
    };
    let part = |pictures: &[Face]| -> Result<Vec<(nets::Found, Face)>> {
        let (mut finder, mut page) = (Finder::new(&weights)?, Page::new(nets, args.max_faces.into())?);
        let mut all = Vec::new();
        for picture in pictures {
            let faces = page.look(&picture.picture, &mut finder)?;
            let of_box = |square: CropBox| Face { to_picture: square.crop_to_frame(SIDE), ..picture.clone() };
            all.extend(faces.into_iter().map(|(square, found)| (found, of_box(square))));
        }
        Ok(all)
    };
    let chunk = pictures.len().div_ceil(rayon::current_num_threads()).max(1);
    let all = pictures.par_chunks(chunk).map(part).collect::<Result<Vec<_>>>()?;
    let (found, faces): (Vec<_>, Vec<Face>) = all.into_iter().flatten().unzip();
    let (n, seen) = (pictures.len(), faces.iter().map(|f| &f.name).collect::<BTreeSet<_>>().len());
    if seen < n {
        eprintln!("no face found in {} of {n} pictures; --crop takes each picture as the crop of a face", n - seen);
    }
    Ok((found, faces))
}

fn views(faces: &[Face]) -> Vec<nets::View<'_>> {
    faces.iter().map(|f| (&f.picture, f.to_picture)).collect()
}

/// Pictures without labels: a file, or all files of a folder that has no `labels.csv`.
fn plain_pictures(path: &Path) -> Result<Option<Vec<Face>>> {
    let is_picture = |p: &Path| {
        let kind = p.extension().and_then(|e| e.to_str()).unwrap_or("").to_ascii_lowercase();
        ["png", "jpg", "jpeg"].contains(&kind.as_str())
    };
    let files = if path.is_file() && is_picture(path) {
        vec![path.to_path_buf()]
    } else if path.is_dir() {
        let entries = std::fs::read_dir(path).with_context(|| path.display().to_string())?;
        let mut files: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| is_picture(p)).collect();
        files.sort();
        files
    } else {
        vec![]
    };
    if files.is_empty() {
        return Ok(None);
    }
    let read = |file: PathBuf| -> Result<Face> {
        let picture = face96::picture::Gray::read(&file)?;
        let whole = face96::track::whole_frame(picture.width as f32, picture.height as f32);
        Ok(Face {
            name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            source: String::new(),
            subject: String::new(),
            split: None,
            weight: 1.,
            picture,
            to_picture: whole.crop_to_frame(SIDE),
            to_file: face96::geometry::Affine::IDENTITY,
            points: vec![],
        })
    };
    Ok(Some(files.into_iter().map(read).collect::<Result<_>>()?))
}

fn predict(args: PredictArgs) -> Result<()> {
    if args.csv.is_none() && args.draw.is_none() {
        bail!("nothing to write: give --csv FILE or --draw FOLDER");
    }
    let nets = Nets::load(&args.weights)?;
    let whole = |faces: Vec<Face>| Ok::<_, anyhow::Error>((nets.look(&views(&faces))?, faces));
    let (found, faces) = match plain_pictures(Path::new(&args.data))? {
        Some(pictures) if args.crop => whole(pictures)?,
        Some(pictures) => find_faces(&args, &nets, &pictures)?,
        None => whole(data::load(&args.data, Options::default())?.faces.into_iter().filter(|f| f.is_face()).collect())?,
    };
    if let Some(path) = &args.csv {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = (0..nets.schema.len()).flat_map(|i| [format!("x{i}"), format!("y{i}")]);
        writer.write_record(std::iter::once("file".to_string()).chain(names))?;
        for (face, (_, points)) in faces.iter().zip(&found) {
            let numbers = points.iter().flat_map(|p| face.to_file.apply(*p)).map(|v| format!("{v:.4}"));
            writer.write_record(std::iter::once(face.name.clone()).chain(numbers))?;
        }
        write_atomically(path, &writer.into_inner()?)?;
    }
    if let Some(folder) = &args.draw {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (face, (_, points)) in faces.iter().zip(&found) {
            let labels: Vec<_> = face.points.iter().map(|p| face.to_picture.apply(*p)).collect();
            let zoom = (320 / face.picture.width.max(1)).clamp(1, 4);
            let name = face.name.replace(['/', ' '], "_");
            let path = folder.join(Path::new(&name).with_extension("png"));
            report::write_picture(&path, &report::annotate(&face.picture, zoom, &labels, points))?;
        }
    }
    println!("{} faces", faces.len());
    Ok(())
}

fn export(args: ExportArgs) -> Result<()> {
    let mut weights = match (&args.weights, &args.run) {
        (Some(path), _) => Weights::read(path)?,
        (None, Some(run)) => train::best_weights(run)?,
        (None, None) => bail!("nothing to export: give --run FOLDER or --weights FILE"),
    };
    if let Some(path) = &args.calibrate {
        let data = data::load(path, Options::default())?;
        let seed = weights.meta.training["seed"].as_u64().unwrap_or(42);
        let faces: Vec<&Face> = data.split(Split::Val, seed).into_iter().map(|i| &data.faces[i]).collect();
        weights.meta.calibration = None;
        let said = nets::confidences(&weights, &data.schema, &faces)?;
        weights.meta.calibration = Some(report::calibrate(&said).context("this net says nothing of its keypoints")?);
    }
    let write = |path: &Path, bytes: &[u8]| -> Result<()> {
        write_atomically(path, bytes)?;
        println!("{}: {} bytes", path.display(), bytes.len());
        Ok(())
    };
    if let Some(path) = &args.out {
        write(path, &weights.to_bytes(args.precision)?)?;
    }
    if let Some(path) = &args.onnx {
        write(path, &face96::onnx::to_bytes(&weights)?)?;
    }
    Ok(())
}

fn precision(name: &str) -> std::result::Result<Precision, String> {
    match name {
        "f32" => Ok(Precision::F32),
        "f16" => Ok(Precision::F16),
        "int8" => Ok(Precision::I8),
        other => Err(format!("expected f32, f16 or int8, found '{other}'")),
    }
}
