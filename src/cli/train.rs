//! `train` and `resume`: run folders and their progress.

use super::files::{print, say};
use super::run::{catch_interrupt, interrupted, Keeper, Tell, TrainingProgress};
use super::DataArgs;
use anyhow::{bail, Context, Result};
use clap::Args;
use face96::data::{Dataset, Face, Split};
use face96::schema::Schema;
use face96::train::checkpoint::{write_atomically, State};
use face96::train::optim::Optimizer;
use face96::train::{self, report, Config, Device, End};
use face96::weights::Weights;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// The sources of a run's settings: a preset, a file, and the command line.
#[derive(Args)]
pub(super) struct SettingArgs {
    /// net1 to net7 of the tutorial, compact, or finder [default: the file's, or compact]
    #[arg(long)]
    preset: Option<String>,
    /// TOML file with any of the settings in a run's config.toml
    #[arg(long)]
    pub(super) config: Option<PathBuf>,
    /// Change one setting: augment.flip=0, optimizer.momentum=[0.9,0.99], ...; the keys are those of a run's config.toml
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Maximal number of passes over the data
    #[arg(long)]
    epochs: Option<usize>,
    /// Samples per step
    #[arg(long)]
    batch: Option<usize>,
    /// Learning rate: highest (compact), or FIRST,LAST (net1 to net7; one number if it does not change)
    #[arg(long, value_delimiter = ',')]
    lr: Vec<f32>,
    /// Momentum: FIRST,LAST (net1 to net7; one number if it does not change)
    #[arg(long, value_delimiter = ',')]
    momentum: Vec<f32>,
    /// Seed of weights, order and augmentation
    #[arg(long)]
    seed: Option<u64>,
    /// End after this many epochs without improvement; the weights of the best epoch are kept in any case
    #[arg(long, value_name = "EPOCHS")]
    early_stopping: Option<usize>,
    /// Start no further epoch after this many minutes
    #[arg(long)]
    minutes: Option<f64>,
    /// Start no further epoch after this many seconds
    #[arg(long, conflicts_with = "minutes")]
    seconds: Option<f64>,
    /// Start from the weights in this file that match by name and shape
    #[arg(long, value_name = "WEIGHTS")]
    init: Option<PathBuf>,
    /// Train specialists, one net per group of keypoints: the tutorial's groups for Kaggle's points, otherwise each pair and
    /// each single point
    #[arg(long)]
    specialists: bool,
    /// Train a specialist for these keypoints (may be given several times)
    #[arg(long, value_name = "NAME=KEYPOINT,KEYPOINT,...")]
    group: Vec<String>,
}

impl SettingArgs {
    /// Whether the command line or the file sets the batch size.
    fn chooses_batch(&self) -> Result<bool> {
        let given = |key: &str| ["batch", "repeats"].contains(&key.trim());
        let table = |path: &PathBuf| -> Result<toml::Table> {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            text.parse().with_context(|| path.display().to_string())
        };
        let in_file = self.config.as_ref().map(table).transpose()?.is_some_and(|t| t.keys().any(|key| given(key)));
        Ok(self.batch.is_some() || in_file || self.set.iter().any(|s| s.split('=').next().is_some_and(given)))
    }

    /// All settings except those of the data.
    pub(super) fn resolve(&self) -> Result<Config> {
        let text = match &self.config {
            None => None,
            Some(path) => Some(std::fs::read_to_string(path).with_context(|| path.display().to_string())?),
        };
        let specialists = self.specialists || !self.group.is_empty();
        let resolved = Config::resolve(self.preset.as_deref(), specialists, text.as_deref(), &self.set);
        let mut config = match &self.config {
            None => resolved?,
            Some(path) => resolved.with_context(|| path.display().to_string())?,
        };
        config.epochs = self.epochs.unwrap_or(config.epochs);
        config.batch = self.batch.unwrap_or(config.batch);
        config.seed = self.seed.unwrap_or(config.seed);
        config.patience = self.early_stopping.unwrap_or(config.patience);
        config.seconds = self.minutes.map(|m| 60. * m).or(self.seconds).unwrap_or(config.seconds);
        if let Some(path) = &self.init {
            config.init = path.display().to_string();
        }
        match &mut config.optimizer {
            Optimizer::Nesterov { lr, momentum } => {
                first_and_last("--lr", &self.lr, lr)?;
                first_and_last("--momentum", &self.momentum, momentum)?;
            }
            Optimizer::AdamW { lr, .. } | Optimizer::Muon { lr, .. } => {
                match self.lr[..] {
                    [] => {}
                    [rate] => *lr = rate,
                    _ => bail!("--lr: expected one number, the highest rate"),
                }
                if !self.momentum.is_empty() {
                    bail!("--momentum: the optimizer of '{}' has none", config.preset);
                }
            }
        }
        for group in &self.group {
            let named = group.split_once('=').filter(|(name, _)| !name.trim().is_empty());
            let (name, keypoints) =
                named.with_context(|| format!("--group '{group}': expected NAME=KEYPOINT,KEYPOINT,..."))?;
            let keypoints = keypoints.split(',').map(|k| k.trim().to_string()).filter(|k| !k.is_empty()).collect();
            config.groups.insert(name.trim().into(), keypoints);
        }
        config.check_numbers()?;
        Ok(config)
    }
}

fn first_and_last(flag: &str, given: &[f32], value: &mut [f32; 2]) -> Result<()> {
    match *given {
        [] => {}
        [one] if value[0] == value[1] => *value = [one, one],
        [first, last] => *value = [first, last],
        _ => bail!("{flag}: expected FIRST,LAST, found {given:?}"),
    }
    Ok(())
}

#[derive(Args)]
pub(super) struct TrainArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    settings: SettingArgs,
    /// Run folder
    #[arg(long, default_value = "runs/latest")]
    out: PathBuf,
    /// Where to compute the steps: cpu (face96's own kernels), candle (candle's ops on the CPU), cuda or metal, also numbered as in
    /// cuda:1, if built with the feature of that name [default: cpu]
    #[arg(long)]
    device: Option<String>,
    /// Print JSON only: one line per epoch, and one at the run's end
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct ResumeArgs {
    /// Run folder
    #[arg(long, default_value = "runs/latest")]
    run: PathBuf,
    /// The run's data, if it has moved; it is recognised by its content
    #[arg(long)]
    data: Option<String>,
    /// Another time limit, in minutes over the whole run
    #[arg(long)]
    minutes: Option<f64>,
    /// Another device, see `train`
    #[arg(long)]
    device: Option<String>,
    /// Print JSON only: one line per epoch, and one at the run's end
    #[arg(long)]
    json: bool,
}

pub(super) fn train(args: TrainArgs) -> Result<ExitCode> {
    let mut config = args.settings.resolve()?;
    let tell = Tell::json(args.json);
    args.data.apply_to(&mut config);
    if config.data == Config::preset("compact")?.data && args.data.data.is_none() {
        tell.say("no --data given: training on faces that this program draws itself");
    }
    config.data = absolute(&config.data);
    config.device = args.device.unwrap_or(config.device);
    config.device.parse::<Device>()?;
    let data = load_data(&config)?;
    config.content = data.content();
    mirror(&mut config, &data);
    let faces = data.split(Split::Train, config.seed).len();
    if !args.settings.chooses_batch()? && config.suit(faces) {
        let Config { batch, repeats, .. } = config;
        let times = if repeats > 1 { format!(" each {repeats} times an epoch,") } else { String::new() };
        let init = if config.init.is_empty() {
            "; --init WEIGHTS, a net that is trained already, takes fewer epochs"
        } else {
            ""
        };
        tell.say(&format!(
            "few faces, so{times} in batches of {batch} instead of {}{init}",
            Config::preset(&config.preset)?.batch
        ));
    }
    if args.settings.specialists && config.groups.is_empty() {
        config.groups = data.schema.groups().into_iter().collect();
    }
    check(&config, &data)?;
    // Also reports what does not fit, before anything is written.
    let parts = parts(&args.out, &config, &data)?;
    for part in &parts {
        train::splits(&part.config, part.data.as_ref().unwrap_or(&data))?;
        State::new(&part.config, part.data.as_ref().unwrap_or(&data).schema.len())?;
    }
    std::fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let _lock = lock(&args.out)?;
    parts.iter().try_for_each(|part| keep_files(&part.run, &part.config))?;
    keep_settings(&args.out, &config, args.settings.config.as_deref())?;
    write_atomically(&args.out.join("config.toml"), config.to_toml()?.as_bytes())?;
    catch_interrupt()?;
    go_all(&args.out, &parts, &data, tell)
}

/// Fails if a folder holds a run, or files that a run would replace.
fn keep_files(run: &Path, config: &Config) -> Result<()> {
    // Links to what is not there count too; a folder in the way of a file is told when that is written.
    let there = |name: &str| run.join(name).symlink_metadata().is_ok_and(|meta| !meta.is_dir());
    if ["last.ckpt", "best.ckpt", "best.safetensors", "metrics.csv"].into_iter().any(there) {
        let differs = load_config(run).ok().and_then(|old| config.difference(&old));
        let how = differs.map_or(String::new(), |(key, new, old)| format!(" with {key} = {old}, not {new}"));
        bail!("{} already holds a run{how}: go on with it by 'face96 resume', or choose another --out", run.display());
    }
    // Without the files above, no run has made these.
    match ["samples.png", "curves.svg", "errors.svg"].into_iter().find(|name| there(name)) {
        Some(name) => bail!("{} is there and was not made by a run: choose another --out", run.join(name).display()),
        None => Ok(()),
    }
}

/// Fails if a folder's `config.toml` is more than what a run left that was killed before its first epoch.
fn keep_settings(run: &Path, config: &Config, read: Option<&Path>) -> Result<()> {
    let path = run.join("config.toml");
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(()) };
    if text == config.to_toml()? {
        return Ok(());
    }
    super::guard([&path], read)?;
    if load_config(run).ok().and_then(|old| old.to_toml().ok()).is_none_or(|own| own != text) {
        bail!("{} is there and was not written by a run: choose another --out", path.display());
    }
    Ok(())
}

/// The path made absolute, so that it means the same from every folder.
fn absolute(data: &str) -> String {
    let path = Path::new(data);
    match path.canonicalize() {
        Ok(whole) => whole.display().to_string(),
        _ => data.to_string(),
    }
}

/// Switches mirror images off if they would teach left for right, and says so.
pub(super) fn mirror(config: &mut Config, data: &Dataset) {
    if let Some(why) = data.no_mirror().filter(|_| config.augment.flip > 0.) {
        eprintln!("no mirror images: {why}; {PAIRS}");
        config.augment.flip = 0.;
    }
}

const PAIRS: &str = "--pairs LEFT=RIGHT,... says which keypoints trade places";

/// Describes which keypoints trade places in mirror images.
fn sides(config: &Config, schema: &Schema) -> String {
    let pairs: Vec<String> = schema.pairs().iter().map(|(a, b)| format!("{a}/{b}")).collect();
    if pairs.is_empty() {
        return match schema.no_mirror() {
            Some(why) => format!("no mirror pairs: {why}; {PAIRS}"),
            None => "no mirror pairs: all keypoints lie in the middle".into(),
        };
    }
    let more = if pairs.len() > 3 { format!(" and {} more", pairs.len() - 3) } else { String::new() };
    let used = if config.augment.flip > 0. { "" } else { " (no mirror images are used)" };
    format!("mirror pairs: {}{more}{used}", pairs[..pairs.len().min(3)].join(", "))
}

pub(super) fn load_data(config: &Config) -> Result<Dataset> {
    let mut data = face96::data::load(&config.data, config.options()?)?;
    if config.net.finds() {
        face96::data::scenes::add_drawn(&mut data)?;
    }
    data.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if !data.skipped.is_empty() {
        eprintln!("left out {}; the first: {}", super::count(data.skipped.len(), "bad row"), data.skipped[0]);
    }
    let data = if config.augment.moves() || config.net.finds() { data } else { data.crops() };
    if config.keypoints.is_empty() {
        return Ok(data);
    }
    data.group(&config.keypoints).with_context(|| config.data.clone())
}

fn check(config: &Config, data: &Dataset) -> Result<()> {
    if config.batch == 0 || (config.epochs == 0 && config.groups.is_empty()) {
        bail!("expected at least one epoch and one sample a batch, found {} and {}", config.epochs, config.batch);
    }
    for (name, weight) in &config.weights {
        let sources: std::collections::BTreeSet<&str> = data.faces.iter().map(|f| f.source.as_str()).collect();
        if !sources.contains(name.as_str()) {
            let sources: Vec<_> = sources.into_iter().collect();
            bail!("weights: no faces of '{name}' in the data, which has {}", sources.join(", "));
        }
        if !(weight.is_finite() && *weight >= 0.) {
            bail!("weights.{name}: expected a number of 0 or more, found {weight}");
        }
    }
    for (name, keypoints) in &config.groups {
        if name.starts_with('.') || name.contains(['/', '\\']) {
            bail!("group '{name}': expected a name that can be a folder's");
        }
        if keypoints.is_empty() {
            bail!("group '{name}' names no keypoint");
        }
        data.schema.find(keypoints).with_context(|| format!("group '{name}'"))?;
    }
    Ok(())
}

/// A run of all keypoints, or of one specialist.
struct Part {
    run: PathBuf,
    config: Config,
    data: Option<Dataset>,
}

/// The runs in a configuration: itself, or one per group in a folder of the group's name.
fn parts(run: &Path, config: &Config, data: &Dataset) -> Result<Vec<Part>> {
    if config.groups.is_empty() {
        let mut config = config.clone();
        config.net.reach_to(&data.reach(&data.split(Split::Train, config.seed)));
        return Ok(vec![Part { run: run.to_path_buf(), config, data: None }]);
    }
    let of_group = |(name, keypoints): (&String, &Vec<String>)| {
        let data = data.clone().group(keypoints).with_context(|| format!("group '{name}'"))?;
        let mut config = Config { keypoints: keypoints.clone(), groups: Default::default(), ..config.clone() };
        config.net.reach_to(&data.reach(&data.split(Split::Train, config.seed)));
        if config.epochs == 0 {
            config.epochs = train::specialist_epochs(data.faces.iter().filter(|f| f.is_face()).count());
        }
        Ok(Part { run: run.join(name), config, data: Some(data) })
    };
    config.groups.iter().map(of_group).collect()
}

/// Runs the unfinished parts, one after the other.
fn go_all(run: &Path, parts: &[Part], data: &Dataset, tell: Tell) -> Result<ExitCode> {
    let one = parts.len() == 1 && parts[0].run == run;
    for part in parts {
        let data = part.data.as_ref().unwrap_or(data);
        if !one {
            tell.say(&format!("specialist {}: {}", part.run.display(), part.config.keypoints.join(", ")));
        }
        if !go_on(&part.run, &part.config, data, tell)? {
            tell.say(&format!("'face96 resume --run {}' goes on", run.display()));
            return Ok(interrupted());
        }
    }
    if !one {
        tell.say("all specialists together:");
        let nets = super::nets::Nets::load(&[run.to_path_buf()])?;
        let seed = parts[0].config.seed;
        let faces: Vec<&Face> = data.split(Split::Val, seed).into_iter().map(|i| &data.faces[i]).collect();
        let evaluation = super::eval::evaluate(&nets, &data.schema, &faces)?;
        match tell {
            Tell::Sentences => print(evaluation.table())?,
            Tell::Json => say(serde_json::json!({ "run": run, "score": evaluation.score }))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts or continues a run; false if it was stopped before its end.
pub(super) fn go_on(run: &Path, config: &Config, data: &Dataset, tell: Tell) -> Result<bool> {
    let last = run.join("last.ckpt");
    // A link to what is not there is an error, too.
    let state = if last.is_symlink() || last.exists() {
        let state = State::load(&last, config, data.schema.len())?;
        tell.say(&format!("going on after epoch {} of {}", state.history.len(), config.epochs));
        state
    } else {
        keep_best(run)?;
        State::new(config, data.schema.len())?
    };
    std::fs::create_dir_all(run).with_context(|| run.display().to_string())?;
    write_atomically(&run.join("config.toml"), config.to_toml()?.as_bytes())?;
    go(run, config, data, state, tell)
}

/// Fails if a run that lacks its last checkpoint would begin anew over the weights of more than one epoch. Those of the first epoch alone
/// are what a run leaves that was killed while it wrote them, its last checkpoint last; it makes them again.
fn keep_best(run: &Path) -> Result<()> {
    let best = run.join("best.ckpt");
    let epochs = if best.is_file() { State::history(&best)?.len() } else { 0 };
    let metrics = std::fs::read_to_string(run.join("metrics.csv")).unwrap_or_default();
    let rows = metrics.lines().count().saturating_sub(1);
    let weights = run.join("best.safetensors").is_file();
    if epochs.max(rows) <= 1 && (epochs == 1 || !weights) {
        return Ok(());
    }
    bail!(
        "{}: expected the last checkpoint of the run, whose {} would be lost, found none; put it back, or copy best.ckpt to that \
         name to go on after the best epoch",
        run.join("last.ckpt").display(),
        super::count(epochs.max(rows).max(1), "epoch")
    )
}

/// Locks a run folder for the lifetime of the returned file.
pub(super) fn lock(run: &Path) -> Result<std::fs::File> {
    let path = run.join("lock");
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(|| path.display().to_string())?;
    if file.metadata().is_ok_and(|meta| meta.len() > 0) {
        bail!("{} is there and is no run's: choose another folder", path.display());
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => bail!("{} is in use by another face96", run.display()),
    }
}

pub(super) fn load_config(run: &Path) -> Result<Config> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Config::resolve(None, false, Some(&text), &[]).with_context(|| path.display().to_string())
}

pub(super) fn resume(args: ResumeArgs) -> Result<ExitCode> {
    let mut config = load_config(&args.run)?;
    config.seconds = args.minutes.map_or(config.seconds, |m| 60. * m);
    config.check_numbers()?;
    config.device = args.device.unwrap_or(config.device);
    config.device.parse::<Device>()?;
    let moved = args.data.is_some();
    config.data = args.data.as_deref().map_or(config.data.clone(), absolute);
    let _lock = lock(&args.run)?;
    let data = load_data(&config).with_context(|| {
        let hint = if moved { "" } else { "; --data says where the data lies now" };
        format!("{}: the run's data cannot be read{hint}", args.run.display())
    })?;
    if let Some(what) = config.content.difference(&data.content()) {
        bail!("{}: not the data that {} was trained on: {what}", config.data, args.run.display());
    }
    let parts = parts(&args.run, &config, &data)?;
    if moved {
        // So that the next call finds it there; specialists' runs have settings of their own.
        write_atomically(&args.run.join("config.toml"), config.to_toml()?.as_bytes())?;
    }
    catch_interrupt()?;
    go_all(&args.run, &parts, &data, Tell::json(args.json))
}

/// `12 faces`, or `12 faces and 3 pictures without one`.
fn faces_and_negatives(data: &Dataset, indices: &[usize]) -> String {
    let faces = indices.iter().filter(|i| data.faces[**i].is_face()).count();
    let others = indices.len() - faces;
    let faces = super::count(faces, "face");
    if others > 0 {
        format!("{faces} and {} without one", super::count(others, "picture"))
    } else {
        faces
    }
}

/// Trains to the end and keeps the run folder up to date; false if it was stopped before.
fn go(run: &Path, config: &Config, data: &Dataset, mut state: State, tell: Tell) -> Result<bool> {
    let valid = data.split(Split::Val, config.seed);
    let training = data.split(Split::Train, config.seed);
    tell.say(&format!(
        "{}: {} to train on, {} to validate, {}; at most {} of {}",
        config.data,
        faces_and_negatives(data, &training),
        valid.len(),
        super::count(data.schema.len(), "keypoint"),
        super::count(config.epochs, "epoch"),
        config.preset
    ));
    tell.say(&sides(config, &data.schema));
    let faces: Vec<&Face> = valid.iter().map(|i| &data.faces[*i]).filter(|f| f.is_face()).collect();
    let mut keeper = Keeper {
        run,
        config,
        schema: &data.schema,
        mean_shape: data.mean_shape(&training),
        sample: faces.iter().step_by(faces.len().div_ceil(32).max(1)).copied().collect(),
        events: None,
        told: state.history.len(),
        last: None,
        best: None,
        written: None,
        took: Duration::ZERO,
    };
    let shown = TrainingProgress::new(config, &state.history, tell);
    let ended = train::run(config, data, &mut state, &shown, |state, score, best| keeper.epoch(state, score, best));
    // Even if the run ends in an error, such as a loss that is not finite; that error takes precedence.
    let kept = keeper.finish();
    let finished = ended?;
    kept?;
    shown.bar.finish_and_clear();
    if !finished {
        tell.say(&format!("stopped after epoch {}", state.history.len()));
        return Ok(false);
    }
    let best = State::load(&run.join("best.ckpt"), config, data.schema.len())?;
    let why = match config.end(&state.history) {
        Some(End::Patience) => format!("no better epoch in {}; ", config.patience),
        Some(End::Time) => format!("{:.0} s are over; ", config.seconds),
        _ => String::new(),
    };
    tell.say(&format!(
        "{why}the weights are those of epoch {}, the best of {}",
        best.history.len(),
        state.history.len()
    ));
    let score = train::validate(&best.averaged(config.average)?.inference()?, config, data, &valid)?;
    match tell {
        Tell::Sentences => print(report::table(&data.schema.keypoints.iter().collect::<Vec<_>>(), &score))?,
        Tell::Json => say(format!(
            "{}",
            serde_json::json!({ "run": run, "best_epoch": best.history.len(), "epochs": state.history.len(), "score": score })
        ))?,
    }
    Ok(true)
}

/// The data's name without its folders, which mean nothing to a recipient of the weights.
pub(super) fn source_name(data: &str) -> String {
    Path::new(data).file_name().map_or(data.to_string(), |n| n.to_string_lossy().into_owned())
}

/// The weights of a run's best epoch, in full precision.
pub(super) fn best_weights(run: &Path) -> Result<Weights> {
    let config = load_config(run)?;
    // The schema is in the weights file of the best epoch; the checkpoint has the full precision.
    let meta = Weights::read(&run.join("best.safetensors"))?.meta;
    let schema = meta.schema;
    let state = State::load(&run.join("best.ckpt"), &config, schema.len())?;
    Ok(train::export(&config, &source_name(&config.data), &schema, meta.mean_shape, &state)?)
}
