//! Arguments and what each command does with them.

mod serve;
mod train;

use anyhow::{bail, Context, Result};
use clap::{Args, Parser, Subcommand};
use face96::data::{self, Dataset, Face, Options, Split};
use face96::infer::Detector;
use face96::train::{checkpoint::write_atomically, metrics::Score, report};
use face96::weights::{Precision, Weights};
use rayon::prelude::*;
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
    /// Error of a weights file on labelled faces.
    Eval(EvalArgs),
    /// Keypoints of pictures, as CSV and drawn.
    Predict(PredictArgs),
    /// Write the weights file of a run.
    Export(ExportArgs),
    /// Speed of the nets on this machine.
    Bench(BenchArgs),
    /// Serve the page on this machine.
    Serve(serve::ServeArgs),
}

/// Where labelled faces come from.
#[derive(Args, Clone)]
struct DataArgs {
    /// Kaggle's training.csv, a CSV of file,NAME_x,NAME_y,..., a folder with labels.csv, a folder of such folders, or
    /// synthetic[:COUNT]
    #[arg(long, default_value = "synthetic")]
    data: String,
    /// Leave out rows with a missing keypoint, as the tutorial did
    #[arg(long)]
    complete_rows: bool,
    /// Leave out wrong rows and say how many, instead of stopping at the first
    #[arg(long)]
    skip_bad_rows: bool,
}

impl DataArgs {
    fn load(&self) -> Result<Dataset> {
        let options = Options { complete_rows: self.complete_rows, skip_bad_rows: self.skip_bad_rows, ..Default::default() };
        let data = data::load(&self.data, options)?;
        if !data.skipped.is_empty() {
            eprintln!("left out {} bad rows; the first: {}", data.skipped.len(), data.skipped[0]);
        }
        Ok(data)
    }
}

#[derive(Args)]
struct EvalArgs {
    /// Weights file
    #[arg(long)]
    weights: PathBuf,
    #[command(flatten)]
    data: DataArgs,
    /// train, val or test (val where the data has no test split)
    #[arg(long, default_value = "val")]
    split: Split,
    /// Print JSON only
    #[arg(long)]
    json: bool,
    /// Write the cumulative error curve to this SVG
    #[arg(long)]
    curve: Option<PathBuf>,
    /// Write a sheet of the worst predictions to this PNG
    #[arg(long)]
    worst: Option<PathBuf>,
}

#[derive(Args)]
struct PredictArgs {
    /// Weights file
    #[arg(long)]
    weights: PathBuf,
    /// A picture, a folder of pictures, or labelled data as for train
    #[arg(long)]
    data: String,
    /// Write file,x0,y0,... in pixels of each picture
    #[arg(long)]
    csv: Option<PathBuf>,
    /// Write annotated PNGs to this folder
    #[arg(long)]
    draw: Option<PathBuf>,
    /// Take the whole picture as the crop, not its middle square of 0.6 of the short side
    #[arg(long)]
    crop: bool,
}

#[derive(Args)]
struct ExportArgs {
    /// Run folder
    #[arg(long)]
    run: PathBuf,
    /// Weights file to write
    #[arg(long)]
    out: PathBuf,
    /// How numbers are stored: f32, f16, or int8 with a scale an output channel
    #[arg(long, default_value = "f16", value_parser = precision)]
    precision: Precision,
}

#[derive(Args)]
struct BenchArgs {
    /// Nets to time
    #[arg(long, value_delimiter = ',', default_value = "net2,compact")]
    nets: Vec<String>,
    /// Seconds for each figure
    #[arg(long, default_value_t = 5.)]
    seconds: f64,
}

/// Runs the command line.
pub fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Train(args) => train::train(args),
        Command::Resume(args) => train::resume(args),
        Command::Eval(args) => eval(args),
        Command::Predict(args) => predict(args),
        Command::Export(args) => train::export(&args.run, &args.out, args.precision),
        Command::Bench(args) => train::bench(&args.nets, args.seconds),
        Command::Serve(args) => serve::serve(args),
    }
}

fn load_weights(path: &Path) -> Result<Weights> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Weights::from_bytes(&bytes).with_context(|| path.display().to_string())
}

/// The keypoints of crops, by the code that the browser runs: (presence, points) a crop.
fn detect(weights: &Weights, crops: Vec<Vec<f32>>) -> Result<Vec<(f32, Vec<[f32; 2]>)>> {
    let n = crops.len().div_ceil(rayon::current_num_threads()).max(1);
    let parts: Vec<Result<Vec<_>>> = crops
        .par_chunks(n)
        .map(|crops| {
            let mut detector = Detector::new(weights)?;
            let one = |crop: &Vec<f32>| {
                let row = detector.detect_grey(crop)?;
                Ok((row[0], row[1..].chunks_exact(3).map(|k| [k[0], k[1]]).collect()))
            };
            crops.iter().map(one).collect()
        })
        .collect();
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

fn eval(args: EvalArgs) -> Result<()> {
    let weights = load_weights(&args.weights)?;
    let data = args.data.load()?;
    if data.schema.keypoints != weights.meta.schema.keypoints {
        bail!(
            "{} predicts {:?}, {} has {:?}",
            args.weights.display(),
            weights.meta.schema.keypoints,
            args.data.data,
            data.schema.keypoints
        );
    }
    let seed = weights.meta.training["seed"].as_u64().unwrap_or(42);
    let faces: Vec<&Face> =
        data.split(args.split, seed).into_iter().map(|i| &data.faces[i]).filter(|f| f.is_face()).collect();
    let found = detect(&weights, faces.par_iter().map(|f| f.crop()).collect())?;
    let pairs = faces.iter().zip(&found).map(|(f, p)| (f.points.as_slice(), p.1.as_slice()));
    let score = Score::new(&data.schema, pairs.clone());
    if let Some(path) = &args.curve {
        write_atomically(path, report::cumulative_error(&score.each)?.as_bytes())?;
    }
    if let Some(path) = &args.worst {
        let mut order: Vec<usize> = (0..score.each.len().min(faces.len())).collect();
        order.sort_by(|a, b| score.each[*b].total_cmp(&score.each[*a]));
        let cells: Vec<_> = order
            .iter()
            .take(48)
            .map(|&i| (grey(&faces[i].crop()), faces[i].points.clone(), found[i].1.clone()))
            .collect();
        report::write_png(path, &report::sheet(&cells, 8, 2))?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&score)?);
        return Ok(());
    }
    println!("{:28} {:>7}", "keypoint", "NME %");
    for name in &data.schema.keypoints {
        println!("{name:28} {:7.2}", score.per_keypoint[name]);
    }
    println!(
        "{} faces: RMSE {:.3} px, NME {:.2} %, failures {:.2} %",
        score.n, score.rmse_px, score.nme_pct, score.failure_pct
    );
    let mut sources: Vec<&str> = faces.iter().map(|f| f.source.as_str()).collect();
    sources.sort_unstable();
    sources.dedup();
    for source in sources.iter().filter(|_| sources.len() > 1) {
        let of_source = pairs.clone().zip(&faces).filter(|(_, f)| f.source == *source).map(|(pair, _)| pair);
        let s = Score::new(&data.schema, of_source);
        println!(
            "{source:>12}: {} faces, RMSE {:.3} px, NME {:.2} %, failures {:.2} %",
            s.n, s.rmse_px, s.nme_pct, s.failure_pct
        );
    }
    Ok(())
}

fn grey(crop: &[f32]) -> face96::picture::Gray {
    let side = face96::nets::SIDE;
    face96::picture::Gray { width: side, height: side, pixels: crop.iter().map(|p| p.round() as u8).collect() }
}

/// Pictures without labels: a file, or all files of a folder that has no `labels.csv`.
fn plain_pictures(path: &Path, crop: bool) -> Result<Option<Vec<Face>>> {
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
        let (w, h) = (picture.width as f32, picture.height as f32);
        let size = if crop { w.max(h) } else { face96::nets::GUIDE_SHARE * w.min(h) };
        let square = face96::geometry::CropBox { x: (w - 1.) / 2., y: (h - 1.) / 2., size, roll: 0. };
        Ok(Face {
            name: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            source: String::new(),
            subject: String::new(),
            split: None,
            weight: 1.,
            picture,
            to_picture: square.crop_to_frame(face96::nets::SIDE),
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
    let weights = load_weights(&args.weights)?;
    let faces = match plain_pictures(Path::new(&args.data), args.crop)? {
        Some(faces) => faces,
        None => data::load(&args.data, Options::default())?.faces.into_iter().filter(|f| f.is_face()).collect(),
    };
    let found = detect(&weights, faces.par_iter().map(|f| f.crop()).collect())?;
    let points: Vec<Vec<[f32; 2]>> =
        faces.iter().zip(&found).map(|(f, (_, p))| p.iter().map(|p| f.to_picture.apply(*p)).collect()).collect();
    if let Some(path) = &args.csv {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let names = (0..weights.meta.schema.len()).flat_map(|i| [format!("x{i}"), format!("y{i}")]);
        writer.write_record(std::iter::once("file".to_string()).chain(names))?;
        for (face, points) in faces.iter().zip(&points) {
            let numbers = points.iter().flatten().map(|v| format!("{v:.4}"));
            writer.write_record(std::iter::once(face.name.clone()).chain(numbers))?;
        }
        write_atomically(path, &writer.into_inner()?)?;
    }
    if let Some(folder) = &args.draw {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        for (face, points) in faces.iter().zip(&points) {
            let labels: Vec<_> = face.points.iter().map(|p| face.to_picture.apply(*p)).collect();
            let zoom = (320 / face.picture.width.max(1)).clamp(1, 4);
            let name = face.name.replace(['/', ' '], "_");
            let path = folder.join(Path::new(&name).with_extension("png"));
            report::write_png(&path, &report::annotate(&face.picture, zoom, &labels, points))?;
        }
    }
    println!("{} faces", faces.len());
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
