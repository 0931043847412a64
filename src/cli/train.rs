//! `train`, `resume`, `export` and `bench`: run folders and what is shown while a run goes on.

use super::{grey, DataArgs};
use anyhow::{bail, Context, Result};
use clap::Args;
use face96::data::{Dataset, Face, Split};
use face96::train::checkpoint::{write_atomically, State};
use face96::train::{self, report, Config, Epoch, Progress};
use face96::weights::Precision;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    data: DataArgs,
    /// net1 to net7 of the tutorial, or compact
    #[arg(long, default_value = "compact")]
    preset: String,
    /// Run folder
    #[arg(long, default_value = "runs/latest")]
    out: PathBuf,
    /// TOML file with settings as a run's config.toml has them
    #[arg(long)]
    config: Option<PathBuf>,
    /// Passes over the data
    #[arg(long)]
    epochs: Option<usize>,
    /// Samples of a step
    #[arg(long)]
    batch: Option<usize>,
    /// Learning rate: highest (compact) or first (net1 to net7)
    #[arg(long)]
    lr: Option<f32>,
    /// Seed of weights, order and augmentation
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Args)]
pub(super) struct ResumeArgs {
    /// Run folder
    #[arg(long, default_value = "runs/latest")]
    run: PathBuf,
}

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Progress on a terminal as a bar, otherwise a line an epoch.
struct Shown(ProgressBar);

impl Shown {
    fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        let style = "epoch {prefix} [{bar:30}] {pos}/{len} {msg} {eta} left in this epoch";
        bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }
}

impl Progress for Shown {
    fn step(&self, epoch: usize, done: usize, of: usize, loss: f64, rate: f64) {
        if done == 1 {
            self.0.set_length(of as u64);
            self.0.set_prefix((epoch + 1).to_string());
            self.0.reset();
        }
        self.0.set_position(done as u64);
        self.0.set_message(format!("loss {loss:.5} {rate:.0} samples/s"));
    }

    fn epoch(&self, e: &Epoch, best: bool) {
        let line = format!(
            "epoch {:4}  train {:.6}  valid RMSE {:.3} px  NME {:.2} %  {:.0} samples/s{}",
            e.epoch,
            e.train_loss,
            e.valid_rmse_px,
            e.valid_nme_pct,
            e.samples_per_second,
            if best { "  best" } else { "" }
        );
        if self.0.is_hidden() {
            println!("{line}");
        } else {
            self.0.println(line);
        }
    }

    fn stopped(&self) -> bool {
        STOPPED.load(Ordering::Relaxed)
    }
}

pub(super) fn train(args: TrainArgs) -> Result<()> {
    let mut config = match &args.config {
        None => Config::preset(&args.preset)?,
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            toml::from_str(&text).with_context(|| path.display().to_string())?
        }
    };
    config.data = args.data.data.clone();
    config.complete_rows = args.data.complete_rows;
    config.epochs = args.epochs.unwrap_or(config.epochs);
    config.batch = args.batch.unwrap_or(config.batch);
    config.seed = args.seed.unwrap_or(config.seed);
    if let Some(rate) = args.lr {
        match &mut config.optimizer {
            train::optim::Optimizer::Nesterov { lr, .. } => lr[0] = rate,
            train::optim::Optimizer::AdamW { lr, .. } => *lr = rate,
        }
    }
    if config.batch == 0 || config.epochs == 0 {
        bail!("expected at least one epoch and one sample a batch, found {} and {}", config.epochs, config.batch);
    }
    let data = args.data.load()?;
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let _lock = lock(&args.out)?;
    if args.out.join("last.ckpt").exists() {
        bail!("{} already holds a run: go on with it by 'face96 resume', or choose another --out", args.out.display());
    }
    write_atomically(&args.out.join("config.toml"), toml::to_string(&config)?.as_bytes())?;
    let state = State::new(&config, data.schema.len())?;
    go(&args.out, &config, &data, state)
}

/// Holds a run folder as long as it lives.
fn lock(run: &Path) -> Result<std::fs::File> {
    let path = run.join("lock");
    let file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => bail!("{} is in use by another face96", run.display()),
    }
}

fn load_config(run: &Path) -> Result<Config> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

pub(super) fn resume(args: ResumeArgs) -> Result<()> {
    let config = load_config(&args.run)?;
    let _lock = lock(&args.run)?;
    let data =
        DataArgs { data: config.data.clone(), complete_rows: config.complete_rows, skip_bad_rows: false }.load()?;
    let last = args.run.join("last.ckpt");
    let state = if last.exists() {
        State::load(&last, &config, data.schema.len())?
    } else {
        State::new(&config, data.schema.len())?
    };
    println!("going on after epoch {} of {}", state.history.len(), config.epochs);
    go(&args.run, &config, &data, state)
}

fn go(run: &Path, config: &Config, data: &Dataset, mut state: State) -> Result<()> {
    ctrlc::set_handler(|| STOPPED.store(true, Ordering::Relaxed))?;
    let valid = data.split(Split::Val, config.seed);
    println!(
        "{}: {} faces and negatives to train on, {} to validate, {} keypoints; {} epochs of {}",
        config.data,
        data.split(Split::Train, config.seed).len(),
        valid.len(),
        data.schema.len(),
        config.epochs,
        config.preset
    );
    let shown_faces: Vec<&Face> = valid.iter().map(|i| &data.faces[*i]).filter(|f| f.is_face()).collect();
    let shown_faces: Vec<&Face> = shown_faces.iter().step_by(shown_faces.len().div_ceil(32).max(1)).copied().collect();
    let mean_shape = data.mean_shape(&data.split(Split::Train, config.seed));
    let finished = train::run(config, data, &mut state, &Shown::new(), |state, best| {
        let path = |name: &str| run.join(name);
        state.save(&path("last.ckpt"))?;
        let mut csv = String::from("epoch,train_loss,valid_rmse_px,valid_nme_pct,learning_rate,samples_per_second\n");
        for e in &state.history {
            let rate = e.samples_per_second;
            let figures = format!("{},{},{}", e.train_loss, e.valid_rmse_px, e.valid_nme_pct);
            csv += &format!("{},{figures},{},{rate:.1}\n", e.epoch, e.learning_rate);
        }
        write_atomically(&path("metrics.csv"), csv.as_bytes())?;
        write_atomically(&path("curves.svg"), report::curves(&state.history)?.as_bytes())?;
        if best {
            state.save(&path("best.ckpt"))?;
            let weights = train::export(config, &source_name(&config.data), &data.schema, mean_shape.clone(), state)?;
            write_atomically(&path("best.safetensors"), &weights.to_bytes(Precision::F16)?)?;
            let model = state.averaged(config.average)?;
            let found = train::predict(&model, config.normalisation, &shown_faces)?;
            let cells: Vec<_> =
                shown_faces.iter().zip(found).map(|(f, p)| (grey(&f.crop()), f.points.clone(), p)).collect();
            report::write_png(&path("samples.png"), &report::sheet(&cells, 8, 2))?;
        }
        Ok(())
    })?;
    if !finished {
        println!("stopped after epoch {}; 'face96 resume --run {}' goes on", state.history.len(), run.display());
    }
    Ok(())
}

/// The data's name without the folders it lies in, which say nothing to whoever gets the weights.
fn source_name(data: &str) -> String {
    Path::new(data).file_name().map_or(data.to_string(), |n| n.to_string_lossy().into_owned())
}

pub(super) fn export(run: &Path, out: &Path, precision: Precision) -> Result<()> {
    let config = load_config(run)?;
    // The schema is in the weights file of the best epoch; the checkpoint has the full precision.
    let meta = super::load_weights(&run.join("best.safetensors"))?.meta;
    let schema = meta.schema;
    let state = State::load(&run.join("best.ckpt"), &config, schema.len())?;
    let weights = train::export(&config, &source_name(&config.data), &schema, meta.mean_shape, &state)?;
    let bytes = weights.to_bytes(precision)?;
    write_atomically(out, &bytes)?;
    println!("{}: {} bytes, epoch {}", out.display(), bytes.len(), state.history.len());
    Ok(())
}

/// Samples a second of training, and milliseconds of a forward pass by the browser's code on one thread.
pub(super) fn bench(nets: &[String], seconds: f64) -> Result<()> {
    use candle_core::{Device, Tensor};
    use rand::SeedableRng;
    println!("{:10} {:>16} {:>22}", "net", "train samples/s", "forward ms (1 thread)");
    for name in nets {
        let config = Config::preset(name)?;
        let mut state = State::new(&config, 15)?;
        let side = face96::nets::SIDE;
        let pictures = Tensor::ones((config.batch, side, side, 1), candle_core::DType::F32, &Device::Cpu)?;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut rates = Vec::new();
        let start = std::time::Instant::now();
        while start.elapsed().as_secs_f64() < seconds || rates.len() < 3 {
            let step = std::time::Instant::now();
            let output = state.model.forward(&pictures, Some(&mut rng))?;
            let gradients = output.keypoints.sqr()?.mean_all()?.backward()?;
            for (v, (p, var)) in state.model.vars.iter().enumerate().filter(|(_, (p, _))| p.trained) {
                let g = gradients.get(var.as_tensor());
                if let Some(g) = g {
                    config.optimizer.update(var, g, &mut state.moments[v], 1, 0.5).with_context(|| p.name.clone())?;
                }
            }
            rates.push(config.batch as f64 / step.elapsed().as_secs_f64());
        }
        let schema = face96::schema::Schema::kaggle();
        let weights = train::export(&config, "bench", &schema, None, &state)?;
        let mut detector = face96::infer::Detector::new(&weights)?;
        let crop: Vec<f32> = (0..side * side).map(|i| (i % 251) as f32).collect();
        let mut times = Vec::new();
        let start = std::time::Instant::now();
        while start.elapsed().as_secs_f64() < seconds || times.len() < 3 {
            let one = std::time::Instant::now();
            detector.detect_grey(&crop)?;
            times.push(one.elapsed().as_secs_f64() * 1e3);
        }
        println!("{name:10} {:16.1} {:22.2}", median(&mut rates), median(&mut times));
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
