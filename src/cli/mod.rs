//! The command line's arguments, and what each command does with them.

mod bench;
mod data;
mod draw;
mod eval;
mod files;
mod nets;
mod outputs;
mod plot;
mod predict;
mod run;
mod serve;
mod submission;
mod train;
mod tutorial;

use anyhow::{bail, Context, Result};
use clap::{Args, CommandFactory, Parser, Subcommand};
use face96::data::{Dataset, Face, Options, Split};
use face96::schema::Schema;
use face96::train::{report, Config};
use face96::weights::{Calibration, Precision, Weights};
use files::{guard, print, say, write_output};
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Finds facial keypoints: trains the net, evaluates it, serves the page.
#[derive(Parser)]
#[command(name = "face96", version, long_version = long_version(), after_help = STATUS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const STATUS: &str = "\
Exit status: 0 done; 1 predict is done, but some pictures were bad; 2 a fault, told in one sentence; 130 or 143 a run was stopped by \
Ctrl-C or SIGTERM, its files whole.";

/// The version, the features built in, and what the kernels can use on this machine.
fn long_version() -> &'static str {
    static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let features = [
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("mkl", cfg!(feature = "mkl")),
        ("accelerate", cfg!(feature = "accelerate")),
    ];
    let features = std::iter::once("native").chain(features.into_iter().filter(|f| f.1).map(|f| f.0));
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("AVX-512", std::is_x86_feature_detected!("avx512f")),
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("FMA", std::is_x86_feature_detected!("fma")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let found = [("NEON", cfg!(target_arch = "aarch64"))];
    let found: Vec<&str> = found.into_iter().filter(|f| f.1).map(|f| f.0).collect();
    let kernels = if found.is_empty() { "plain".to_string() } else { found.join(", ") };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let features = features.collect::<Vec<_>>().join(", ");
    let threads = count(threads, "thread");
    TEXT.get_or_init(|| format!("{}\nfeatures: {features}\nkernels: {kernels}; {threads}", env!("CARGO_PKG_VERSION")))
}

#[derive(Subcommand)]
enum Command {
    /// Train a net and write a run folder.
    Train(train::TrainArgs),
    /// Continue an interrupted run.
    Resume(train::ResumeArgs),
    /// Error of a net, or of specialists together, on labelled faces.
    Eval(eval::EvalArgs),
    /// Keypoints of pictures, as CSV and drawn.
    Predict(predict::PredictArgs),
    /// What labelled data contains and what looks wrong in it; also writes it in another format
    Data(data::DataCommand),
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
    /// Completions for a shell, to standard output: face96 completions bash > /etc/bash_completion.d/face96
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man {
        /// Folder for the pages, one per command
        #[arg(long, default_value = "man")]
        out: PathBuf,
    },
}

fn man(out: &Path) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    clap_mangen::generate_to(Cli::command(), out).with_context(|| out.display().to_string())?;
    say(out.display())?;
    Ok(())
}

fn completions(shell: clap_complete::Shell) -> Result<()> {
    // In memory first, so that a pipe that closes early does not panic.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "face96", &mut text);
    print(String::from_utf8_lossy(&text))
}

/// Where labelled faces come from.
#[derive(Args, Clone)]
struct DataArgs {
    /// Kaggle's training.csv, a CSV of file,NAME_x,NAME_y,..., a folder with labels.csv, a folder of such folders, a folder of
    /// pictures with .pts files, the file or folder of a label tool (COCO, CVAT, LabelMe, Label Studio, WFLW, Ultralytics pose, dlib),
    /// or synthetic[:COUNT] [default: synthetic]
    #[arg(long)]
    data: Option<String>,
    /// Leave out rows with a missing keypoint, as the tutorial did
    #[arg(long)]
    complete_rows: bool,
    /// Leave out bad rows and report how many, instead of stopping at the first
    #[arg(long)]
    skip_bad_rows: bool,
    /// Take iBUG's 68 points, from .pts files or a p68.csv beside labels.csv, instead of Kaggle's 15
    #[arg(long)]
    all_68: bool,
    /// Keypoints that trade places in a mirror image, if their names do not show it
    #[arg(long, value_name = "LEFT=RIGHT", value_delimiter = ',')]
    pairs: Vec<String>,
}

impl DataArgs {
    /// Writes the given arguments into a run's settings.
    fn apply_to(&self, config: &mut Config) {
        if let Some(data) = &self.data {
            config.data = data.clone();
        }
        config.complete_rows |= self.complete_rows;
        config.skip_bad_rows |= self.skip_bad_rows;
        config.all_68 |= self.all_68;
        if !self.pairs.is_empty() {
            config.pairs.clone_from(&self.pairs);
        }
    }

    /// Loads the data as a preset needs it: the finder takes whole pictures.
    fn load_for(&self, preset: &str) -> Result<Dataset> {
        let mut config = Config::preset(preset)?;
        self.apply_to(&mut config);
        train::load_data(&config)
    }
}

#[derive(Args)]
struct ExportArgs {
    /// Run folder; its best epoch is exported
    #[arg(long, required_unless_present = "weights", conflicts_with = "weights")]
    run: Option<PathBuf>,
    /// Weights file, instead of a run folder
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Weights file to write
    #[arg(long, required_unless_present = "onnx")]
    out: Option<PathBuf>,
    /// How its numbers are stored: f32, f16, int8 with one scale per output channel, or int6, which is int8 of fewer steps and so compresses
    /// better
    #[arg(long, default_value = "f16", value_parser = precision)]
    precision: Precision,
    /// Labelled faces, as for train; confidences are calibrated on their validation people
    #[arg(long)]
    calibrate: Option<String>,
    /// ONNX file to write: `input` (batch, 1, 96, 96) to `keypoints` (batch, K, 2) in pixels
    #[arg(long)]
    onnx: Option<PathBuf>,
    /// Print JSON only
    #[arg(long)]
    json: bool,
}

/// Runs the command line. The status is 0, 1 if some of the pictures were bad, 130 or 143 if a signal stopped a run.
///
/// # Errors
/// Everything that ends with status 2.
pub fn main() -> Result<ExitCode> {
    let done = |result: Result<()>| result.map(|()| ExitCode::SUCCESS);
    match Cli::parse().command {
        Command::Train(args) => train::train(args),
        Command::Resume(args) => train::resume(args),
        Command::Eval(args) => done(eval::eval(args)),
        Command::Predict(args) => predict::predict(args),
        Command::Plot(args) => done(plot::plot(args)),
        Command::Submission(args) => done(submission::submission(args)),
        Command::Export(args) => done(export(args)),
        Command::Bench(args) => done(bench::bench(args)),
        Command::Tutorial(args) => tutorial::tutorial(args),
        Command::Serve(args) => done(serve::serve(args)),
        Command::Data(args) => done(data::data(args)),
        Command::Completions { shell } => done(completions(shell)),
        Command::Man { out } => done(man(&out)),
    }
}

fn grey(crop: &[f32]) -> face96::picture::Gray {
    let side = face96::nets::SIDE;
    face96::picture::Gray { width: side, height: side, pixels: crop.iter().map(|p| p.round() as u8).collect() }
}

/// `1 face`, `2 faces`.
fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn export(args: ExportArgs) -> Result<()> {
    let outputs = [&args.out, &args.onnx].into_iter().flatten();
    guard(outputs.clone(), args.run.iter().flat_map(|run| files::of_run(run)).chain(args.weights.clone()))?;
    let mut weights = match (&args.weights, &args.run) {
        (Some(path), _) => Weights::read(path)?,
        (None, Some(run)) => train::best_weights(run)?,
        (None, None) => bail!("nothing to export: give --run FOLDER or --weights FILE"),
    };
    if let Some(path) = &args.calibrate {
        let all_68 = weights.meta.schema.is_ibug();
        let data = face96::data::load(path, Options { all_68, ..Default::default() })?;
        guard(outputs, &data.files)?;
        let seed = weights.meta.training["seed"].as_u64().unwrap_or(42);
        let faces: Vec<&Face> = data.split(Split::Val, seed).into_iter().map(|i| &data.faces[i]).collect();
        weights.meta.calibration = Some(calibration(&mut weights, &data.schema, faces)?);
    }
    let mut files = Vec::new();
    if let Some(path) = &args.out {
        files.push((path, weights.to_bytes(args.precision)?));
    }
    if let Some(path) = &args.onnx {
        files.push((path, face96::onnx::to_bytes(&weights)?));
    }
    for (path, bytes) in &files {
        write_output(path, bytes)?;
    }
    // One of the files may be standard output.
    if files.iter().any(|(path, _)| *path == Path::new("-")) {
        return Ok(());
    }
    if args.json {
        let files: Vec<_> =
            files.iter().map(|(path, bytes)| serde_json::json!({ "path": path, "bytes": bytes.len() })).collect();
        say(serde_json::json!({ "files": files, "calibration": weights.meta.calibration }))?;
    } else {
        files.iter().try_for_each(|(path, bytes)| say(format!("{}: {} bytes", path.display(), bytes.len())))?;
    }
    Ok(())
}

/// Number of parts of the people by which a calibration is judged, each by a fit to the others.
const FOLDS: usize = 5;

/// Fits the calibration that turns a net's confidences into probabilities on these faces: on hand-labelled ones, if there are
/// any, because a net repeats the mistakes of the model that labelled the others. Prints its error on people that it was not
/// fitted on.
fn calibration(weights: &mut Weights, schema: &Schema, mut faces: Vec<&Face>) -> Result<Calibration> {
    faces.retain(|f| f.is_face());
    if faces.iter().any(|f| !f.by_model) {
        faces.retain(|f| !f.by_model);
    }
    weights.meta.calibration = None;
    let nets = nets::Nets::new(vec![weights.clone()])?;
    let subjects: BTreeSet<&str> = faces.iter().map(|f| f.subject.as_str()).collect();
    let fold = |of: usize| {
        let subjects: BTreeSet<&str> = subjects.iter().skip(of).step_by(FOLDS).copied().collect();
        let faces: Vec<&Face> = faces.iter().copied().filter(|f| subjects.contains(f.subject.as_str())).collect();
        let found = nets.detect(&faces.par_iter().map(|f| f.crop()).collect::<Vec<_>>())?;
        nets.confidences(schema, &faces, &found)
    };
    let folds = (0..FOLDS).map(fold).collect::<Result<Vec<_>>>()?;
    let all = report::calibrate(&folds.concat()).context("this net says nothing of its keypoints")?;
    let mut unseen = Vec::new();
    for (i, said) in folds.iter().enumerate() {
        let others =
            folds.iter().enumerate().filter(|(other, _)| *other != i).flat_map(|(_, said)| said.iter().copied());
        let Some(calibration) = report::calibrate(&others.collect::<Vec<_>>()) else { continue };
        unseen.extend(said.iter().map(|(c, right)| (calibration.of(*c), *right)));
    }
    say(format!(
        "calibrated on {} of {}: said and right confidence differ by {:.3} on average, on people that it was not fitted on",
        count(folds.concat().len(), "keypoint"),
        count(faces.len(), "face"),
        report::confidence_gap(&unseen),
    ))?;
    Ok(all)
}

fn precision(name: &str) -> std::result::Result<Precision, String> {
    match name {
        "f32" => Ok(Precision::F32),
        "f16" => Ok(Precision::F16),
        "int8" => Ok(Precision::I8),
        "int6" => Ok(Precision::I6),
        other => Err(format!("expected f32, f16, int8 or int6, found '{other}'")),
    }
}
